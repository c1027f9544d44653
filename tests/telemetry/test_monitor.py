"""The status line: one for the whole server in each interval, loud only when something happened."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.services.observer import Exchange
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.telemetry import logs
from hmacfs.telemetry.monitor import Monitor

ANSWERED = Exchange("GET", "a", "")


class House:
    """A worker on a board of its own, whose clock moves by hand."""

    def __init__(self, file: Path, interval: int = 10) -> None:
        self.file = file
        self.time = 1000.0
        self.board = Scoreboard()
        self.monitor = Monitor(interval, self.board, lambda: self.time)

    def lines(self) -> list[str]:
        return [line for line in self.file.read_text(encoding="utf-8").splitlines() if "] Status " in line]

    def ticks(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time += 1
            self.monitor.tick()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    logger = logging.getLogger("hmacfs")
    level = logger.level
    logs.configure("debug", str(tmp_path / "log"))
    yield House(tmp_path / "log")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        logging.getLogger("gunicorn.error").removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logger.propagate = True


def test_a_line_comes_with_every_interval(house: House) -> None:
    house.ticks(10)
    before = len(house.lines())
    house.ticks(30)

    assert (before, len(house.lines())) == (0, 3)


def test_an_interval_of_0_is_silent(house: House) -> None:
    silent = House(house.file, interval=0)

    silent.ticks(100)

    assert silent.lines() == []


def test_it_tells_what_all_workers_do(house: House) -> None:
    house.board.set_memory(12345)
    house.board.set_load(3.25, 7, 4)
    house.board.add_uploads(2)
    house.board.add_downloads(1)
    house.monitor.answered(ANSWERED)

    house.ticks(11)

    (line,) = house.lines()
    assert " greenlets=7 memory=12345 cpu=3.2 connections=4 uploads=2 downloads=1 requests=1 collections=" in line


@pytest.mark.parametrize("traffic", ["request", "upload", "download"])
def test_it_is_at_info_when_there_was_traffic_and_else_at_debug(house: House, traffic: str) -> None:
    house.ticks(11)
    if traffic == "request":
        house.monitor.answered(ANSWERED)
    elif traffic == "upload":
        house.board.add_uploads(1)
    else:
        house.board.add_downloads(1)
    house.ticks(10)
    house.board.add_uploads(-(traffic == "upload"))
    house.board.add_downloads(-(traffic == "download"))
    house.ticks(10)

    assert [line.partition("[")[0] for line in house.lines()] == ["DEBUG", "INFO", "DEBUG"]


def test_requests_are_those_since_the_last_line(house: House) -> None:
    for _ in range(3):
        house.monitor.answered(ANSWERED)
    house.ticks(11)
    for _ in range(2):
        house.monitor.answered(ANSWERED)
    house.ticks(20)

    assert [line.partition("requests=")[2].split()[0] for line in house.lines()] == ["3", "2", "0"]
