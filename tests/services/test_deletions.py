"""The use case of DELETE over a real store."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.core.retry import Schedule
from hmacfs.core.rotation import Ring, Secrets
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import BadSignature, NotFound, StorageFailed
from hmacfs.offload import InlinePool
from hmacfs.services.authority import Authority, DeletionRequest
from hmacfs.services.deletions import Deletions
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import Retries
from hmacfs.services.secrets import Keyring
from hmacfs.state.base import FileRow
from hmacfs.state.memory import MemoryTier
from hmacfs.storage import storedir, versionfolders
from hmacfs.storage.base import Graves, Metadata
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.versions import LocalVersions
from tests.support import tokens

SECRET, WORD = "the secret", "the delete secret"
PATH = "slot/file"


class Yard:
    """Graves on a list; looks at what lies in the store when one is dug."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.dug: list[tuple[str, bool]] = []

    def bury(self, path: SlotPath) -> bool:
        self.dug.append((str(path), (self.store / str(path)).exists()))
        return True

    def exhume(self, path: SlotPath) -> None:
        self.dug = [grave for grave in self.dug if grave[0] != str(path)]

    def buried(self, path: SlotPath) -> bool:
        return str(path) in dict(self.dug)


class Told(Observer):
    def __init__(self) -> None:
        self.removed: list[tuple[str, int, str, int]] = []

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:
        self.removed.append((name, size, reason, version))


class House:
    def __init__(self, store: Path) -> None:
        storedir.prepare(str(store))
        self.storage = LocalStorage(str(store), InlinePool(), durability="none", file_mode=0o640, dir_mode=0o750)
        self.yard = Yard(store)
        self.graves: Graves = self.yard
        self.tier = MemoryTier()
        self.recorder = Recorder(self.tier, Schedule(0, 0), lambda: 0.0, lambda _: None)
        self.store = store
        self.told = Told()

    def put(self) -> None:
        self.storage.store(paths.parse(PATH.encode()), bytearray(b"content"), Metadata("a/b"))
        self.tier.record_files([FileRow(PATH, 7, "a/b", "", "", 0, 0)])

    def deletions(self, word: str = WORD) -> Deletions:
        authority = Authority(Keyring(Ring(Secrets(SECRET, delete=word))))
        retries = Retries(Schedule(0, 0), lambda: 0.0, lambda _: None, lambda: 0.0)
        return Deletions(self.storage, authority, self.recorder, self.graves, retries, observer=self.told)

    def delete(self, query: str = "") -> None:
        query = query or tokens.delete_query(SECRET, PATH, WORD)
        claim = Claim(Protocol.TOKEN, query.removeprefix("token="))
        self.deletions().delete(DeletionRequest(paths.parse(PATH.encode()), "", claim))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "store")
    yield built
    os.close(built.storage._root)
    os.close(built.storage.staging.fd)


def test_file_and_row_go_and_the_grave_is_there_first(house: House) -> None:
    house.put()

    house.delete()
    house.recorder.flush()

    assert not (house.store / "slot").exists()
    assert house.tier.find_file(PATH) is None
    assert house.yard.dug == [(PATH, True)]


def test_the_file_and_each_version_that_goes_along_are_told(house: House) -> None:
    versionfolders.prepare(str(house.store))
    LocalVersions(house.storage, str(house.store), most=5, per_day=0, clock=lambda: 1.7e9)
    for size in (1, 2, 3):
        house.storage.store(paths.parse(PATH.encode()), bytearray(size), Metadata("a/b"))

    house.delete()

    assert house.told.removed == [(PATH, 1, "DELETE", 1), (PATH, 2, "DELETE", 2), (PATH, 3, "DELETE", 0)]


def test_an_unknown_path_is_not_found_and_gets_no_grave(house: House) -> None:
    with pytest.raises(NotFound):
        house.delete()

    assert (house.yard.dug, house.told.removed) == ([], [])


def test_a_wrong_signature_deletes_nothing_and_learns_nothing(house: House) -> None:
    house.put()

    for query in ("token=" + "0" * 64, tokens.delete_query(SECRET, PATH, "another")):
        with pytest.raises(BadSignature):
            house.delete(query)

    assert (house.store / PATH).exists()
    assert house.yard.dug == []


def test_a_file_that_goes_at_the_same_moment_is_not_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put()
    monkeypatch.setattr(house.graves, "bury", lambda _path: (house.store / PATH).unlink() is None)

    with pytest.raises(NotFound):
        house.delete()


def test_a_grave_that_cannot_be_dug_leaves_the_file(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: SlotPath) -> None:
        raise StorageFailed("EIO")

    house.put()
    monkeypatch.setattr(house.graves, "bury", fail)

    with pytest.raises(StorageFailed):
        house.delete()

    assert (house.store / PATH).exists()


def test_deletions_are_possible_where_somebody_could_sign_one(house: House) -> None:
    assert house.deletions().are_possible
    assert not house.deletions(word="").are_possible


def test_what_is_gone_is_unknown_to_the_next_deletion(house: House) -> None:
    dead = LocalGraves(str(house.store), InlinePool())
    house.storage.is_buried, house.graves = dead.buried_now, dead
    house.put()

    house.delete()

    with pytest.raises(NotFound):
        house.delete()
    assert dead.buried(paths.parse(PATH.encode()))


@pytest.fixture
def yard(house: House) -> Iterator[LocalGraves]:
    """The house with a file, and graves that uploads ask for."""
    dead = LocalGraves(str(house.store), InlinePool())
    house.storage.is_buried, house.graves = dead.buried_now, dead
    house.put()
    yield dead
    os.close(dead._fd)


SLOT = paths.parse(PATH.encode())


def refuse(_folder: int, _name: bytes) -> int:
    raise OSError(errno.EPERM, "the file is immutable")


def test_a_file_that_cannot_be_removed_leaves_its_path_as_it_was(
    house: House, yard: LocalGraves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.storage, "drop_name", refuse)

    with pytest.raises(StorageFailed):
        house.delete()

    assert not yard.buried(SLOT)
    assert (house.store / PATH).exists()
    (house.store / PATH).unlink()
    house.put()


def test_an_older_grave_stays_where_a_file_cannot_be_removed(
    house: House, yard: LocalGraves, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.bury(SLOT)
    monkeypatch.setattr(house.storage, "drop_name", refuse)

    with pytest.raises(StorageFailed):
        house.delete()

    assert yard.buried(SLOT)


def test_a_file_that_has_gone_stays_buried_though_its_deletion_failed(
    house: House, yard: LocalGraves, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_folder: int, _name: bytes) -> int:
        (house.store / PATH).unlink()
        raise OSError(errno.EIO, "the folder cannot be synced")

    monkeypatch.setattr(house.storage, "drop_name", late)

    with pytest.raises(StorageFailed):
        house.delete()

    assert yard.buried(SLOT)


def test_a_grave_that_another_deletion_trusts_in_is_made_again(
    house: House, yard: LocalGraves, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = yard.exhume

    def meanwhile(path: SlotPath) -> None:
        (house.store / PATH).unlink()
        real(path)

    monkeypatch.setattr(house.storage, "drop_name", refuse)
    monkeypatch.setattr(yard, "exhume", meanwhile)

    with pytest.raises(StorageFailed):
        house.delete()

    assert yard.buried(SLOT)


def test_a_deletion_does_not_trust_in_a_grave_that_is_taken_back(
    house: House, yard: LocalGraves, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = house.storage.drop_name

    def meanwhile(folder: int, name: bytes) -> int:
        yard.exhume(SLOT)
        return real(folder, name)

    yard.bury(SLOT)
    monkeypatch.setattr(house.storage, "drop_name", meanwhile)

    house.delete()

    assert yard.buried(SLOT)
