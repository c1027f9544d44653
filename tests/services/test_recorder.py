"""Facts written behind the answer: in batches, in their order, bounded, tried again, and told when they are lost."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from hmacfs.core.retry import Schedule
from hmacfs.errors import StateUnavailable
from hmacfs.services import recorder
from hmacfs.services.recorder import BATCH, MOST_FACTS, Recorder
from hmacfs.state.base import END_SECONDS, FileRow, Grant, Reservation, SessionRow, milliseconds
from hmacfs.state.memory import MemoryTier
from tests.support.polling import PATIENCE, until

KEY = "0123456789abcdef" * 4
STARTED = 1_700_000_000.25
NOW = 1_700_000_100.5


def file_row(path: str, size: int = 1, stored_us: int = 1_700_000_000_000_000) -> FileRow:
    return FileRow(path, size, "image/jpeg", "", "", stored_us, 0)


def session_row(key: str = KEY, offset: int = 0, started: float = STARTED) -> SessionRow:
    begun = milliseconds(started)
    return SessionRow(key, "id/film.mkv", 1000, offset, "video/x-matroska", "session", begun, 1_700_086_400)


class Tier(MemoryTier):
    """Counts its calls, and fails as long as it is told to.

    Attributes:
        failures: how many calls fail from now on, and with what.
        calls: the verb and how many it was given.
        held: verbs wait for it, where it is there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []
        self.calls: list[tuple[str, int]] = []
        self.held: threading.Event | None = None

    def record_files(self, rows: Sequence[FileRow]) -> None:
        self._met("record", rows)
        super().record_files(rows)

    def forget_files(self, paths: Sequence[str]) -> None:
        self._met("forget", paths)
        super().forget_files(paths)

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        self._met("save", rows)
        super().save_sessions(rows)

    def _met(self, verb: str, given: Sequence[Any]) -> None:
        self.calls.append((verb, len(given)))
        if self.held is not None:
            assert self.held.wait(PATIENCE)
        if self.failures:
            raise self.failures.pop(0)

    def paths(self) -> list[str]:
        return [row.path for row in self.list_files("", 1000)]


class House:
    """A recorder over a tier, and what it warned of."""

    def __init__(self, retries: int = 5, first: float = 2) -> None:
        self.tier = Tier()
        self.warnings: list[str] = []
        self.recorder = Recorder(self.tier, Schedule(retries, first), lambda: 0.0, self.warnings.append, lambda: NOW)

    def store(self, count: int, start: int = 0) -> None:
        for number in range(start, start + count):
            self.recorder.file_stored(file_row(f"{number:06}"))


@pytest.fixture
def house() -> House:
    return House()


class InstantEvent(threading.Event):
    """Waiting is over at once; knows for how long it was meant to be."""

    waited: list[float | None] = []  # noqa: RUF012 - replaced by each test

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return self.is_set()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """How long a recorder that is made from now on meant to wait; it never really does."""
    waited: list[float | None] = []
    monkeypatch.setattr(InstantEvent, "waited", waited)
    monkeypatch.setattr(recorder, "threading", SimpleNamespace(Event=InstantEvent, Thread=threading.Thread))
    return waited


@pytest.fixture
def started() -> Iterator[Callable[[House], House]]:
    """Starts a recorder and ends it after the test."""
    houses: list[House] = []

    def start(house: House) -> House:
        houses.append(house)
        house.recorder.start()
        return house

    yield start
    for house in houses:
        house.tier.held = None
        house.recorder.stop()


# --- batches ---


def test_taking_a_fact_calls_no_tier(house: House) -> None:
    house.recorder.file_stored(file_row("id/cat.jpg"))
    house.recorder.file_gone("id/dog.jpg")
    house.recorder.session_changed(session_row())
    house.recorder.session_ended(KEY, STARTED)

    assert house.tier.calls == []
    assert house.recorder.queued == 4


def test_every_kind_of_fact_arrives(house: House) -> None:
    house.tier.record_files([file_row("id/old.jpg")])
    house.tier.save_sessions([session_row("f" * 64)])

    house.recorder.file_stored(file_row("id/cat.jpg"))
    house.recorder.file_gone("id/old.jpg")
    house.recorder.session_changed(session_row())
    house.recorder.session_ended("f" * 64, STARTED)
    house.recorder.flush()

    assert house.tier.list_files("", 10) == [file_row("id/cat.jpg")]
    assert house.tier.list_sessions(0, 10) == [session_row()]
    assert house.recorder.queued == 0


def test_facts_of_one_kind_are_one_call(house: House) -> None:
    house.store(30)

    house.recorder.flush()

    assert house.tier.calls == [("record", 30)]


def test_a_batch_has_five_hundred_facts_at_most(house: House) -> None:
    house.store(1200)

    house.recorder.flush()

    assert house.tier.calls == [("record", 500), ("record", 500), ("record", 200)]


def test_the_newest_fact_about_a_path_wins_in_a_batch(house: House) -> None:
    house.recorder.file_stored(file_row("id/cat.jpg", 1))
    house.recorder.file_gone("id/dog.jpg")
    house.recorder.file_stored(file_row("id/cat.jpg", 2))
    house.recorder.file_stored(file_row("id/dog.jpg", 3))
    house.recorder.file_stored(file_row("id/owl.jpg", 4))
    house.recorder.file_gone("id/owl.jpg")

    house.recorder.flush()

    assert house.tier.calls == [("record", 2), ("forget", 1)]
    assert house.tier.list_files("", 10) == [file_row("id/cat.jpg", 2), file_row("id/dog.jpg", 3)]


def test_the_newest_fact_about_an_upload_wins_in_a_batch(house: House) -> None:
    for offset in range(100):
        house.recorder.session_changed(session_row(offset=offset))

    house.recorder.flush()

    assert house.tier.calls == [("save", 1)]
    assert house.tier.find_session(KEY, 0) == session_row(offset=99)


def test_the_end_of_an_upload_is_a_row_that_says_which_upload_it_was(house: House) -> None:
    written: list[SessionRow] = []
    house.tier.save_sessions = written.extend  # type: ignore[method-assign, assignment]

    house.recorder.session_ended(KEY, STARTED)
    house.recorder.flush()

    (row,) = written
    assert (row.key, row.is_over, row.started_ms) == (KEY, True, 1_700_000_000_250)
    assert row.expires_at == int(NOW) + END_SECONDS


def test_a_fact_that_was_told_late_does_not_undo_a_newer_one(house: House) -> None:
    other = "f" * 64
    house.recorder.session_changed(session_row(offset=7))
    house.recorder.session_ended(other, STARTED)

    house.recorder.session_changed(session_row(offset=3))
    house.recorder.session_changed(session_row(other, offset=9))
    house.recorder.flush()

    assert house.tier.calls == [("save", 2)]
    assert house.tier.list_sessions(0, 10) == [session_row(offset=7)]


def test_a_fact_that_was_told_in_a_later_batch_does_not_undo_a_newer_one(house: House) -> None:
    house.recorder.session_ended(KEY, STARTED)
    house.recorder.flush()

    house.recorder.session_changed(session_row(offset=9))
    house.recorder.flush()

    assert house.tier.list_sessions(0, 10) == []


def test_an_upload_that_begins_anew_under_its_key_is_known_after_the_end_of_the_first(house: House) -> None:
    again = session_row(offset=1, started=STARTED + 0.125)
    house.recorder.session_changed(session_row(offset=9))
    house.recorder.session_changed(again)

    house.recorder.session_ended(KEY, STARTED)
    house.recorder.flush()

    assert house.tier.list_sessions(0, 10) == [again]


def test_a_path_and_a_key_that_are_spelled_alike_are_two_subjects(house: House) -> None:
    house.recorder.file_stored(file_row(KEY))
    house.recorder.session_changed(session_row(KEY))

    house.recorder.flush()

    assert house.tier.find_file(KEY) is not None
    assert house.tier.find_session(KEY, 0) is not None


def test_the_order_is_kept_over_batches(house: House) -> None:
    house.recorder.file_stored(file_row("id/cat.jpg", 1))
    house.store(BATCH)
    house.recorder.file_gone("id/cat.jpg")
    house.store(BATCH)
    house.recorder.file_stored(file_row("id/cat.jpg", 2))

    house.recorder.flush()

    assert house.tier.find_file("id/cat.jpg") == file_row("id/cat.jpg", 2)


# --- the bound ---


def test_over_twenty_thousand_facts_the_oldest_are_dropped_and_counted(house: House) -> None:
    house.store(MOST_FACTS + 7)

    assert house.recorder.queued == MOST_FACTS == 20_000
    assert house.recorder.dropped == 7
    house.recorder.flush()
    assert house.tier.find_file("000006") is None
    assert house.tier.find_file("000007") is not None


def test_a_loss_is_one_warning_that_names_the_cure(house: House) -> None:
    house.store(MOST_FACTS + 7)

    house.recorder.flush()

    assert len(house.warnings) == 2
    assert "lost" in house.warnings[0]
    assert "`hmacfs reindex` rebuilds the catalogue" in house.warnings[0]
    assert "written again; 7 facts were lost" in house.warnings[1]


def test_the_next_loss_is_told_again(house: House) -> None:
    house.store(MOST_FACTS + 7)
    house.recorder.flush()
    house.store(MOST_FACTS + 1)

    house.recorder.flush()

    assert len(house.warnings) == 4
    assert house.recorder.dropped == 8


# --- failures ---


def test_a_batch_that_cannot_be_written_is_tried_again_after_delays_that_double(waited: list[float | None]) -> None:
    house = House(retries=5, first=2)
    house.tier.failures = [StateUnavailable()] * 4
    house.store(3)

    house.recorder.flush()

    assert waited == [2, 4, 8, 16]
    assert house.tier.paths() == ["000000", "000001", "000002"]
    assert (house.warnings, house.recorder.dropped) == ([], 0)


def test_a_batch_is_dropped_after_its_last_retry_and_the_next_one_is_tried(waited: list[float | None]) -> None:
    house = House(retries=2, first=1)
    house.tier.failures = [StateUnavailable()] * 3
    house.store(BATCH + 1)

    house.recorder.flush()

    assert waited == [1, 2]
    assert house.tier.paths() == [f"{BATCH:06}"]
    assert house.recorder.dropped == BATCH
    assert len(house.warnings) == 2


def test_many_dropped_batches_are_one_warning() -> None:
    house = House(retries=0)
    house.tier.failures = [StateUnavailable()] * 100
    house.store(3 * BATCH)

    house.recorder.flush()

    assert house.recorder.dropped == 3 * BATCH
    (warning,) = house.warnings
    assert "no tier can be written" in warning


def test_a_worker_that_tells_late_of_a_file_does_not_undo_what_another_told_of_its_replacement() -> None:
    first, second = House(), House()
    second.recorder._state = first.tier
    old, new = file_row("id/cat.jpg", 30, stored_us=1000), file_row("id/cat.jpg", 5, stored_us=1001)
    first.recorder.file_stored(old)
    second.recorder.file_stored(new)

    second.recorder.flush()
    first.recorder.flush()

    assert first.tier.find_file("id/cat.jpg") == new


def test_a_request_that_tells_late_of_a_file_does_not_undo_what_another_told_of_its_replacement() -> None:
    house = House()
    new = file_row("id/cat.jpg", 5, stored_us=1001)
    house.recorder.file_stored(new)
    house.recorder.file_stored(file_row("id/cat.jpg", 30, stored_us=1000))

    house.recorder.flush()

    assert house.tier.find_file("id/cat.jpg") == new


def test_a_file_that_took_a_path_which_became_free_is_told_whenever_its_body_came() -> None:
    house = House()
    older = file_row("id/cat.jpg", 5, stored_us=1)
    house.recorder.file_stored(file_row("id/cat.jpg"))
    house.recorder.file_gone("id/cat.jpg")
    house.recorder.file_stored(older)

    house.recorder.flush()

    assert house.tier.find_file("id/cat.jpg") == older


def test_a_batch_that_failed_half_way_is_written_as_a_whole(waited: list[float | None]) -> None:
    house = House()
    house.tier.save_sessions([session_row()])
    house.recorder.file_stored(file_row("id/cat.jpg"))
    house.recorder.session_ended(KEY, STARTED)
    end = house.tier.save_sessions
    failures: list[Exception] = [StateUnavailable()]

    def fail_once(rows: Sequence[SessionRow]) -> None:
        if failures:
            raise failures.pop()
        end(rows)

    house.tier.save_sessions = fail_once  # type: ignore[method-assign]
    house.recorder.flush()

    assert house.tier.paths() == ["id/cat.jpg"]
    assert house.tier.find_session(KEY, 0) is None


def test_what_the_tier_says_is_in_no_warning() -> None:
    house = House(retries=0)
    house.tier.failures = [StateUnavailable("password=hunter2")]
    house.store(1)

    house.recorder.flush()

    assert house.warnings
    assert "hunter2" not in "".join(house.warnings)


def test_an_unforeseen_error_ends_a_batch_and_not_the_recorder(started: Callable[[House], House]) -> None:
    house = House()
    house.tier.failures = [ZeroDivisionError("hunter2")]
    house.store(1)

    started(house)
    until(lambda: house.recorder.dropped == 1, "the batch is given up")
    house.store(1, start=1)
    until(lambda: house.tier.paths() == ["000001"], "the next one is written")

    assert "ZeroDivisionError" in house.warnings[0]
    assert "hunter2" not in "".join(house.warnings)


# --- beginning and end ---


def test_nothing_runs_before_the_start(house: House) -> None:
    before = threading.active_count()

    house.store(BATCH + 1)

    assert threading.active_count() == before
    assert house.tier.calls == []


def test_a_fact_is_written_soon_after_the_start(house: House, started: Callable[[House], House]) -> None:
    started(house)

    house.store(1)

    until(lambda: house.tier.paths() == ["000000"], "the fact is written")


def test_five_hundred_facts_do_not_wait_for_the_time_to_pass(
    started: Callable[[House], House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 10 * PATIENCE)
    house = started(House())

    house.store(BATCH)

    until(lambda: len(house.tier.paths()) == BATCH, "they are written")


def test_starting_twice_starts_one_thread(house: House, started: Callable[[House], House]) -> None:
    started(house)
    count = threading.active_count()

    house.recorder.start()

    assert threading.active_count() == count


def test_taking_facts_never_waits_for_a_tier_that_hangs(house: House, started: Callable[[House], House]) -> None:
    house.tier.held = threading.Event()
    started(house)
    house.store(1)
    until(lambda: house.tier.calls, "the tier hangs")

    house.store(MOST_FACTS + 1, start=1)

    assert house.recorder.dropped == 1
    assert len(house.tier.calls) == 1
    house.tier.held.set()
    until(lambda: not house.recorder.queued, "all is written")


def test_stopping_writes_what_is_queued(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 10 * PATIENCE)
    house.recorder.start()
    house.store(3)

    house.recorder.stop()

    assert len(house.tier.paths()) == 3
    assert house.recorder.queued == 0


def test_stopping_ends_the_wait_for_a_retry_and_tries_once_more() -> None:
    house = House(retries=5, first=10 * PATIENCE)
    house.tier.failures = [StateUnavailable()]
    house.store(1)
    house.recorder.start()
    until(lambda: house.tier.calls, "the first attempt")

    house.recorder.stop()

    assert house.tier.paths() == ["000000"]
    assert (house.recorder.dropped, house.warnings) == (0, [])


def test_what_is_stopped_before_it_ran_writes_all_the_same(house: House) -> None:
    house.store(3)
    house.recorder._ending.set()

    house.recorder._run()

    assert len(house.tier.paths()) == 3


def test_stopping_with_a_dead_tier_drops_at_once() -> None:
    house = House(retries=100, first=10 * PATIENCE)
    house.tier.failures = [StateUnavailable()] * 1000
    house.store(BATCH + 1)
    house.recorder.start()
    until(lambda: house.tier.calls, "the first attempt")

    house.recorder.stop()

    assert house.recorder.dropped == BATCH + 1
    assert len(house.warnings) == 1
    assert len(house.tier.calls) == 3  # before the stop, and once more for each batch


def test_stopping_waits_two_seconds_at_most_for_a_tier_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorder.STOP_SECONDS == 2
    monkeypatch.setattr(recorder, "STOP_SECONDS", 0.05)
    house = House()
    house.tier.held = threading.Event()
    house.store(BATCH + 1)
    house.recorder.start()
    until(lambda: house.tier.calls, "the tier hangs")
    begun = time.monotonic()

    house.recorder.stop()

    assert time.monotonic() - begun < PATIENCE / 2
    assert house.recorder.dropped == BATCH + 1
    assert "ended before they were written" in house.warnings[0]
    house.tier.held.set()


def test_stopping_what_never_started_is_harmless(house: House) -> None:
    house.store(1)

    house.recorder.stop()
    house.recorder.stop()

    assert house.tier.calls == []


# --- quotas ---


def reservation(number: int, owner: str = "") -> Reservation:
    return Reservation("a" * 64, f"{number:064x}", 10, owner, 1_800_000_000)


def counted(house: House) -> None:
    house.tier.count("a" * 64, 0, 0, 0, 1_800_000_000)
    for number in (1, 2, 3):
        assert house.tier.reserve(reservation(number, f"owner{number}"), 100, 0) is Grant.GRANTED


def test_a_file_is_in_the_catalogue_before_its_reservation_is_settled(house: House) -> None:
    counted(house)
    house.tier.failures = [StateUnavailable()]
    house.recorder._schedule = Schedule(0, 0)  # the catalogue fails, and nothing is tried again

    house.recorder.quota_settled(reservation(1))
    house.recorder.file_stored(file_row("a", 10))
    house.recorder.flush()

    assert house.tier.used("a" * 64, 0) == 30
    assert house.tier._reservations.keys() == {reservation(number).key for number in (1, 2, 3)}


def test_settled_and_given_back_reservations_end(house: House) -> None:
    counted(house)

    house.recorder.quota_settled(reservation(1))
    house.recorder.quota_given_back(reservation(2, "owner2"))
    house.recorder.quota_given_back(reservation(3, "another"))
    house.recorder.flush()

    assert house.tier.used("a" * 64, 0) == 20
    assert house.tier._reservations.keys() == {reservation(3).key}


def test_bytes_that_are_given_back_do_not_wait_for_the_time_to_pass(
    started: Callable[[House], House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 10 * PATIENCE)
    house = House()
    counted(house)
    started(house)

    house.recorder.quota_given_back(reservation(2, "owner2"))

    until(lambda: house.tier.used("a" * 64, 0) == 20, "the next upload has them")


def test_who_was_slower_takes_nothing_from_what_is_settled_in_the_same_batch(house: House) -> None:
    counted(house)

    house.recorder.quota_settled(reservation(1))
    house.recorder.quota_given_back(reservation(1, "owner1"))  # of a request whose path was taken meanwhile
    house.recorder.flush()

    assert house.tier._counts["a" * 64][0] == 10


def test_a_file_that_another_worker_tells_of_behind_its_deletion_is_forgotten_all_the_same() -> None:
    tier, now = Tier(), NOW
    storing, deleting = (Recorder(tier, Schedule(0, 0), lambda: 0.0, lambda _: None, lambda: now) for _ in range(2))
    storing.file_stored(file_row("id/a"))
    deleting.file_deleted("id/a")
    deleting.flush()
    storing.flush()

    deleting.repeat(now + recorder.AGAIN_SECONDS - 1)
    deleting.flush()
    known_before = len(list(tier.list_files("", 10)))
    deleting.repeat(now + recorder.AGAIN_SECONDS)
    deleting.flush()

    assert known_before == 1
    assert list(tier.list_files("", 10)) == []
