"""The status line: what all workers of this server do, in one line now and then (MonitorInterval)."""

import gc
import logging
from collections.abc import Callable
from typing import Protocol

from hmacfs.services.observer import Exchange, Observer
from hmacfs.telemetry import logs


class Load(Protocol):
    """What all workers do at this moment."""

    @property
    def memory(self) -> int:
        """Resident bytes."""

    @property
    def cpu(self) -> float:
        """Percent of one processor."""

    @property
    def greenlets(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def uploads(self) -> int: ...
    @property
    def downloads(self) -> int: ...


class Board(Protocol):
    """Numbers that all workers of one server share."""

    def add_work(self, requests: int, collections: int) -> None:
        """What this worker did since it said so last."""

    def turn(self, now: float, interval: float) -> int | None:
        """Whether this worker tells now: requests since somebody told last. None where it is not its turn."""

    def collections(self) -> int:
        """Garbage collections of all workers, ever."""

    def load(self) -> Load: ...


class Monitor(Observer):
    """One worker's part in it.

    Args:
        interval: seconds between two lines, 0 for none.
        clock: monotonic seconds, the same in all workers.
    """

    def __init__(self, interval: int, board: Board, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._board = board
        self._clock = clock
        self._collections = _collections()
        self.requests = 0
        """That this process has answered."""
        self._noted = 0

    def answered(self, exchange: Exchange) -> None:
        self.requests += 1

    def tick(self) -> None:
        """Call it once a second."""
        collections = _collections()
        self._board.add_work(self.requests - self._noted, collections - self._collections)
        self._noted, self._collections = self.requests, collections
        if self._interval and (requests := self._board.turn(self._clock(), self._interval)) is not None:
            self._tell(requests)

    def _tell(self, requests: int) -> None:
        load = self._board.load()
        had_traffic = requests or load.uploads or load.downloads
        logs.event(
            logging.INFO if had_traffic else logging.DEBUG,
            "Status",
            greenlets=load.greenlets,
            memory=load.memory,
            cpu=round(load.cpu, 1),
            connections=load.connections,
            uploads=load.uploads,
            downloads=load.downloads,
            requests=requests,
            collections=self._board.collections(),
        )


def _collections() -> int:
    """Of this process, of all generations."""
    return sum(generation["collections"] for generation in gc.get_stats())
