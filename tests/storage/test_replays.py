"""A PUT that takes effect after its file was deleted, or its time was over, does not bring it back: 410, and nothing of
it is left (protocol, section 3)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.core.retention import AgeRule, Held, reason_to_go
from hmacfs.errors import FileExists, Gone, NotFound
from hmacfs.storage import fsutil
from hmacfs.storage.base import Metadata
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.slotlocks import slot_name
from tests.support.resuming import Shelf, header
from tests.support.versioned import PATH, PLAIN, Archive, slot

NOW = 1.7e9
LIMIT = AgeRule("FileTTL", 3600)
Deed = Callable[[], object]


class Yard:
    """A store with graves. Args: replaces: EnableVersioning."""

    def __init__(self, store: Path, *, replaces: bool, attributes: bool = True) -> None:
        self.archive = Archive(store, replaces=replaces, durability="full", use_attributes=attributes)
        self.storage, self.store = self.archive.storage, store
        self.graves = LocalGraves(str(store), self.storage.disk, lambda: NOW)
        self.storage.is_buried = self.graves.buried_now
        self.storage.is_over = lambda held: bool(reason_to_go(held, LIMIT, NOW))

    def close(self) -> None:
        self.archive.close()
        os.close(self.graves._fd)

    def delete(self) -> None:
        """As a DELETE does it, or a sweep."""
        self.graves.bury(slot())
        assert self.storage.delete(slot())

    def put(self, content: bytes, metadata: Metadata = PLAIN, age: int = 10) -> None:
        """A file that was stored ``age`` seconds ago."""
        staged = self.storage.stage(slot())
        staged.write(memoryview(content))
        os.utime(staged._fd, (NOW - age, NOW - age))
        staged.publish(metadata)
        staged.discard()

    def left(self) -> list[str]:
        """Every file and folder that an upload may have left."""
        kept = [path.relative_to(self.store).as_posix() for path in self.store.rglob("*")]
        ours = (".hmacfs/staging/", ".hmacfs/meta/")
        return [name for name in kept if not name.startswith(".hmacfs") or (name.startswith(ours) and len(name) > 20)]


@pytest.fixture(params=["versions", "no versions", "sidecars"])
def yard(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Yard]:
    made = Yard(tmp_path / "store", replaces=request.param == "versions", attributes=request.param != "sidecars")
    yield made
    made.close()


@pytest.fixture(params=[False, True], ids=["small", "large"])
def in_blocks(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def once(deed: Deed) -> Deed:
    """Do it at the first call only."""
    left = [deed]
    return lambda: left.pop()() if left else None


def test_a_file_that_is_deleted_while_a_replay_is_synced_stays_gone(
    yard: Yard, in_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.put(b"first")
    real, delete = fsutil.sync, once(yard.delete)
    monkeypatch.setattr(fsutil, "sync", lambda fd: (real(fd), delete()))

    with pytest.raises(Gone):
        yard.archive.put(b"again", in_blocks=in_blocks)

    assert yard.left() == []


def test_a_deletion_in_the_moment_between_link_and_look_is_seen(yard: Yard, in_blocks: bool) -> None:
    delete = once(yard.delete)
    yard.storage.is_buried = lambda path: ((yard.store / PATH).exists() and delete(), yard.graves.buried_now(path))[1]

    with pytest.raises(Gone):
        yard.archive.put(b"first", in_blocks=in_blocks)

    assert yard.left() == []


def test_a_replay_of_a_deleted_file_is_refused_and_leaves_nothing(yard: Yard, in_blocks: bool) -> None:
    yard.put(b"first")
    yard.delete()

    with pytest.raises(Gone):
        yard.archive.put(b"first", in_blocks=in_blocks)

    assert yard.left() == []


def test_a_replay_of_a_deleted_file_is_at_its_path_at_no_moment(
    yard: Yard, in_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.put(b"first")
    yard.delete()
    named: list[str] = []
    real = yard.storage.folders.name_new
    monkeypatch.setattr(
        yard.storage.folders, "name_new", lambda path, link: (named.append(str(path)), real(path, link))[1]
    )

    with pytest.raises(Gone):
        yard.archive.put(b"first", in_blocks=in_blocks)

    assert named == []


def test_what_another_file_needs_of_the_folder_stays(yard: Yard) -> None:
    yard.put(b"first")
    yard.archive.put(b"neighbour", "a/c.jpg")
    yard.delete()

    with pytest.raises(Gone):
        yard.archive.put(b"first")

    assert yard.archive.read("a/c.jpg") == b"neighbour"


def test_whoever_replaces_what_a_replay_has_linked_is_refused_too(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "store", replaces=True)
    yard.put(b"first")
    yard.delete()
    inner: list[object] = []

    def second() -> None:
        for content in (b"other", b"again"):
            for conditions in (ALWAYS, WriteConditions(if_match="*")):
                with pytest.raises(Gone) as refused:
                    yard.archive.put(content, conditions=conditions)
                inner.append(refused.value.code)

    meanwhile, looks = once(second), iter([False])  # the grave came behind the first look
    yard.storage.is_buried = lambda path: next(looks, None) is None and (meanwhile(), yard.graves.buried_now(path))[1]

    with pytest.raises(Gone):
        yard.archive.put(b"again")

    assert (inner, yard.left()) == (["gone"] * 4, [])
    assert yard.archive.version_files() == []
    yard.close()


def test_a_file_that_is_deleted_in_front_of_the_lock_of_a_replacing_put_stays_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = Yard(tmp_path / "store", replaces=True)
    yard.put(b"first")
    real, delete = yard.storage.locks.held, once(yard.delete)
    monkeypatch.setattr(yard.storage.locks, "held", lambda slot: (delete(), real(slot))[1])

    with pytest.raises(Gone):
        yard.archive.put(b"second")

    assert yard.left() == []
    yard.close()


def test_an_upload_in_pieces_that_ends_behind_the_deletion_is_gone_with_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = Shelf(tmp_path / "store", durability="full")
    graves = LocalGraves(str(house.store), house.storage.disk)
    house.storage.is_buried = graves.buried_now
    partial = house.begin(header(), (0, 100))
    assert partial.take_over()
    real, bury = fsutil.sync, once(lambda: graves.bury(partial.header.path))
    monkeypatch.setattr(fsutil, "sync", lambda fd: (real(fd), bury()))

    with pytest.raises(Gone):
        partial.publish(PLAIN)

    partial.close()
    assert house.names() == []
    with pytest.raises(Gone):
        house.storage.open(partial.header.path, with_content=False)
    house.close()
    os.close(graves._fd)


def test_an_upload_in_pieces_that_was_cut_off_between_link_and_look_is_taken_back(tmp_path: Path) -> None:
    house = Shelf(tmp_path / "store")
    graves = LocalGraves(str(house.store), house.storage.disk)
    house.storage.is_buried = graves.buried_now
    partial = house.begin(header(), (0, 100))
    assert partial.take_over()
    (data,) = (house.store / ".hmacfs/partials").rglob(partial.data_name)
    (house.store / PATH).parent.mkdir()
    os.link(data, house.store / PATH)
    graves.bury(slot())

    with pytest.raises(Gone):
        partial.publish(PLAIN)

    partial.close()
    assert (house.names(), (house.store / "a").exists()) == ([], False)
    house.close()
    os.close(graves._fd)


def test_a_plain_put_asks_in_front_of_its_name_and_behind_it_whether_its_path_is_buried(yard: Yard) -> None:
    there: list[bool] = []
    yard.storage.is_buried = lambda _path: bool(there.append((yard.store / PATH).exists()))

    yard.archive.put(b"first")

    assert there == [False, True]


# --- files whose time is over, and which no sweep has taken yet ---


@pytest.mark.parametrize("age", [3600, 10_000])
def test_a_file_over_the_age_limit_is_not_replaced(yard: Yard, in_blocks: bool, age: int) -> None:
    yard.put(b"first", age=age)

    with pytest.raises(Gone):
        yard.archive.put(b"other", in_blocks=in_blocks)
    with pytest.raises(Gone):
        yard.storage.check_vacant(slot())
    with pytest.raises(Gone):
        yard.archive.versions.check(slot(), 5, ALWAYS)

    assert yard.archive.read() == b"first"


def test_a_file_whose_own_end_has_come_is_not_replaced(yard: Yard) -> None:
    yard.put(b"first", Metadata("image/jpeg", expires_at=int(NOW) + 1))
    yard.storage.is_over = lambda held: bool(reason_to_go(held, None, NOW + 1))

    with pytest.raises(Gone):
        yard.archive.put(b"other")

    assert yard.archive.read() == b"first"


def test_a_file_whose_time_is_not_over_is_there(yard: Yard) -> None:
    yard.put(b"first", Metadata("image/jpeg", expires_at=int(NOW) + 1), 3599)

    with pytest.raises(FileExists):
        yard.storage.check_vacant(slot())


def test_a_file_that_expires_while_it_is_compared_is_not_replaced(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "store", replaces=True)
    yard.put(b"first")
    answers = iter([False])  # when it is found; not any more under the lock
    yard.storage.is_over = lambda _held: next(answers, True)

    with pytest.raises(Gone):
        yard.archive.put(b"other")

    assert yard.archive.read() == b"first"
    yard.close()


def test_a_file_that_would_be_over_at_once_is_not_published(yard: Yard) -> None:
    asked: list[Held] = []
    judge = yard.storage.is_over
    yard.storage.is_over = lambda held: (asked.append(held), judge(held))[1]

    with pytest.raises(Gone):
        yard.archive.put(b"first", metadata=Metadata("image/jpeg", expires_at=int(NOW)))

    assert [held.expires_at for held in asked] == [int(NOW)]
    assert yard.left() == []
    with pytest.raises(NotFound):
        yard.storage.open(slot(), with_content=False)


def test_the_lock_of_a_path_is_not_taken_for_a_free_one(yard: Yard) -> None:
    with yard.storage.locks.held(slot_name(slot())):
        yard.archive.put(b"first")

    assert yard.archive.read() == b"first"
