"""What we tell gunicorn, it understands; and what we reach into is still there."""

import inspect
import os
import queue
import signal
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

from hmacfs.server import config
from hmacfs.server.config import gunicorn_settings
from hmacfs.server.cpus import usable_cpus
from hmacfs.server.master import Master
from hmacfs.server.reopening import ReopeningLogger
from hmacfs.server.worker import TransferWorker
from hmacfs.settings import Settings
from hmacfs.state.scoreboard import Scoreboard


def nothing(arbiter: Any) -> None: ...


def settings_of(settings: Settings) -> dict[str, Any]:
    return gunicorn_settings(
        settings,
        ["fd://7", "fd://9"],
        Scoreboard(8),
        may_reload=lambda: True,
        when_ready=nothing,
        on_exit=nothing,
    )


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(num_cores=3, log_level="debug", graceful_shutdown_timeout=0)],
    ids=["plain", "other"],
)
def test_gunicorn_accepts_every_setting(settings: Settings) -> None:
    cfg = Config()

    for name, value in settings_of(settings).items():
        cfg.set(name, value)

    assert cfg.address == [7, 9]
    assert issubclass(cfg.worker_class, TransferWorker)
    assert issubclass(cfg.logger_class, ReopeningLogger)


def test_a_setting_that_gunicorn_does_not_know_is_an_error() -> None:
    """Config.set says so; this guards the test above."""
    with pytest.raises(AttributeError):
        Config().set("no_such_setting", 1)


def test_our_settings_arrive() -> None:
    options = settings_of(Settings(num_cores=3, graceful_shutdown_timeout=7))

    assert options["workers"] == 3
    assert options["graceful_timeout"] > 7  # the worker's own drain ends first
    assert options["worker_class"].limits.drain == 7
    assert options["bind"] == ["fd://7", "fd://9"]


def test_auto_is_one_worker_for_each_usable_processor() -> None:
    assert settings_of(Settings())["workers"] == min(8, usable_cpus())


def test_no_access_log_may_show_a_query_string() -> None:
    assert settings_of(Settings())["accesslog"] is None


def test_no_header_of_a_client_changes_the_path() -> None:
    options = settings_of(Settings())

    assert not options["forwarder_headers"]
    assert not options["secure_scheme_headers"]


def test_the_master_hands_the_settings_to_gunicorn() -> None:
    master = Master(lambda: settings_of(Settings(num_cores=5)), lambda: "the application")

    assert master.cfg.workers == 5
    assert master.load() == "the application"


def test_the_master_asks_again_at_a_reload() -> None:
    answers = [settings_of(Settings(num_cores=6)), settings_of(Settings(num_cores=5))]
    master = Master(answers.pop, lambda: None)

    master.reload()

    assert master.cfg.workers == 6


class Ended(Exception):
    """The main loop has come to its end."""


def run_with_signal(arbiter: Arbiter, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn's own main loop, with everything around the handling of one signal taken away."""
    arbiter.log = Mock()
    arbiter.cfg = Mock()
    arbiter.proc_name = "test"
    for name in ("start", "manage_workers", "_start_control_server", "maybe_promote_master", "murder_workers"):
        assert callable(getattr(Arbiter, name)), name
        monkeypatch.setattr(arbiter, name, Mock())
    monkeypatch.setattr(arbiter, "manage_dirty_arbiter", Mock(side_effect=AssertionError("it goes on")))
    monkeypatch.setattr(arbiter, "wait_for_signals", lambda timeout: [number])
    monkeypatch.setattr(arbiter, "halt", Mock(side_effect=Ended))
    monkeypatch.setattr("gunicorn.util._setproctitle", Mock())
    arbiter.run()


def test_ctrl_c_lets_transfers_finish_as_sigterm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    arbiter = Arbiter.__new__(Arbiter)
    monkeypatch.setattr(arbiter, "stop", Mock(), raising=True)
    config._on_starting(lambda: True, Mock())(arbiter)

    with pytest.raises(Ended):
        run_with_signal(arbiter, signal.SIGINT, monkeypatch)

    arbiter.stop.assert_not_called()  # gunicorn's own handle_int calls stop(graceful=False)


def test_gunicorn_on_its_own_would_break_transfers_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, _on_starting is no longer needed."""
    arbiter = Arbiter.__new__(Arbiter)
    monkeypatch.setattr(arbiter, "stop", Mock(), raising=True)

    with pytest.raises(Ended):
        run_with_signal(arbiter, signal.SIGINT, monkeypatch)

    arbiter.stop.assert_called_once_with(False)


def test_the_names_that_we_touch_on_gunicorn_exist() -> None:
    assert callable(Arbiter.handle_term)
    assert callable(Arbiter.handle_int)
    assert Arbiter.APP_LOAD_ERROR == 4
    assert "GUNICORN_FD" in inspect.getsource(Arbiter.start)
    assert "GUNICORN_FD" in inspect.getsource(Arbiter.reexec)


def test_hooks_are_called_with_what_ours_take() -> None:
    known = Config().settings

    for name in ("on_starting", "when_ready", "on_exit"):
        assert known[name].validator(nothing) is nothing, name


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def forked(*numbers: int) -> tuple[Mock, Mock]:
    """Arbiter and worker in a child that got these signals between the fork and now."""
    arbiter, worker = Mock(), Mock()
    arbiter.SIG_QUEUE = queue.SimpleQueue()
    for number in numbers:
        arbiter.SIG_QUEUE.put(number)
    return arbiter, worker


@pytest.mark.usefixtures("_signals_as_before")
def test_a_forked_worker_follows_the_master_only() -> None:
    arbiter, worker = forked(signal.SIGCHLD, signal.SIGTERM)

    config._post_fork(arbiter, worker)

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is worker.handle_exit
    worker.handle_exit.assert_called_once()
    worker.log.reopen_files.assert_not_called()


@pytest.mark.usefixtures("_signals_as_before")
def test_a_worker_that_is_just_starting_opens_the_log_anew() -> None:
    arbiter, worker = forked(signal.SIGUSR1)

    config._post_fork(arbiter, worker)
    signal.raise_signal(signal.SIGUSR1)

    assert worker.log.reopen_files.call_count == 2


@pytest.mark.usefixtures("_signals_as_before")
def test_a_worker_that_is_just_starting_ends_at_once_where_the_stop_is_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    arbiter, worker = forked(signal.SIGQUIT)

    config._post_fork(arbiter, worker)
    signal.raise_signal(signal.SIGQUIT)

    assert ended == [0, 0]


def test_a_reload_cannot_start_more_workers_than_the_board_has_places_for() -> None:
    assert settings_of(Settings(num_cores=200))["workers"] == 8
