"""Old versions are listed and fetched by who has signed a download, and by nobody else (protocol, section 4)."""

import hashlib
import hmac
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.core.preconditions import Conditions
from hmacfs.core.retry import Schedule
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import BadSignature, Gone, NotFound, RangeNotSatisfiable, TooManyRequests
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.authority import Authority, Signed
from hmacfs.services.downloads import DownloadRequest, DownloadRules, Downloads
from hmacfs.services.history import CACHE_NEVER, History
from hmacfs.services.retrying import Retries
from hmacfs.services.secrets import Keyring
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage.base import Metadata
from tests.support.versioned import PATH, Archive, slot

SECRET = "a-secret-long-enough-for-anybody"


def v3(method: str, path: str, expires: int) -> str:
    text = f"{method}\n{expires}\n{path}\n\n".encode()
    return hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()


class Judge(Authority):
    """Counts how often it judged a download."""

    judged = 0

    def check_download(self, request: Signed) -> int:
        self.judged += 1
        return super().check_download(request)


class House:
    """The use case over a real store with two versions of one path, at the time 1000; see ``asked`` for signatures."""

    def __init__(self, store: Path, *, signed: bool = False) -> None:
        self.archive = Archive(store)
        for content, content_type in ((b"first", "text/plain"), (b"second!", "image/png"), (b"third", "text/plain")):
            self.archive.put(content, metadata=Metadata(content_type))
        self.admission = Admission(Limits(transfers=2), Scoreboard(), lambda: 0, lambda: 0.0)
        retries = Retries(Schedule(0, 0), lambda: 0.0, lambda _: None, lambda: 0.0)
        self.judge = authority = Judge(Keyring(SECRET), v3=True, clock=lambda: 1_000.0)
        rules = DownloadRules(signed=signed, may_change=lambda: True)
        self.downloads = Downloads(
            self.archive.storage, self.admission, retries, authority, rules, clock=lambda: 1_000.0
        )
        self.history = History(self.archive.versions, self.downloads, authority.check_download)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "store")
    yield built
    built.archive.close()


def asked(
    path: str = PATH, range_: str = "", head: bool = False, mac: str | None = None, expires: int = 2_000
) -> DownloadRequest:
    """Rightly signed, unless another MAC is given."""
    right = v3("GET", path, expires)
    claim = Claim(Protocol.V3, right if mac is None else mac, str(expires))
    return DownloadRequest(slot(path), Conditions(), range_, head, claim=claim, client="192.0.2.1")


def test_versions_are_listed_with_number_size_tag_time_and_type(house: House) -> None:
    listed = house.history.listed(asked())

    assert [(each.number, each.entity.size, each.metadata.content_type) for each in listed] == [
        (1, 5, "text/plain"),
        (2, 7, "image/png"),
    ]
    assert len({each.entity.etag for each in listed}) == 2


def test_a_version_is_sent_as_a_file_is(house: House) -> None:
    download = house.history.open(asked(), 2)

    assert (download.status, download.content, download.content_type) == (200, b"second!", "image/png")
    assert download.cache_control == CACHE_NEVER
    assert house.history.open(asked(head=True), 2).length == 7


def test_ranges_of_a_version_work(house: House) -> None:
    download = house.history.open(asked(range_="bytes=2-3"), 2)

    assert (download.status, download.content, download.first) == (206, b"co", 2)
    with pytest.raises(RangeNotSatisfiable):
        house.history.open(asked(range_="bytes=50-"), 2)


@pytest.mark.parametrize("number", [3, 99, -1])
def test_an_unknown_version_is_not_found(house: House, number: int) -> None:
    with pytest.raises(NotFound):
        house.history.open(asked(), number)


@pytest.mark.parametrize("mac", ["", "0" * 64, v3("PUT", PATH, 2_000), v3("GET", "a/c.jpg", 2_000)])
def test_nobody_learns_anything_without_the_right_signature(house: House, mac: str) -> None:
    for request in (asked(mac=mac), asked("a/missing", mac=mac), asked(head=True, mac=mac)):
        with pytest.raises(BadSignature):
            house.history.listed(request)
        with pytest.raises(BadSignature):
            house.history.open(request, 1)


def test_a_request_without_any_signature_learns_nothing_either(house: House) -> None:
    request = DownloadRequest(slot(PATH), Conditions(), "", False)

    with pytest.raises(BadSignature):
        house.history.listed(request)
    with pytest.raises(BadSignature):
        house.history.open(request, 1)


def test_a_wrong_signature_is_told_before_too_many_requests(house: House) -> None:
    came: list[str] = []

    def check(client: str) -> None:
        came.append(client)
        raise TooManyRequests(10)

    house.admission.check_rate = check
    for ask in (house.history.listed, lambda request: house.history.open(request, 1)):
        with pytest.raises(BadSignature):
            ask(asked(mac="0" * 64))
        with pytest.raises(TooManyRequests):
            ask(asked())

    assert came == ["192.0.2.1"] * 2


def test_a_signed_download_is_judged_before_it_is_counted(tmp_path: Path) -> None:
    house = House(tmp_path / "store", signed=True)
    came: list[str] = []
    house.admission.check_rate = came.append

    for request in (asked(mac="0" * 64), asked("a/missing", mac="0" * 64), asked(expires=999)):
        with pytest.raises(BadSignature):
            house.downloads.open(request)
    assert came == []

    house.downloads.open(asked())
    with pytest.raises(NotFound):
        house.downloads.open(asked("a/missing"))
    house.archive.close()

    assert came == ["192.0.2.1"] * 2


def test_a_signature_ends_with_its_time(house: House) -> None:
    with pytest.raises(BadSignature):
        house.history.listed(asked(expires=999))


def test_a_version_whose_own_time_is_over_is_gone(house: House) -> None:
    house.archive.put(b"for a while", metadata=Metadata("text/plain", expires_at=1_001))
    house.archive.put(b"over", metadata=Metadata("text/plain", expires_at=999))
    house.archive.put(b"current")

    assert house.history.open(asked(), 4).content == b"for a while"
    with pytest.raises(Gone):
        house.history.open(asked(), 5)


def test_a_version_is_not_judged_twice_where_every_download_is_signed(tmp_path: Path) -> None:
    house = House(tmp_path / "store", signed=True)

    assert house.history.open(asked(), 1).cache_control == CACHE_NEVER
    assert house.judge.judged == 1
    with pytest.raises(BadSignature):
        house.downloads.open(DownloadRequest(slot(PATH), Conditions(), "", False))
    house.archive.close()


def test_a_path_without_a_file_or_a_version_is_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        house.history.listed(asked("a/missing"))


def test_the_current_file_is_asked_for_each_time(house: House) -> None:
    download = house.downloads.open(asked())

    assert (download.content, download.cache_control) == (b"third", "no-cache")


def test_a_large_version_is_sent_from_its_file_and_closed(house: House) -> None:
    house.archive.put(bytes(100_000))
    house.archive.put(b"small again")
    before = len(os.listdir("/proc/self/fd"))

    download = house.history.open(asked(), 4)

    assert download.transfer is not None
    assert download.transfer.stored.read(99_990, 100) == bytes(10)
    download.transfer.close()
    assert len(os.listdir("/proc/self/fd")) == before
