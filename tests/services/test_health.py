"""The facts as they are found out: a store that hangs is told in time, and many who ask cost one look."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hmacfs.core.health import Condition, Store
from hmacfs.services.health import FRESH_SECONDS, SILENT, Health, Limits, Sources
from hmacfs.telemetry.latest import Latest
from tests.support.polling import PATIENCE, until

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """A store that answers, until it hangs."""

    def __init__(self) -> None:
        self.store = Store(free=100 * MIB)
        self.looks = 0
        self.at_once = 0
        self.most_at_once = 0
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._counting = threading.Lock()

    def look(self) -> Store:
        with self._counting:
            self.looks += 1
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        assert self._may_answer.wait(PATIENCE)
        with self._counting:
            self.at_once -= 1
        return self.store

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self._may_answer.clear()
        try:
            yield
        finally:
            self._may_answer.set()
            until(lambda: not self.at_once, "the last look is over")


class House:
    """A server's health, with a store to look at and facts to change. Args: patience: seconds for the store."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.clock, self.disk = Clock(), Disk()
        self.is_draining = False
        self.down: dict[str, str] = {}
        self.trouble = ""
        self.memory = 80 * MIB
        look = Latest(self.disk.look, fresh=FRESH_SECONDS, patience=patience, clock=self.clock)
        self.health = self.of(look.get)

    def of(self, look: Callable[[], Store]) -> Health:
        sources = Sources(look, lambda: self.is_draining, lambda: self.down, lambda: self.trouble, lambda: self.memory)
        return Health(sources, Limits(least_free=50 * MIB, most_memory=90 * MIB))

    def codes(self) -> list[str]:
        return [reason.code for reason in self.health.verdict().reasons]


def test_a_hundred_who_ask_within_a_second_cost_one_look() -> None:
    house = House()

    for _ in range(100):
        assert house.health.verdict().condition is Condition.READY
        house.clock.now += FRESH_SECONDS / 101
    asked = house.disk.looks
    house.clock.now += FRESH_SECONDS
    house.health.verdict()

    assert (asked, house.disk.looks) == (1, 2)


def test_a_store_that_hangs_counts_as_not_writable_and_is_asked_once_however_often_somebody_asks() -> None:
    house = House(patience=0.01)

    with house.disk.hanging():
        verdicts = [house.health.verdict() for _ in range(5)]
        looks = house.disk.looks

    assert [verdict.condition for verdict in verdicts] == [Condition.NOT_READY] * 5
    assert [reason.sentence for reason in verdicts[0].reasons] == [f"The store cannot be written: {SILENT}."]
    assert (looks, house.disk.most_at_once) == (1, 1)


def test_a_store_that_answers_again_is_believed() -> None:
    house = House(patience=0.01)
    with house.disk.hanging():
        assert house.codes() == ["store-not-writable"]

    assert until(lambda: not house.codes(), "it is well again")


def test_a_trouble_of_the_store_is_kept_for_a_second_too() -> None:
    house = House()
    house.disk.store = Store("No space left on device", 0)

    first, second = house.codes(), house.codes()
    looks = house.disk.looks
    house.disk.store = Store(free=100 * MIB)
    house.clock.now += FRESH_SECONDS

    assert first == second == ["store-not-writable", "low-space"]
    assert looks == 1
    assert house.codes() == []


def test_the_other_facts_are_never_older_than_the_question() -> None:
    house = House()
    assert house.codes() == []

    house.is_draining, house.down, house.trouble = True, {"redis": "gone"}, "SecretFile: gone."
    house.memory = 91 * MIB

    assert house.codes() == ["draining", "memory-over-limit", "tier-down", "secret-unreadable"]


@pytest.mark.parametrize("store", [Store(free=50 * MIB), Store(free=50 * MIB - 1)])
def test_min_free_space_is_what_the_server_has(store: Store) -> None:
    house = House()
    house.disk.store = store

    assert house.health.verdict().is_ready is (store.free == 50 * MIB)


def test_no_thread_to_look_with_is_a_store_that_cannot_be_written() -> None:
    def look() -> Store:
        raise OSError(11, "no thread can be started")

    (reason,) = House().of(look).verdict().reasons

    assert reason.sentence == "The store cannot be written: no thread can be started."
