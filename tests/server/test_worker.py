"""A worker's once-a-second look at itself."""

import os
from types import SimpleNamespace
from unittest.mock import Mock

from gunicorn.config import Config

from hmacfs.server.worker import WorkerLimits, worker_class
from hmacfs.state.scoreboard import Load, Scoreboard


def test_what_the_first_tick_of_the_only_worker_tells_is_no_row_of_zeros() -> None:
    board = Scoreboard(1)
    told: list[Load] = []
    worker = worker_class(WorkerLimits(), board)(1, os.getppid(), [], Mock(), 30, Config(), Mock())
    worker.wsgi = SimpleNamespace(tick=lambda: told.append(board.load()))
    worker._statm = os.open("/proc/self/statm", os.O_RDONLY)

    worker._tick()

    os.close(worker._statm)
    worker.tmp.close()
    assert told[0].memory > 0
    assert told[0].greenlets > 0
