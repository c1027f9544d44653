"""What a GET or HEAD gets: the file, a slice of it, or the news that nothing changed (protocol, section 4)."""

import os
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from hmacfs.core import paths
from hmacfs.core.preconditions import Conditions
from hmacfs.errors import NotFound, PreconditionFailed, RangeNotSatisfiable
from hmacfs.offload import InlinePool
from hmacfs.services.downloads import Download, DownloadRequest, Downloads
from hmacfs.storage import local
from hmacfs.storage.base import Entity, Metadata
from hmacfs.storage.local import LocalStorage

CONTENT = b"0123456789"


class House:
    """The use case over a real store that holds a/b.png."""

    def __init__(self, store: Path) -> None:
        self.store = store
        local.prepare(str(store))
        self.storage = LocalStorage(str(store), InlinePool(), durability="none", file_mode=0o640, dir_mode=0o750)
        self.entity = self.put("a/b.png", CONTENT, "image/png")

    def put(self, path: str, content: bytes, content_type: str) -> Entity:
        staged = self.storage.stage(paths.parse(path.encode()))
        staged.write(memoryview(content))
        entity = staged.publish(Metadata(content_type))
        staged.discard()
        return entity

    def get(self, path: str = "a/b.png", *, header: str = "", head: bool = False, **conditions: str) -> Download:
        asked = DownloadRequest(paths.parse(path.encode()), Conditions(**conditions), header, head)
        return Downloads(self.storage).open(asked)

    def close(self) -> None:
        os.close(self.storage._root)
        os.close(self.storage.staging.fd)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "store")
    yield built
    built.close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open(house: House) -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)


def body(download: Download) -> bytes:
    """What would be sent; the file is closed then."""
    if download.stored is None:
        return b""
    sent = download.stored.read(download.first, download.length)
    download.stored.close()
    return sent


def test_a_get_gives_the_whole_file(house: House) -> None:
    download = house.get()

    assert (download.status, download.length, download.entity) == (200, 10, house.entity)
    assert download.content_type == "image/png"
    assert download.cache_control == "public, max-age=31536000, immutable"
    assert body(download) == CONTENT


def test_a_head_tells_the_length_and_holds_no_file(house: House) -> None:
    download = house.get(head=True)

    assert (download.status, download.length, download.stored) == (200, 10, None)


def test_an_empty_file_has_a_length_of_zero_and_no_body(house: House) -> None:
    house.put("a/empty", b"", "text/plain")

    download = house.get("a/empty")

    assert (download.status, download.length, download.stored) == (200, 0, None)


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
        assert (download.status, download.stored, download.entity) == (304, None, house.entity)


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
