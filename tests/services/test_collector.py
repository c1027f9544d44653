"""Timed garbage collection: when, and that what was there at the start is left out."""

import gc
from collections.abc import Iterator

import pytest

from hmacfs.services.collector import Collector, is_due
from hmacfs.services.observer import Observer


class Told(Observer):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.found: list[int] = []
        self.seconds: list[float] = []

    def collecting(self) -> None:
        self.events.append("begun")

    def collected(self, seconds: float, found: int) -> None:
        self.events.append("done")
        self.seconds.append(seconds)
        self.found.append(found)


class House:
    def __init__(self, interval: int = 30) -> None:
        self.time = 1000.0
        self.told = Told()
        self.collector = Collector(interval, self.told, lambda: self.time)

    def ticks(self, seconds: int, requests: int = 0) -> None:
        """Args: requests: answered in each second."""
        for number in range(seconds):
            self.time += 1
            self.collector.tick(1 + number * requests)


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("waited", "is_quiet", "expected"),
    [(29, True, False), (30, True, True), (30, False, False), (59, False, False), (60, False, True)],
)
def test_a_burst_is_waited_for_as_long_as_the_interval_once_more(waited: int, is_quiet: bool, expected: bool) -> None:
    assert is_due(waited, 30, is_quiet=is_quiet) is expected


def test_a_quiet_worker_collects_with_every_interval() -> None:
    house = House()

    house.ticks(95)

    assert house.told.events == ["begun", "done"] * 3


def test_a_busy_worker_collects_half_as_often() -> None:
    house = House()

    house.ticks(130, requests=5)

    assert house.told.events == ["begun", "done"] * 2


def test_an_interval_of_0_neither_collects_nor_freezes() -> None:
    house = House(interval=0)
    frozen = gc.get_freeze_count()

    house.collector.freeze()
    house.ticks(1000)

    assert house.told.events == []
    assert gc.get_freeze_count() == frozen


def test_what_is_there_at_the_start_is_left_out_for_ever() -> None:
    house = House()
    before = gc.get_freeze_count()

    house.collector.freeze()

    assert gc.get_freeze_count() > before + 1000


def test_what_nobody_can_reach_any_more_is_found_and_told() -> None:
    house = House()
    house.collector.freeze()
    gc.disable()
    try:
        for _ in range(100):
            ring: list[object] = []
            ring.append(ring)
        del ring
        house.ticks(30)
    finally:
        gc.enable()

    assert house.told.found[0] >= 100
    assert house.told.seconds == [0.0]  # by this house's clock
