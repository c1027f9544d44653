"""What is removed when its time is over: by one process at a time, again after an error, and no more after stop."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hmacfs.core import retry
from hmacfs.core.retention import AgeRule, Policy
from hmacfs.core.wallclock import Moment, Swept
from hmacfs.errors import StateUnavailable, StorageFailed
from hmacfs.services import janitor as module
from hmacfs.services.grounds import Grounds, Means
from hmacfs.services.janitor import LEASE, Janitor, Schedule
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.state.base import SessionRow
from hmacfs.state.memory import MemoryTier
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.leftovers import LocalLeftovers
from hmacfs.storage.shelf import LocalShelf
from hmacfs.storage.sweepfile import SweepFile
from tests.support.polling import until
from tests.support.resuming import TTL, Shelf, header


class Told(Observer):
    def __init__(self) -> None:
        self.expired: list[str] = []
        self.failures: list[str] = []
        self.sweeps = 0
        self.doubts: list[tuple[int, int]] = []

    def upload_expired(self, name: str) -> None:
        self.expired.append(name)

    def sweep_failed(self, error: BaseException) -> None:
        self.failures.append(type(error).__name__)

    def swept(self, files: int, stored: int, removed: int, freed: int, seconds: float) -> None:
        self.sweeps += 1

    def clock_doubted(self, expired: int, files: int) -> None:
        self.doubts.append((expired, files))


class Yard:
    """A store with its janitors, whose clocks are ``ahead`` and ``steady`` seconds ahead of the machine's."""

    def __init__(self, store: Path, ages: tuple[AgeRule, ...] = ()) -> None:
        self.ahead = 0.0
        self.steady = 0.0
        self.boot = 1
        self.policy = Policy(ages)
        self.shelf = Shelf(store, wall=lambda: time.time() + self.ahead)
        self.tier = MemoryTier()
        self.recorder = Recorder(self.tier, retry.Schedule(0, 0), lambda: 0.0, lambda _: None)
        self.told = Told()

    def clocks(self) -> Moment:
        return Moment(time.time() + self.ahead, time.monotonic() + self.steady, self.boot)

    def janitor(
        self,
        interval: float = 1000.0,
        holder: str = "here",
        tidying: float | None = None,
        *,
        removes: bool = True,
        counted: Callable[[int], None] | None = None,
    ) -> Janitor:
        store, storage = str(self.shelf.store), self.shelf.storage
        graves = LocalGraves(store, storage.disk)
        leftovers = LocalLeftovers(store, storage.disk, time.time)
        grounds = Grounds(LocalShelf(storage, store, graves), leftovers, graves, self.shelf.partials)
        means = Means(grounds, self.policy, self.recorder, self.told, time.monotonic, removes)
        schedule = Schedule(interval, interval if tidying is None else tidying)
        return Janitor(means, SweepFile(store), self.tier, holder, schedule, self.clocks, counted=counted)

    def later(self, seconds: float) -> None:
        """Time passes, on every clock."""
        self.ahead += seconds
        self.steady += seconds

    def files(self, count: int, age: float, start: int = 0) -> None:
        """Stored files, ``age`` seconds before the machine's own time."""
        moment = time.time() - age
        for number in range(start, start + count):
            place = self.shelf.store / f"id-{number}" / "file"
            place.parent.mkdir()
            place.write_bytes(b"hello")
            os.utime(place, (moment, moment))

    def stored(self) -> list[Path]:
        return list(self.shelf.store.glob("id-*/file"))

    def begin(self, token: str, path: str) -> str:
        """An upload that shared state knows of; its key."""
        made = header(token, path=path)
        self.shelf.begin(made, (0, 10)).close()
        row = SessionRow(made.key, path, 100, 10, "image/jpeg", "session", 0, 1 << 40)
        self.tier.save_sessions([row])
        return made.key

    def known(self) -> set[str]:
        self.recorder.flush()
        return {row.key for row in self.tier.list_sessions(0, 100)}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    built = Yard(tmp_path / "store")
    yield built
    built.shelf.close()


def test_an_expired_upload_goes_from_disk_and_state_and_is_told(yard: Yard) -> None:
    old = yard.begin("token-of-client-1", "a/b.jpg")
    janitor = yard.janitor()
    janitor.look()
    assert yard.known() == {old}
    yard.later(TTL + 10)

    janitor.look()

    assert yard.told.expired == ["a/b.jpg"]
    assert yard.known() == set()
    assert yard.shelf.names() == []


def test_each_look_tells_when_the_store_was_last_counted_whoever_did_it(yard: Yard) -> None:
    told: list[int] = []
    here = yard.janitor(holder="here", counted=told.append)
    here.look()
    yard.later(500)
    yard.janitor(holder="there").sweep()

    here.look()

    assert 500_000 <= told[1] - told[0] < 600_000


def test_all_slots_of_a_store_are_swept_in_one_go(yard: Yard) -> None:
    for number in range(12):
        yard.begin(f"token-number-{number:02}", f"{number}/b.jpg")
    yard.ahead = TTL + 10

    yard.janitor().look()

    assert len(yard.told.expired) == 12
    assert yard.known() == set()
    assert yard.shelf.names() == []
    assert yard.shelf.folders() == []


def test_while_another_process_has_its_turn_nothing_is_swept(tmp_path: Path, yard: Yard) -> None:
    yard.begin("token-of-client-1", "a/b.jpg")
    yard.ahead = TTL + 10

    with SweepFile(str(tmp_path / "store")).turn() as is_theirs:
        assert is_theirs
        yard.janitor().look()
        assert yard.told.expired == []

    yard.janitor().look()
    assert yard.told.expired == ["a/b.jpg"]


@contextmanager
def running(janitor: Janitor) -> Iterator[None]:
    janitor.start()
    janitor.start()  # twice is harmless
    try:
        yield
    finally:
        janitor.stop()
        until(lambda: not any(thread.name == "janitor" for thread in threading.enumerate()), "the janitor has ended")


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.01)


@pytest.mark.usefixtures("in_no_time")
def test_it_sweeps_by_itself_again_and_again(yard: Yard) -> None:
    with running(yard.janitor(0.01)):
        assert sum(thread.name == "janitor" for thread in threading.enumerate()) == 1
        for number in range(3):
            yard.ahead = 0.0
            yard.begin(f"token-of-client-{number}", f"{number}/b.jpg")
            yard.ahead = TTL + 10
            until(lambda number=number: len(yard.told.expired) == number + 1, "it is swept")  # type: ignore[misc]


@pytest.mark.usefixtures("in_no_time")
def test_a_sweep_that_fails_is_told_and_the_next_one_tries_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.begin("token-of-client-1", "a/b.jpg")
    yard.ahead = TTL + 10
    real = os.scandir

    def fail(path: str) -> list[str]:
        raise OSError(5, "Input/output error")

    with running(yard.janitor(0.01)):
        monkeypatch.setattr(os, "scandir", fail)
        until(lambda: len(yard.told.failures) >= 2, "two sweeps have failed")
        monkeypatch.setattr(os, "scandir", real)
        until(lambda: yard.told.expired, "the next one succeeds")

    assert set(yard.told.failures) == {StorageFailed.__name__}
    assert yard.told.expired == ["a/b.jpg"]


@pytest.mark.usefixtures("in_no_time")
def test_an_unforeseen_error_is_told_and_does_not_end_it(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.begin("token-of-client-1", "a/b.jpg")
    yard.ahead = TTL + 10
    errors = [ValueError("unforeseen"), RecursionError("deep"), OverflowError("inf")]
    real = SweepFile.load

    def load(notes: SweepFile) -> Swept:
        if errors:
            raise errors.pop()
        return real(notes)

    monkeypatch.setattr(SweepFile, "load", load)
    with running(yard.janitor(0.01)):
        until(lambda: yard.told.expired, "the next one succeeds")

    assert yard.told.failures[:3] == ["OverflowError", "RecursionError", "ValueError"]


@pytest.mark.usefixtures("in_no_time")
def test_damaged_files_do_not_end_it(yard: Yard) -> None:
    yard.begin("token-of-client-1", "a/b.jpg")
    for journal in yard.shelf.store.rglob("??/*/*.log"):
        content = journal.read_bytes()
        journal.write_bytes(content[:16] + b"\x09" + content[17:])
    yard.begin("token-of-client-2", "c/d.jpg")
    yard.ahead = TTL + 10

    with running(yard.janitor(0.01)):
        until(lambda: yard.shelf.names() == [], "everything is swept")

    assert yard.told.expired == ["c/d.jpg"]
    assert yard.told.failures == []


def test_it_looks_once_a_minute_and_never_more_often_than_once_a_second() -> None:
    assert Schedule(0.0, 0.0).look == 1.0
    assert Schedule(30.0, 40.0).look == 30.0
    assert Schedule(3600.0, 21600.0).look == 60.0


# --- who sweeps, and when ---


def test_a_sweep_of_a_store_is_due_once_in_an_interval_whoever_does_it(yard: Yard) -> None:
    one, other = yard.janitor(), yard.janitor(holder="there")

    one.look()
    other.look()
    assert yard.told.sweeps == 1
    yard.later(1001)
    other.look()
    one.look()

    assert yard.told.sweeps == 2


def test_while_another_host_has_the_lease_nothing_is_swept(yard: Yard) -> None:
    now = int(time.time())
    yard.tier.lease(LEASE, "there", 60, now)
    janitor = yard.janitor()

    janitor.look()
    assert yard.told.sweeps == 0
    assert janitor.sweep() is None
    yard.tier.lease(LEASE, "there", 0, now)
    janitor.look()

    assert yard.told.sweeps == 1


def test_unfinished_uploads_go_in_their_time_while_somebody_else_has_the_lease(yard: Yard) -> None:
    yard.begin("token-of-client-1", "a/b.jpg")
    yard.janitor(tidying=10.0).look()
    yard.later(TTL + 1001)
    yard.tier.lease(LEASE, "a worker that was killed in its sweep", 60, int(time.time() + yard.ahead))

    yard.janitor(tidying=10.0).look()
    yard.janitor(tidying=10.0).look()  # not due again

    assert (yard.told.sweeps, yard.told.expired) == (1, ["a/b.jpg"])


def test_a_clock_that_has_run_ahead_removes_no_unfinished_upload_without_the_lease_either(aged: Yard) -> None:
    aged.begin("token-of-client-1", "a/b.jpg")
    aged.later(1001)
    aged.ahead += 365 * 86400
    aged.tier.lease(LEASE, "there", 60, int(time.time() + aged.ahead))

    aged.janitor(tidying=10.0).look()

    assert (aged.told.sweeps, aged.told.expired) == (1, [])


def test_the_lease_is_given_back_after_a_sweep(yard: Yard) -> None:
    yard.janitor().look()

    assert yard.tier.lease(LEASE, "there", 60, int(time.time()))


def test_where_no_tier_answers_the_lock_on_the_store_decides(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> bool:
        raise StateUnavailable("no tier")

    monkeypatch.setattr(yard.tier, "lease", fail)
    monkeypatch.setattr(yard.tier, "purge", fail)

    yard.janitor().look()

    assert yard.told.sweeps == 1
    assert yard.told.failures == []


def test_a_sweep_that_loses_its_lease_ends(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", -1.0)  # at each rest
    yard.files(200, age=0)
    answers = iter([True, True])
    monkeypatch.setattr(yard.tier, "lease", lambda *_args: next(answers, False))

    report = yard.janitor().sweep()

    assert report is not None
    assert not report.is_complete


def test_a_janitor_that_was_stopped_ends_its_sweep_with_the_next_batch(yard: Yard) -> None:
    yard.policy = Policy((AgeRule("FileTTL", 10),))
    yard.files(200, age=100)
    janitor = yard.janitor()
    janitor.stop()

    report = janitor.sweep()

    assert report is not None
    assert not report.is_complete
    assert len(yard.stored()) == 200


def test_rows_of_shared_state_that_are_over_are_purged(yard: Yard) -> None:
    yard.tier.save_sessions([SessionRow("a" * 64, "a", 1, 0, "", "tus", 0, int(time.time()) - 10)])

    yard.janitor().look()

    assert yard.tier.list_sessions(0, 10) == []


def test_chores_are_done_with_each_sweep(yard: Yard) -> None:
    done: list[str] = []
    janitor = yard.janitor()

    def chore(name: str) -> Iterator[str]:
        done.append(name)
        yield name

    janitor._chores = (lambda: chore("one"), lambda: chore("two"))

    janitor.look()
    janitor.look()
    assert done == ["one", "two"]
    yard.later(1001)
    janitor.look()

    assert done == ["one", "two"] * 2


def test_chores_end_with_the_job_in_which_the_process_is_told_to_end(yard: Yard) -> None:
    done: list[int] = []
    janitor = yard.janitor()

    def long_chore() -> Iterator[int]:
        for number in range(1000):
            done.append(number)
            if number == 2:
                janitor.stop()
            yield number

    janitor._chores = (long_chore, long_chore)

    janitor.look()

    assert done == [0, 1, 2]


# --- a clock that is wrong ---

WEEK = 7 * 86400.0


@pytest.fixture
def aged(yard: Yard) -> Yard:
    """A store with an age rule of 30 days, swept a moment ago, with 120 files of a week."""
    yard.policy = Policy((AgeRule("FileTTL", 30 * 86400),))
    yard.files(120, age=WEEK)
    yard.janitor().look()
    assert len(yard.stored()) == 120
    return yard


def test_a_clock_that_has_run_ahead_deletes_nothing_by_age(aged: Yard) -> None:
    aged.later(1001)
    aged.ahead += 365 * 86400

    aged.janitor().look()

    assert aged.told.doubts == [(120, 120)]
    assert len(aged.stored()) == 120


def test_it_goes_on_doubting_until_somebody_says_that_the_clock_is_right(aged: Yard) -> None:
    aged.ahead += 365 * 86400
    for _ in range(3):
        aged.later(1001)
        aged.janitor().look()
    assert len(aged.told.doubts) == 3

    report = aged.janitor().sweep(force=True)

    assert report is not None
    assert (report.removed, aged.stored()) == (120, [])
    aged.files(120, age=-365 * 86400)
    aged.later(31 * 86400)
    aged.janitor().look()
    assert len(aged.told.doubts) == 3
    assert aged.stored() == []


def test_a_clock_that_was_set_right_again_is_believed_again(aged: Yard) -> None:
    aged.ahead += 365 * 86400
    aged.later(1001)
    aged.janitor().look()
    aged.ahead -= 365 * 86400
    aged.later(30 * 86400)

    aged.janitor().look()

    assert len(aged.told.doubts) == 1
    assert aged.stored() == []


def test_what_has_really_passed_is_believed(aged: Yard) -> None:
    aged.later(365 * 86400)

    aged.janitor().look()

    assert aged.told.doubts == []
    assert aged.stored() == []


def test_after_a_boot_thirty_days_may_have_passed(aged: Yard) -> None:
    aged.boot, aged.ahead = 2, 29 * 86400.0
    aged.janitor().look()

    assert (aged.told.doubts, aged.stored()) == ([], [])


def test_after_a_boot_more_than_thirty_days_are_doubted(aged: Yard) -> None:
    aged.boot, aged.ahead = 2, 31 * 86400.0
    aged.janitor().look()

    assert aged.told.doubts == [(120, 120)]
    assert len(aged.stored()) == 120


def test_where_less_than_half_would_go_a_clock_that_has_run_ahead_is_believed(aged: Yard) -> None:
    aged.files(120, age=-365 * 86400, start=1000)
    aged.ahead += 365 * 86400
    aged.later(1001)

    aged.janitor().look()

    assert aged.told.doubts == []
    assert len(aged.stored()) == 120


def test_a_doubted_clock_removes_no_unfinished_upload_in_a_sweep(aged: Yard) -> None:
    aged.begin("token-of-client-1", "a/b.jpg")
    aged.later(1001)
    aged.ahead += 365 * 86400

    aged.janitor().look()
    assert (aged.told.doubts, aged.told.expired) == ([(120, 120)], [])
    assert len(aged.shelf.names()) > 0
    aged.janitor().sweep(force=True)

    assert aged.told.expired == ["a/b.jpg"]


def test_a_clock_that_has_run_ahead_removes_no_unfinished_upload_before_a_sweep_has_judged_it(aged: Yard) -> None:
    aged.begin("token-of-client-1", "a/b.jpg")
    aged.later(11)
    aged.ahead += 365 * 86400
    janitor = aged.janitor(tidying=10.0)

    janitor.look()

    assert (aged.told.sweeps, aged.told.expired) == (1, [])
    aged.ahead -= 365 * 86400
    aged.later(TTL)
    aged.janitor(interval=10_000, tidying=10.0).look()
    assert (aged.told.sweeps, aged.told.expired) == (1, ["a/b.jpg"])


def test_a_plan_with_a_doubted_clock_names_no_unfinished_upload(aged: Yard) -> None:
    aged.begin("token-of-client-1", "a/b.jpg")
    aged.ahead += 365 * 86400

    report = aged.janitor(removes=False).plan()

    assert (report.uploads, aged.told.expired, aged.told.doubts) == (0, [], [(120, 120)])


def test_a_plan_doubts_too_and_notes_nothing(aged: Yard) -> None:
    before = SweepFile(str(aged.shelf.store)).load()
    aged.ahead += 365 * 86400

    report = aged.janitor().plan()

    assert (report.removed, aged.told.doubts) == (0, [(120, 120)])
    assert SweepFile(str(aged.shelf.store)).load() == before


# --- what is left is noted ---


def test_a_sweep_notes_what_it_left(yard: Yard) -> None:
    yard.files(3, age=5)

    yard.janitor().sweep()

    stock = SweepFile(str(yard.shelf.store)).load().stock
    assert (stock.files, stock.stored, stock.versions) == (3, 15, 0)
    assert stock.counted_ms == pytest.approx(time.time() * 1000, abs=60_000)


def test_what_was_noted_stands_until_the_next_sweep_has_ended(yard: Yard) -> None:
    yard.files(3, age=5)
    yard.janitor().sweep()
    noted = SweepFile(str(yard.shelf.store)).load().stock
    ended = yard.janitor()
    ended.stop()

    ended.sweep()

    assert SweepFile(str(yard.shelf.store)).load().stock == noted


def test_a_sweep_that_fails_is_noted_until_one_comes_to_its_end(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = SweepFile(str(yard.shelf.store))
    janitor = yard.janitor()
    monkeypatch.setattr(module.Sweep, "run", failing)

    with pytest.raises(StorageFailed):
        janitor.sweep()
    after_failure = notes.load()
    monkeypatch.undo()
    janitor.sweep()

    assert after_failure.trouble == "storage-failed"
    assert after_failure.last is not None
    assert notes.load().trouble == ""


def test_a_sweep_that_was_ended_before_its_time_says_nothing_about_a_trouble(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = SweepFile(str(yard.shelf.store))
    monkeypatch.setattr(module.Sweep, "run", failing)
    with pytest.raises(StorageFailed):
        yard.janitor().sweep()
    monkeypatch.undo()
    yard.files(200, age=0)
    ended = yard.janitor()
    ended.stop()

    report = ended.sweep()

    assert report is not None
    assert not report.is_complete
    assert notes.load().trouble == "storage-failed"


def failing(*_args: object, **_more: object) -> None:
    raise StorageFailed("Input/output error")
