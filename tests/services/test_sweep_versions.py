"""A sweep looks through old versions too: they go by age and for room, and with the file that they were."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmacfs.core.preconditions import ALWAYS
from hmacfs.core.retention import CLAIM, DELETED, SIZE, TOO_MANY, AgeRule, Policy
from hmacfs.errors import Gone, StorageFailed
from hmacfs.services.grounds import Grounds, Means
from hmacfs.services.sweep import Report, Sweep
from hmacfs.storage import shelf as shelf_module
from hmacfs.storage.base import Metadata
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.leftovers import LocalLeftovers
from hmacfs.storage.shelf import LocalShelf
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.versionfolders import LEDGER, KeptVersion
from hmacfs.storage.versions import LocalVersions
from hmacfs.storage.versionshelf import VersionShelf
from tests.support.aging import DAY, HOUR, NOW, Ledger, Told
from tests.support.versioned import PATH, Archive, slot

MONTH = Policy((AgeRule("FileTTL", 30 * DAY),))


class Loft:
    """A store with versions that is swept. Args: keeper: whether what travels with a file is in its attributes."""

    def __init__(self, store: Path, *, keeper: bool) -> None:
        self.store = store
        self.archive = Archive(store, most=9, shares=True, use_attributes=keeper)
        self.storage = self.archive.storage
        self.graves = LocalGraves(str(store), self.storage.disk, lambda: NOW)
        self.storage.is_buried = self.graves.buried_now
        self.told, self.ledger = Told(), Ledger()

    def close(self) -> None:
        self.archive.close()
        os.close(self.graves._fd)

    def put(self, content: bytes, age: float, path: str = PATH, **metadata: int) -> None:
        """A PUT of a file that counts as ``age`` seconds old."""
        staged = self.storage.stage(slot(path))
        staged.write(memoryview(content))
        moment = int((NOW - age) * 1e9)
        os.utime(staged._fd, ns=(moment, moment))  # type: ignore[attr-defined]
        staged.publish(Metadata("image/jpeg", **metadata))  # type: ignore[arg-type]
        staged.discard()

    def swept(self, policy: Policy, *, removes: bool = True, by_age: bool = True) -> Report:
        grounds = Grounds(
            LocalShelf(self.storage, str(self.store), self.graves),
            LocalLeftovers(str(self.store), self.storage.disk, lambda: NOW),
            self.graves,
            versions=VersionShelf(self.archive.versions),
        )
        means = Means(grounds, policy, self.ledger, self.told, time.monotonic, removes)
        return Sweep(means, NOW, lambda _seconds: False).run(by_age=by_age)

    def keep(self, most: int | None) -> None:
        """The server comes back with another MaxVersions, or (None) without EnableVersioning."""
        self.archive.versions = LocalVersions(
            self.storage, str(self.store), most=most or 0, per_day=0, clock=lambda: NOW, replaces=most is not None
        )

    def contents(self) -> set[bytes]:
        """Of every file and version."""
        kept = [path for path in self.store.rglob("*") if path.is_file() and path.name != LEDGER]
        inside = self.store / ".hmacfs"
        ours = [path for path in kept if inside not in path.parents or inside / "versions" in path.parents]
        return {path.read_bytes() for path in ours}

    def sidecars(self) -> int:
        return sum(path.is_file() for path in (self.store / ".hmacfs/meta").rglob("*.json"))


@pytest.fixture(params=[True, False], ids=["attributes", "sidecars"])
def loft(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Loft]:
    made = Loft(tmp_path / "store", keeper=request.param)
    yield made
    made.close()


def test_old_versions_go_by_age_and_their_file_stays(loft: Loft) -> None:
    loft.put(b"old", 40 * DAY)
    loft.put(b"younger", 20 * DAY)
    loft.put(b"current", 1 * DAY)

    report = loft.swept(MONTH)

    assert loft.archive.old() == {2: b"younger"}
    assert loft.archive.read() == b"current"
    assert loft.told.removed == [(PATH, "FileTTL")]
    assert (report.files, report.stored, report.removed, report.freed) == (2, 14, 1, 3)
    assert loft.ledger.gone == []  # the catalogue knows the current file, which is there
    assert not loft.graves.buried_now(slot())


def test_a_version_with_an_end_of_its_own_goes_then(loft: Loft) -> None:
    loft.put(b"for an hour", 2 * HOUR, expires_at=int(NOW - HOUR))
    loft.put(b"for a day", 1 * HOUR, expires_at=int(NOW + DAY))
    loft.put(b"current", 0)

    loft.swept(Policy())

    assert loft.archive.old() == {2: b"for a day"}
    assert loft.told.removed == [(PATH, CLAIM)]


def test_a_file_that_expires_takes_its_versions_along_and_a_replay_is_gone(loft: Loft) -> None:
    loft.put(b"first", 3 * DAY)
    loft.put(b"second", 2 * DAY)
    loft.put(b"third", 1 * DAY, expires_at=int(NOW))

    loft.swept(Policy())

    assert loft.archive.version_files() == []
    assert loft.ledger.gone == [PATH]
    assert loft.sidecars() == 0
    with pytest.raises(Gone):
        loft.put(b"third", 0)
    with pytest.raises(Gone):
        loft.archive.versions.of(slot())
    with pytest.raises(Gone):
        loft.archive.versions.check(slot(), 5, ALWAYS)


def test_a_file_that_cannot_be_removed_keeps_its_versions(loft: Loft, monkeypatch: pytest.MonkeyPatch) -> None:
    loft.put(b"first", 3 * DAY)
    loft.put(b"second", 2 * DAY)
    real = loft.storage.drop_name

    def refuse(folder: int, name: bytes) -> int:
        if name == slot().segments[-1]:
            raise OSError(errno.EPERM, "the file is immutable")
        return real(folder, name)

    monkeypatch.setattr(loft.storage, "drop_name", refuse)
    shelf = LocalShelf(loft.storage, str(loft.store), loft.graves)
    (held,) = [held for batch in shelf.batches() for held in batch.files]

    with pytest.raises(StorageFailed):
        shelf.remove([held])

    assert (loft.archive.read(), loft.archive.old()) == (b"second", {1: b"first"})


def test_the_oldest_make_room_whether_they_are_versions_or_files(loft: Loft) -> None:
    loft.put(b"1" * 100, 5 * HOUR)
    loft.put(b"2" * 100, 3 * HOUR)
    loft.put(b"3" * 100, 2 * HOUR)
    loft.put(b"4" * 100, 4 * HOUR, "other")

    report = loft.swept(Policy((), 200))

    assert loft.archive.read() == b"3" * 100
    assert loft.archive.old() == {2: b"2" * 100}
    assert not (loft.store / "other").exists()
    assert sorted(loft.told.removed) == [(PATH, SIZE), ("other", SIZE)]
    assert (report.stored, report.freed) == (200, 200)


def test_versions_that_go_with_their_file_make_room_too(loft: Loft) -> None:
    for number in range(5):
        loft.put(b"%d" % number * 300, 5 * HOUR - number)
    loft.put(b"expired" * 40, 4 * HOUR, expires_at=int(NOW))
    for number in range(3):
        loft.put(b"g" * 250, 2 * HOUR, f"good/{number}")

    report = loft.swept(Policy((), 1000))

    assert sorted(loft.told.removed) == [(PATH, CLAIM)] * 6
    assert [(loft.store / f"good/{number}").exists() for number in range(3)] == [True] * 3
    assert (report.files, report.stored, report.removed, report.freed) == (3, 750, 6, 1780)


def test_a_version_without_a_ledger_that_goes_with_its_file_is_told_and_counted(loft: Loft) -> None:
    loft.put(b"old" * 100, 3 * HOUR)
    loft.put(b"current", 2 * HOUR, expires_at=int(NOW))
    loft.put(b"good", 2 * HOUR, "good")
    (ledger,) = (loft.store / ".hmacfs/versions").rglob(LEDGER)
    ledger.unlink()

    report = loft.swept(Policy((), 100))

    assert loft.told.removed == [(PATH, CLAIM), (PATH, CLAIM)]
    assert (report.files, report.stored, report.removed, report.freed) == (1, 4, 2, 307)


def test_versions_beyond_a_lower_max_versions_go_before_anything_makes_room(loft: Loft) -> None:
    loft.put(b"good" * 50, 9 * HOUR, "good")
    for number in range(5):
        loft.put(b"%d" % number * 100, 8 * HOUR - number)
    loft.keep(1)

    report = loft.swept(Policy((), 400))

    assert loft.archive.old() == {4: b"3" * 100}
    assert (loft.store / "good").exists()
    assert loft.told.removed == [(PATH, TOO_MANY)] * 3
    assert (report.files, report.versions, report.stored, report.removed, report.freed) == (3, 1, 400, 3, 300)


def test_versions_whose_file_somebody_removed_go_as_deleted_and_make_room(loft: Loft) -> None:
    for number in range(3):
        loft.put(b"%d" % number * 100, 8 * HOUR - number)
    loft.put(b"good" * 50, 9 * HOUR, "good")
    (loft.store / PATH).unlink()

    report = loft.swept(Policy((), 200))

    assert loft.told.removed == [(PATH, DELETED)] * 2
    assert (loft.store / "good").exists()
    assert (report.files, report.stored, report.removed, report.freed) == (1, 200, 2, 200)
    assert loft.archive.tidied() == 1
    assert list((loft.store / ".hmacfs/versions").glob("??/*")) == []


def test_versions_that_age_takes_do_not_count_as_too_many(loft: Loft) -> None:
    loft.put(b"one", 3 * DAY)
    loft.put(b"two", 2 * DAY)
    loft.put(b"for a day", 2 * DAY, expires_at=int(NOW - DAY))
    loft.put(b"current", 1 * HOUR)
    loft.keep(2)

    loft.swept(Policy())

    assert loft.archive.old() == {1: b"one", 2: b"two"}
    assert loft.told.removed == [(PATH, CLAIM)]


def test_where_the_clock_is_not_believed_versions_are_still_too_many(loft: Loft) -> None:
    loft.put(b"one", 90 * DAY)
    loft.put(b"two", 80 * DAY)
    loft.put(b"current", 70 * DAY)
    loft.keep(1)

    loft.swept(MONTH, by_age=False)

    assert loft.archive.old() == {2: b"two"}
    assert loft.told.removed == [(PATH, TOO_MANY)]


def test_where_nothing_is_replaced_any_more_all_versions_stay(loft: Loft) -> None:
    loft.put(b"one", 2 * DAY)
    loft.put(b"current", 1 * DAY)
    loft.keep(None)

    assert loft.swept(MONTH).removed == 0
    assert loft.archive.old() == {1: b"one"}


def test_versions_stay_where_their_file_is_back_before_they_go(loft: Loft, monkeypatch: pytest.MonkeyPatch) -> None:
    loft.put(b"one", 2 * DAY)
    loft.put(b"current", 1 * DAY)
    (loft.store / PATH).unlink()
    real = LocalVersions.remove

    def meanwhile(self: LocalVersions, version: KeptVersion) -> int | None:
        loft.put(b"again", 0)
        return real(self, version)

    monkeypatch.setattr(LocalVersions, "remove", meanwhile)

    assert loft.swept(MONTH).removed == 0
    assert loft.archive.old() == {1: b"one"}


def test_a_version_that_is_the_current_file_is_not_counted(loft: Loft) -> None:
    loft.put(b"one", 2 * DAY)
    loft.put(b"current", 1 * DAY)
    (kept,) = (loft.store / ".hmacfs/versions").rglob("1")
    os.link(loft.store / PATH, kept.parent / "2")  # a crash came before the renaming

    report = loft.swept(MONTH)

    assert (report.files, report.versions, report.stored) == (2, 1, 10)


STORED = st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(0, 3 * HOUR), st.sampled_from([0, 0, 0, -5, 5]))
"""One PUT: path, size, age, and seconds until its own end."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    puts=st.lists(STORED, max_size=10),
    most=st.integers(0, 40),
    ttl=st.none() | st.integers(1, 3 * HOUR),
    kept=st.none() | st.integers(0, 9),
    lost=st.sets(st.integers(0, 2), max_size=1),
)
def test_plan_and_sweep_take_what_a_simple_model_says(
    tmp_path: Path, puts: list[tuple[int, int, int, int]], most: int, ttl: int | None, kept: int | None, lost: set[int]
) -> None:
    loft = Loft(tmp_path / f"store-{len(os.listdir(tmp_path))}", keeper=True)
    stored: dict[str, list[Entry]] = {}
    for place, (path, size, age, end) in enumerate(puts):
        content = chr(65 + place).encode() * size
        loft.put(content, age, f"f/{path}", expires_at=int(NOW) + end if end else 0)
        stored.setdefault(f"f/{path}", []).append(Entry(content, age, end))
    policy = Policy((AgeRule("FileTTL", ttl),) if ttl else (), most)
    loft.keep(kept)
    for path in {f"f/{path}" for path in lost} & stored.keys():
        (loft.store / path).unlink()
        del stored[path]

    planned = loft.swept(policy, removes=False)
    said, loft.told.removed = loft.told.removed, []
    done = loft.swept(policy)

    assert (planned, said) == (done, loft.told.removed)
    assert loft.contents() == model(stored, most, ttl, 9 if kept is None else kept)
    loft.close()


class Entry(NamedTuple):
    content: bytes
    age: int
    end: int


def model(stored: dict[str, list[Entry]], most: int, ttl: int | None, kept: int) -> set[bytes]:
    """What stays: each file with no more than ``kept`` versions before it, and one list of all that may make room."""

    def is_over(entry: Entry) -> bool:
        return entry.end < 0 or (ttl is not None and entry.age >= ttl)

    left = {path: [each for each in entries if not is_over(each)] for path, entries in stored.items()}
    left = {path: entries for path, entries in left.items() if entries and entries[-1] is stored[path][-1]}
    left = {path: entries[-kept - 1 :] for path, entries in left.items()}
    turns = sorted(
        (-max(each.age, entries[-1].age), path, place == len(entries) - 1, place)
        for path, entries in left.items()
        for place, each in enumerate(entries)
    )
    staying = {(path, place): left[path][place].content for _, path, _, place in turns}
    for turn, path, _, place in turns:
        if most and -turn >= HOUR and sum(map(len, staying.values())) > most:
            del staying[path, place]
    return set(staying.values())


def test_a_plan_changes_nothing_and_names_the_versions(loft: Loft) -> None:
    loft.put(b"old", 40 * DAY)
    loft.put(b"current", 1 * DAY)

    loft.swept(MONTH, removes=False)

    assert loft.archive.old() == {1: b"old"}
    assert loft.told.removed == [(PATH, "FileTTL")]


def test_versions_whose_ledger_was_lost_go_by_age_too(loft: Loft) -> None:
    loft.put(b"old", 40 * DAY)
    loft.put(b"current", 1 * DAY)
    (ledger,) = (loft.store / ".hmacfs/versions").rglob(LEDGER)
    ledger.unlink()

    loft.swept(MONTH)

    assert loft.archive.version_files() == []
    assert loft.told.removed == [(f".hmacfs/versions/{slot_name(slot())[:2]}/{slot_name(slot())}", "FileTTL")]
    assert loft.archive.read() == b"current"


def test_a_file_that_somebody_replaces_at_this_moment_is_left_alone(loft: Loft) -> None:
    loft.put(b"old", 40 * DAY)

    with loft.storage.locks.held(slot_name(slot())):
        report = loft.swept(MONTH)

    assert report.removed == 0
    assert loft.archive.read() == b"old"
    assert loft.swept(MONTH).removed == 1


def test_content_that_others_share_stays_until_its_last_name_goes(tmp_path: Path) -> None:
    loft = Loft(tmp_path / "store", keeper=True)
    content = loft.archive.content
    assert content is not None
    for path in ("a/1", "a/2"):
        entity = loft.archive.put(b"same" * 1000, path, metadata=Metadata("image/jpeg", "5" * 64))
        content.share(slot(path), entity, Metadata("image/jpeg", "5" * 64))
    (shared,) = {os.stat(loft.store / path).st_ino for path in ("a/1", "a/2")}

    (loft.store / "a/2").unlink()  # by other hands
    os.utime(loft.store / "a/1", (NOW - 40 * DAY, NOW - 40 * DAY))
    loft.swept(MONTH)

    assert [path for path in loft.store.rglob("*") if path.is_file() and path.stat().st_ino == shared] == []
    loft.close()


def test_a_version_goes_by_its_own_time_though_its_content_was_stored_again(tmp_path: Path) -> None:
    loft = Loft(tmp_path / "store", keeper=True)
    content, same = loft.archive.content, Metadata("image/jpeg", "5" * 64)
    assert content is not None
    for data, age in ((b"first" * 100, 40 * DAY), (b"second" * 100, 20 * DAY), (b"first" * 100, 1 * DAY)):
        loft.put(data, age)
        entity = loft.storage.files.entity_at(slot())
        assert entity is not None
        if data.startswith(b"first"):
            content.share(slot(), entity, same)
    (first,) = (loft.store / ".hmacfs/versions").rglob("1")
    assert first.stat().st_mtime == NOW - 1 * DAY

    loft.swept(MONTH)

    assert loft.archive.old() == {2: b"second" * 100}
    assert loft.archive.read() == b"first" * 100
    loft.close()


def test_a_batch_of_files_is_read_of_many_folders_of_versions(loft: Loft, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        loft.put(b"old", 40 * DAY, f"a/{number}")
        loft.put(b"current", 1 * DAY, f"a/{number}")
    monkeypatch.setattr("hmacfs.storage.versionshelf.BATCH", 2)
    monkeypatch.setattr(shelf_module, "BATCH", 2)

    sizes = [len(batch.files) for batch in VersionShelf(loft.archive.versions).batches()]

    assert sizes == [2, 2, 1]
    assert loft.swept(MONTH).removed == 5


def test_all_versions_of_a_path_are_in_one_batch(loft: Loft, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        loft.put(b"%d" % number, 1 * DAY, "a/1")
        loft.put(b"%d" % number, 1 * DAY, "a/2")
    monkeypatch.setattr("hmacfs.storage.versionshelf.BATCH", 2)

    batches = [[held.version for held in batch.files] for batch in VersionShelf(loft.archive.versions).batches()]

    assert batches == [[1, 2, 3, 4, 5]] * 2
