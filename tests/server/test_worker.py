"""What a worker does to its process, and its once-a-second look at itself."""

import os
import subprocess
import sys
from pathlib import Path
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


_CLOSES = """
import os, sys
import gevent
from hmacfs.server.worker import TransferWorker

worker = TransferWorker.__new__(TransferWorker)
worker.sockets = []
worker.patch()
gevent.sleep(0)  # the loop runs
for place in sys.argv[1:]:
    descriptor = os.open(place, os.O_RDONLY)
    os.close(descriptor)
    print(os.path.exists(f"/proc/self/fd/{descriptor}"))
"""


def test_a_descriptor_is_closed_when_close_returns(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CLOSES, str(tmp_path), __file__, "/dev/null"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout.split(), done.stderr) == (["False"] * 3, "")
