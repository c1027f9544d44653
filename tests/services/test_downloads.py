"""What a GET or HEAD gets: the file, a slice of it, or the news that nothing changed (protocol, section 4)."""

import errno
import os
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from hmacfs.core import paths
from hmacfs.core.preconditions import Conditions
from hmacfs.core.retention import AgeRule
from hmacfs.core.retry import Schedule
from hmacfs.errors import NotFound, PreconditionFailed, RangeNotSatisfiable, ServerBusy, StorageBusy, StorageFailed
from hmacfs.offload import InlinePool
from hmacfs.services import gate
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.downloads import Download, DownloadRequest, DownloadRules, Downloads
from hmacfs.services.retrying import Retries
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import beneath, stored, storedir
from hmacfs.storage.base import Entity, Metadata
from hmacfs.storage.local import LocalStorage

CONTENT = b"0123456789"


class House:
    """The use case over a real store that holds a/b.png, with places for two transfers."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.admission = Admission(Limits(transfers=2), Scoreboard(), lambda: 0, lambda: 0.0)
        storedir.prepare(str(store))
        self.storage = LocalStorage(str(store), InlinePool(), durability="none", file_mode=0o640, dir_mode=0o750)
        self.slept: list[float] = []
        self.retries = Retries(Schedule(5, 2), lambda: 0.0, self.slept.append, lambda: 0.0)
        self.entity = self.put("a/b.png", CONTENT, "image/png")

    def put(self, path: str, content: bytes, content_type: str) -> Entity:
        staged = self.storage.stage(paths.parse(path.encode()))
        staged.write(memoryview(content))
        entity = staged.publish(Metadata(content_type))
        staged.discard()
        return entity

    def get(
        self,
        path: str = "a/b.png",
        *,
        header: str = "",
        head: bool = False,
        offload_from: int | None = None,
        **conditions: str,
    ) -> Download:
        asked = DownloadRequest(paths.parse(path.encode()), Conditions(**conditions), header, head, offload_from)
        return Downloads(self.storage, self.admission, self.retries).open(asked)

    def free_places(self) -> int:
        """How many more transfers may run now."""
        found = 0
        try:
            while True:
                self.admission.enter_download()
                found += 1
        except ServerBusy:
            for _ in range(found):
                self.admission.leave_download()
        return found

    def close(self) -> None:
        os.close(self.storage._root)
        os.close(self.storage.staging.fd)


@pytest.fixture(params=["read at once", "left open"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file is small, or every file is large."""
    monkeypatch.setattr(gate, "WAIT_SECONDS", 0.0)
    if request.param == "left open":
        monkeypatch.setattr(stored, "SMALL", 0)
    built = House(tmp_path / "store")
    yield built
    built.close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open_and_no_place_taken(house: House) -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert house.free_places() == 2


def body(download: Download) -> bytes:
    """What would be sent; the file is closed then."""
    if download.transfer is None:
        return download.content
    assert download.content == b""
    sent = download.transfer.stored.read(download.first, download.length)
    download.transfer.close()
    return sent


def holds(download: Download) -> object:
    """What there is to send: nothing, bytes or an open file."""
    return download.content or download.transfer


def test_a_get_gives_the_whole_file(house: House) -> None:
    download = house.get()

    assert (download.status, download.length, download.entity) == (200, 10, house.entity)
    assert download.content_type == "image/png"
    assert download.cache_control == "public, max-age=31536000, immutable"
    assert body(download) == CONTENT


def test_a_head_tells_the_length_and_holds_no_file(house: House) -> None:
    download = house.get(head=True)

    assert (download.status, download.length, holds(download)) == (200, 10, None)


def test_an_empty_file_has_a_length_of_zero_and_no_body(house: House) -> None:
    house.put("a/empty", b"", "text/plain")

    download = house.get("a/empty")

    assert (download.status, download.length, holds(download)) == (200, 0, None)


@pytest.mark.parametrize("path", ["a", "a/missing", "a/b.png/c", "missing"])
def test_what_is_no_file_is_not_found(house: House, path: str) -> None:
    with pytest.raises(NotFound):
        house.get(path)


@pytest.mark.parametrize(
    ("header", "expected"), [("bytes=2-4", b"234"), ("bytes=8-", b"89"), ("bytes=-3", b"789"), ("bytes=5-99", b"56789")]
)
def test_one_range_is_honoured(house: House, header: str, expected: bytes) -> None:
    download = house.get(header=header)

    assert (download.status, download.length) == (206, len(expected))
    assert body(download) == expected


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "rubbish", "bytes=5-2", "lines=1-2"])
def test_several_and_malformed_ranges_get_the_whole_file(house: House, header: str) -> None:
    download = house.get(header=header)

    assert download.status == 200
    assert body(download) == CONTENT


def test_a_range_behind_the_end_is_refused_with_the_size(house: House) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        house.get(header="bytes=10-")

    assert caught.value.size == 10


def test_a_range_means_nothing_to_a_head(house: House) -> None:
    for header in ("bytes=2-4", "bytes=10-"):
        download = house.get(header=header, head=True)
        assert (download.status, download.length) == (200, 10)


def test_an_if_range_of_this_file_keeps_the_range(house: House) -> None:
    by_tag = house.get(header="bytes=2-4", if_range=house.entity.etag)
    by_date = house.get(header="bytes=2-4", if_range=formatdate(house.entity.modified, usegmt=True))

    assert (body(by_tag), body(by_date)) == (b"234", b"234")


@pytest.mark.parametrize("value", ['"other"', "Sun, 06 Nov 1994 08:49:37 GMT", "rubbish"])
def test_an_if_range_of_another_file_gets_the_whole_file(house: House, value: str) -> None:
    for header in ("bytes=2-4", "bytes=10-"):
        download = house.get(header=header, if_range=value)
        assert download.status == 200
        assert body(download) == CONTENT


def test_a_file_that_the_client_has_is_not_sent_again(house: House) -> None:
    for head in (False, True):
        download = house.get(if_none_match=house.entity.etag, header="bytes=2-4", head=head)
        assert (download.status, holds(download), download.entity) == (304, None, house.entity)


def test_a_file_that_did_not_change_since_is_not_sent_again(house: House) -> None:
    since = formatdate(house.entity.modified, usegmt=True)

    assert house.get(if_modified_since=since).status == 304


def test_a_failed_condition_is_refused(house: House) -> None:
    for head in (False, True):
        with pytest.raises(PreconditionFailed):
            house.get(if_match='"other"', head=head)


def test_a_failed_condition_counts_before_the_range(house: House) -> None:
    with pytest.raises(PreconditionFailed):
        house.get(if_match='"other"', header="bytes=10-")


def test_a_missing_file_is_not_found_whatever_the_conditions(house: House) -> None:
    with pytest.raises(NotFound):
        house.get("a/missing", if_match="*", if_none_match="*")


@pytest.mark.parametrize(
    ("content_type", "disposition"),
    [
        ("image/png", None),
        ("text/plain; charset=utf-8", None),
        ("text/html", "attachment; filename=\"x.bin\"; filename*=UTF-8''x.bin"),
        ("image/svg+xml", "attachment; filename=\"x.bin\"; filename*=UTF-8''x.bin"),
        ("application/pdf", "attachment; filename=\"x.bin\"; filename*=UTF-8''x.bin"),
    ],
)
def test_only_passive_types_are_shown_inline(house: House, content_type: str, disposition: str | None) -> None:
    house.put("a/x.bin", CONTENT, content_type)

    download = house.get("a/x.bin")

    assert (download.content_type, download.disposition) == (content_type, disposition)
    body(download)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("old.jpg", "image/jpeg"), ("old.html", "text/html"), ("old", "application/octet-stream")],
)
def test_a_file_that_was_there_before_us_has_the_type_of_its_extension(
    house: House, name: str, content_type: str
) -> None:
    (house.store / "a" / name).write_bytes(b"old")

    download = house.get(f"a/{name}")

    assert download.content_type == content_type
    assert (download.disposition is None) == (content_type == "image/jpeg")
    assert body(download) == b"old"


def test_the_stored_type_counts_before_the_extension(house: House) -> None:
    house.put("a/omemo.jpg", CONTENT, "application/octet-stream")

    download = house.get("a/omemo.jpg")

    assert download.content_type == "application/octet-stream"
    body(download)


# --- places ---


def test_a_small_file_takes_no_place_and_a_large_one_holds_its_place_until_it_is_closed(house: House) -> None:
    download = house.get()

    assert house.free_places() == (2 if download.transfer is None else 1)
    body(download)
    assert house.free_places() == 2


def test_closing_twice_gives_one_place_back(house: House) -> None:
    first, second = house.get(), house.get()

    for download in (first, first, second):
        if download.transfer is not None:
            download.transfer.close()

    assert house.free_places() == 2


def test_a_large_file_without_a_place_is_refused_and_closed(house: House) -> None:
    house.admission.enter_download()
    house.admission.enter_download()

    if stored.SMALL:
        assert body(house.get()) == CONTENT
    else:
        with pytest.raises(ServerBusy) as caught:
            house.get()
        assert (caught.value.status, caught.value.retry_after) == (503, 5)
    house.admission.leave_download()
    house.admission.leave_download()


def test_an_answer_without_a_body_needs_no_place(house: House) -> None:
    house.admission.enter_download()
    house.admission.enter_download()

    assert house.get(head=True).status == 200
    assert house.get(if_none_match=house.entity.etag).status == 304
    assert house.get(offload_from=1).offloaded
    with pytest.raises(NotFound):
        house.get("a/missing")
    house.admission.leave_download()
    house.admission.leave_download()


# --- left to the proxy ---


@pytest.mark.parametrize(("offload_from", "offloaded"), [(None, False), (11, False), (10, True), (1, True)])
def test_a_file_is_left_to_the_proxy_from_the_threshold_on(
    house: House, offload_from: int | None, offloaded: bool
) -> None:
    download = house.get(offload_from=offload_from)

    assert download.offloaded is offloaded
    assert body(download) == (b"" if offloaded else CONTENT)


@pytest.mark.parametrize("header", ["bytes=2-4", "bytes=10-", "rubbish"])
def test_a_proxy_that_sends_the_file_judges_the_range_too(house: House, header: str) -> None:
    download = house.get(header=header, offload_from=1)

    assert (download.status, download.offloaded, download.first, download.length) == (200, True, 0, 10)
    assert holds(download) is None


def test_a_tag_of_ours_is_judged_before_a_file_is_left_to_the_proxy(house: House) -> None:
    unchanged = house.get(if_none_match=house.entity.etag, offload_from=1)

    assert (unchanged.status, unchanged.offloaded) == (304, False)
    with pytest.raises(PreconditionFailed):
        house.get(if_match='"other"')


def test_a_tag_that_may_be_the_proxy_s_own_is_left_to_the_proxy(house: House) -> None:
    assert house.get(if_match='"other"', offload_from=1).offloaded


def test_a_head_is_never_left_to_the_proxy(house: House) -> None:
    download = house.get(head=True, offload_from=1)

    assert (download.status, download.length, download.offloaded) == (200, 10, False)


# --- want of resources ---


def failing_often(monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
    """Opening beneath the root fails with these errors of the operating system first."""
    left = list(errors)
    opener = beneath.open_beneath

    def scripted(root: int, path: bytes, flags: int) -> int:
        if left:
            code = left.pop(0)
            raise OSError(code, os.strerror(code))
        return opener(root, path, flags)

    def not_cached(root: int, path: bytes, flags: int) -> int:
        raise BlockingIOError

    monkeypatch.setattr(beneath, "open_beneath", scripted)
    monkeypatch.setattr(beneath, "open_beneath_now", not_cached)


def test_opening_is_tried_again_for_want_of_resources(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_often(monkeypatch, errno.EMFILE, errno.ENOMEM)

    download = house.get(head=True)

    assert download.length == len(CONTENT)
    assert house.slept == [2, 4]


def test_opening_is_given_up_when_no_retry_is_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_often(monkeypatch, *[errno.ENFILE] * 100)

    with pytest.raises(StorageBusy):
        house.get()

    assert len(house.slept) == 5


@pytest.mark.parametrize(("code", "error"), [(errno.ENOENT, NotFound), (errno.EIO, StorageFailed)])
def test_another_error_of_opening_is_not_tried_again(
    code: int, error: type[Exception], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_often(monkeypatch, code)

    with pytest.raises(error):
        house.get()

    assert house.slept == []


@pytest.mark.parametrize(("age", "told"), [(0, 864000), (400_000, 464_000), (864_000, 0), (10**9, 0), (-50, 864_050)])
def test_where_an_age_limit_holds_a_copy_may_be_kept_for_the_time_that_is_left(
    house: House, age: int, told: int
) -> None:
    stored = house.entity.modified
    limited = Downloads(
        house.storage,
        house.admission,
        house.retries,
        rules=DownloadRules(age=AgeRule("FileTTL", 864000)),
        clock=lambda: float(stored + age),
    )

    download = limited.open(DownloadRequest(paths.parse(b"a/b.png"), Conditions(), head=True))

    assert download.cache_control == f"public, max-age={told}, immutable"
    assert house.get(head=True).cache_control == "public, max-age=31536000, immutable"
