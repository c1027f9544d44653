"""Writes pass side by side; while they are held back none begins, and none is under way."""

import queue
import threading

import pytest

from hmacfs.state import turnstile
from hmacfs.state.turnstile import Turnstile

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests let go themselves; nothing may end because the machine is slow."""
    monkeypatch.setattr(turnstile, "HOLD_SECONDS", PATIENCE)


def test_writes_pass_side_by_side() -> None:
    gate = Turnstile()

    with gate.passing(), gate.passing():
        pass

    with gate.held() as quiet:
        assert quiet


def test_holding_waits_for_the_writes_under_way() -> None:
    gate = Turnstile()
    heard: queue.Queue[object] = queue.Queue()

    def hold() -> None:
        heard.put("waits")
        with gate.held() as quiet:
            heard.put(quiet)

    with gate.passing():
        thread = threading.Thread(target=hold)
        thread.start()
        assert heard.get(timeout=PATIENCE) == "waits"
        with pytest.raises(queue.Empty):
            heard.get(timeout=0.05)

    assert heard.get(timeout=PATIENCE) is True
    thread.join(PATIENCE)


def test_a_write_waits_while_they_are_held_back() -> None:
    gate = Turnstile()
    heard: queue.Queue[str] = queue.Queue()

    def write() -> None:
        heard.put("waits")
        with gate.passing():
            heard.put("passes")

    with gate.held():
        thread = threading.Thread(target=write)
        thread.start()
        assert heard.get(timeout=PATIENCE) == "waits"
        with pytest.raises(queue.Empty):
            heard.get(timeout=0.05)

    assert heard.get(timeout=PATIENCE) == "passes"
    thread.join(PATIENCE)


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "HOLD_SECONDS", 0.01)
    gate = Turnstile()

    with gate.passing(), gate.held() as quiet, gate.passing():
        assert not quiet


def test_a_write_that_fails_leaves_no_trace() -> None:
    gate = Turnstile()

    with pytest.raises(KeyError), gate.passing():
        raise KeyError

    with gate.held() as quiet:
        assert quiet
