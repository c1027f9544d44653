"""One for all who ask: a value that takes a while is made once, and nobody waits for it without end."""

import threading

import pytest

from hmacfs.telemetry.latest import Latest
from tests.support.polling import PATIENCE, until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_value_is_made_anew_when_the_last_one_is_too_old() -> None:
    clock, made = Clock(), iter(range(10))
    latest = Latest(lambda: next(made), fresh=1.0, patience=PATIENCE, clock=clock)

    first = latest.get()
    clock.now += 0.9
    second = latest.get()
    clock.now += 0.2
    third = latest.get()

    assert (first, second, third) == (0, 0, 1)


def test_all_who_ask_meanwhile_get_the_same() -> None:
    may_end, count, got = threading.Event(), [0], []

    def make() -> int:
        count[0] += 1
        assert may_end.wait(PATIENCE)
        return count[0]

    latest = Latest(make, fresh=1.0, patience=PATIENCE, clock=Clock())
    asking = [threading.Thread(target=lambda: got.append(latest.get())) for _ in range(5)]
    for each in asking:
        each.start()
        until(lambda: count[0] == 1, "it is being made")
    may_end.set()
    for each in asking:
        each.join(PATIENCE)

    assert got == [1] * 5


def test_nobody_waits_longer_than_patience_and_the_value_comes_later() -> None:
    may_end = threading.Event()
    latest = Latest(lambda: may_end.wait(PATIENCE), fresh=1.0, patience=0.01, clock=Clock())

    with pytest.raises(TimeoutError):
        latest.get()
    with pytest.raises(TimeoutError):
        latest.get()
    may_end.set()

    assert until(lambda: latest.value, "it was made")
    assert latest.get() is True


def test_an_error_reaches_who_asked_and_the_next_one_tries_again() -> None:
    outcomes = iter([ValueError("broken"), 7])

    def make() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    latest = Latest(make, fresh=1.0, patience=PATIENCE, clock=Clock())

    with pytest.raises(ValueError, match="broken"):
        latest.get()
    assert latest.get() == 7
