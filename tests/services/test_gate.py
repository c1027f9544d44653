"""Places are handed on in turn, and none is lost whatever happens to who waits."""

import queue
import threading
from types import SimpleNamespace

import pytest

from hmacfs.errors import ServerBusy
from hmacfs.services import gate as module
from hmacfs.services.gate import Gate
from tests.services.gates import Killed, ScriptedEvent, free_places
from tests.support.polling import PATIENCE


def test_a_gate_lets_in_as_many_as_it_has_places(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(3)

    for _ in range(3):
        gate.enter()
    assert waiting.waited == []
    with pytest.raises(ServerBusy) as caught:
        gate.enter()

    assert (caught.value.status, caught.value.retry_after) == (503, 5)


def test_one_more_waits_five_seconds_and_no_longer(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(0)

    with pytest.raises(ServerBusy):
        gate.enter()

    assert waiting.waited == [5.0]


def test_who_waits_gets_the_place_that_becomes_free(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(1)
    gate.enter()
    waiting.deeds.append(gate.leave)

    gate.enter()

    assert free_places(gate) == 0
    gate.leave()
    assert free_places(gate) == 1


def test_who_gave_up_is_handed_no_place(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(1)
    gate.enter()
    for _ in range(3):
        with pytest.raises(ServerBusy):
            gate.enter()

    gate.leave()

    assert free_places(gate) == 1


def test_who_is_killed_while_waiting_takes_no_place_along(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(1)
    gate.enter()

    def killed() -> None:
        raise Killed

    waiting.deeds.append(killed)
    with pytest.raises(Killed):
        gate.enter()
    gate.leave()

    assert free_places(gate) == 1


def test_who_is_killed_with_the_place_in_hand_gives_it_back(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(1)
    gate.enter()

    def handed_and_killed() -> None:
        gate.leave()
        raise Killed

    waiting.deeds.append(handed_and_killed)
    with pytest.raises(Killed):
        gate.enter()

    assert free_places(gate) == 1


def test_places_go_to_those_who_have_waited_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: queue.Queue[str] = queue.Queue()
    entered: queue.Queue[str] = queue.Queue()

    class Announced(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            arrived.put(threading.current_thread().name)
            return super().wait(PATIENCE)

    monkeypatch.setattr(module, "threading", SimpleNamespace(Event=Announced))
    gate = Gate(2)
    gate.enter()
    gate.enter()

    def enter() -> None:
        gate.enter()
        entered.put(threading.current_thread().name)

    threads = []
    for name in ("first", "second", "third"):
        threads.append(threading.Thread(target=enter, name=name))
        threads[-1].start()
        assert arrived.get(timeout=PATIENCE) == name
    order = []
    for _ in threads:
        gate.leave()
        order.append(entered.get(timeout=PATIENCE))
    for thread in threads:
        thread.join(PATIENCE)

    assert order == ["first", "second", "third"]


def test_a_place_that_is_handed_on_cannot_be_taken_by_a_newcomer(waiting: type[ScriptedEvent]) -> None:
    gate = Gate(1)
    gate.enter()
    overtaken: list[bool] = []

    def handed_over_while_another_comes() -> None:
        gate.leave()
        try:
            gate.enter()
            overtaken.append(True)
        except ServerBusy:
            overtaken.append(False)

    waiting.deeds.append(handed_over_while_another_comes)
    gate.enter()

    assert overtaken == [False]


def test_a_place_handed_over_as_the_wait_ends_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(1)

    class Late(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            gate.leave()
            return False  # what gevent answers when the timer beats the notification

    monkeypatch.setattr(module, "threading", SimpleNamespace(Event=Late))
    gate.enter()

    gate.enter()
    gate.leave()

    assert gate._free == 1
