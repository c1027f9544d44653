"""What is removed when its time is over: by one process at a time, again after an error, and no more after stop."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hmacfs.core.retry import Schedule
from hmacfs.errors import StorageFailed
from hmacfs.services import janitor as module
from hmacfs.services.janitor import Janitor
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.state.base import SessionRow
from hmacfs.state.memory import MemoryTier
from tests.support.polling import until
from tests.support.resuming import TTL, Shelf, header


class Told(Observer):
    def __init__(self) -> None:
        self.expired: list[str] = []
        self.failures: list[str] = []

    def upload_expired(self, name: str) -> None:
        self.expired.append(name)

    def sweep_failed(self, error: BaseException) -> None:
        self.failures.append(type(error).__name__)


class Yard:
    """A store with its janitor, whose clock is ``time`` seconds ahead of the machine's."""

    def __init__(self, store: Path) -> None:
        self.ahead = 0.0
        self.shelf = Shelf(store, wall=lambda: time.time() + self.ahead)
        self.tier = MemoryTier()
        self.recorder = Recorder(self.tier, Schedule(0, 0), lambda: 0.0, lambda _: None)
        self.told = Told()

    def janitor(self, interval: float = 1000.0) -> Janitor:
        partials = self.shelf.partials
        return Janitor(partials, partials.turn, self.recorder, self.told, interval)

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
    janitor.sweep()
    assert yard.known() == {old}
    yard.ahead = TTL + 10

    janitor.sweep()

    assert yard.told.expired == ["a/b.jpg"]
    assert yard.known() == set()
    assert yard.shelf.names() == []


def test_all_slots_of_a_store_are_swept_in_one_go(yard: Yard) -> None:
    for number in range(12):
        yard.begin(f"token-number-{number:02}", f"{number}/b.jpg")
    yard.ahead = TTL + 10

    yard.janitor().sweep()

    assert len(yard.told.expired) == 12
    assert yard.known() == set()
    assert yard.shelf.names() == []
    assert yard.shelf.folders() == []


def test_while_another_process_has_its_turn_nothing_is_swept(tmp_path: Path, yard: Yard) -> None:
    yard.begin("token-of-client-1", "a/b.jpg")
    yard.ahead = TTL + 10
    other = Shelf(tmp_path / "store")

    with other.partials.turn() as is_theirs:
        assert is_theirs
        yard.janitor().sweep()
        assert yard.told.expired == []

    yard.janitor().sweep()
    assert yard.told.expired == ["a/b.jpg"]
    other.close()


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
    real = os.listdir

    def fail(path: str) -> list[str]:
        raise OSError(5, "Input/output error")

    with running(yard.janitor(0.01)):
        monkeypatch.setattr(os, "listdir", fail)
        until(lambda: len(yard.told.failures) >= 2, "two sweeps have failed")
        monkeypatch.setattr(os, "listdir", real)
        until(lambda: yard.told.expired, "the next one succeeds")

    assert set(yard.told.failures) == {StorageFailed.__name__}
    assert yard.told.expired == ["a/b.jpg"]


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


def test_it_never_sweeps_more_often_than_once_a_second(yard: Yard) -> None:
    assert module.LEAST_SECONDS == 1.0
    assert yard.janitor(0.0)._interval == 1.0
    assert yard.janitor(60.0)._interval == 60.0
