"""What becomes of the workers that a reload replaces."""

import signal
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.arbiter import Arbiter

from hmacfs.server import turnover
from hmacfs.server.master import Master
from hmacfs.server.turnover import TurningArbiter

GRACEFUL_SECONDS = 35


class Site:
    """A master with two workers. Attributes: sent: signals, as (process, number); now: monotonic seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.sent: list[tuple[int, int]] = []
        self.gone: set[int] = set()
        options = {"bind": "127.0.0.1:0", "errorlog": None, "workers": 2, "timeout": 0}
        self.arbiter: Any = Arbiter(Master(lambda: options, lambda: None))
        self.arbiter.log = Mock()
        self.arbiter.WORKERS = {}
        self._fork(2)
        self.answers: list[bool | None] = []
        TurningArbiter.become(self.arbiter, 4, lambda: self.answers.pop(0))
        monkeypatch.setattr(turnover.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(self.arbiter, "kill_worker", lambda pid, number: self.sent.append((pid, number)))
        monkeypatch.setattr(Arbiter, "reload", lambda _arbiter: self._reload())
        monkeypatch.setattr(Arbiter, "reap_workers", lambda _arbiter: self._reap())
        monkeypatch.setattr(Arbiter, "spawn_workers", lambda _arbiter: self._spawn())

    def _fork(self, count: int) -> None:
        for _ in range(count):
            self.arbiter.worker_age += 1
            cfg = SimpleNamespace(graceful_timeout=GRACEFUL_SECONDS)
            self.arbiter.WORKERS[100 + self.arbiter.worker_age] = SimpleNamespace(age=self.arbiter.worker_age, cfg=cfg)

    def _reload(self) -> None:
        """gunicorn's: it forks, and goes on to wait as long as it knows an old worker."""
        before = self.arbiter.worker_age
        self._fork(2)
        assert all(worker.age > before for worker in self.arbiter.WORKERS.values()), "it waits for them"

    def _reap(self) -> None:
        for pid in self.gone:
            self.arbiter.WORKERS.pop(pid, None)

    def _spawn(self) -> None:
        self._fork(self.arbiter.num_workers - len(self.arbiter.WORKERS))

    @property
    def workers(self) -> list[int]:
        """Those that serve."""
        return sorted(self.arbiter.WORKERS)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_a_reload_returns_at_once_and_tells_the_old_workers_to_end_once(site: Site) -> None:
    site.arbiter.reload()
    site.arbiter.manage_workers()
    site.arbiter.murder_workers()

    assert site.workers == [103, 104]
    assert site.sent == [(101, signal.SIGTERM), (102, signal.SIGTERM)]


def test_a_new_worker_that_dies_is_replaced_and_an_old_one_that_ends_is_not(site: Site) -> None:
    site.arbiter.reload()
    site.gone = {101, 103}

    site.arbiter.reap_workers()
    site.arbiter.manage_workers()

    assert site.workers == [104, 105]


def test_an_old_worker_that_has_not_ended_in_time_is_killed(site: Site) -> None:
    site.arbiter.reload()
    site.gone = {101}
    site.arbiter.reap_workers()
    site.sent.clear()

    site.now += GRACEFUL_SECONDS
    site.arbiter.murder_workers()
    assert site.sent == []

    site.now += 1
    site.arbiter.murder_workers()
    assert site.sent == [(102, signal.SIGKILL)]


def test_the_logs_of_old_workers_are_opened_anew_too(site: Site) -> None:
    site.arbiter.reload()
    site.sent.clear()

    site.arbiter.kill_workers(signal.SIGUSR1)

    assert sorted(site.sent) == [(pid, signal.SIGUSR1) for pid in (101, 102, 103, 104)]
    assert site.workers == [103, 104]


def test_a_stop_is_a_stop_for_old_and_new(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[list[int]] = []
    monkeypatch.setattr(Arbiter, "stop", lambda arbiter, graceful: stopped.append(site.workers))
    site.arbiter.reload()

    site.arbiter.stop()

    assert stopped == [[101, 102, 103, 104]]


def test_a_reload_is_made_only_when_it_can_succeed(site: Site) -> None:
    site.answers = [False, True]

    site.arbiter.handle_hup()
    assert site.workers == [101, 102]

    site.arbiter.handle_hup()
    assert site.workers == [103, 104]


def test_while_nobody_knows_whether_a_reload_can_succeed_the_main_loop_goes_on_and_asks_again(site: Site) -> None:
    site.answers = [None, None, True]

    site.arbiter.handle_hup()
    site.arbiter.murder_workers()
    assert site.workers == [101, 102]

    site.arbiter.murder_workers()
    site.arbiter.murder_workers()
    assert site.workers == [103, 104]


def test_a_signal_that_comes_while_an_older_configuration_is_tried_is_handled_afterwards(site: Site) -> None:
    site.answers = [None, False, True]
    site.arbiter.handle_hup()

    site.arbiter.handle_hup()
    assert site.workers == [101, 102]

    site.arbiter.murder_workers()
    site.arbiter.murder_workers()
    assert site.workers == [103, 104]
    assert site.answers == []


def test_a_reload_waits_where_too_many_of_earlier_ones_have_not_ended_and_several_become_one(site: Site) -> None:
    site.answers = [True, True, True]
    site.arbiter.handle_hup()
    site.arbiter.handle_hup()
    assert site.workers == [105, 106]

    site.arbiter.handle_hup()
    site.arbiter.handle_hup()
    site.arbiter.murder_workers()
    assert site.workers == [105, 106]
    site.arbiter.log.warning.assert_called_once()

    site.gone = {101, 102}
    site.arbiter.reap_workers()
    site.arbiter.murder_workers()
    site.arbiter.murder_workers()
    assert site.workers == [107, 108]
