"""Who may change what stands under a path: one process or thread of all that share the store, for a few system calls.

The lock of a path is one byte of one lock file, numbered by a hash of the path and held by open file description
(fcntl, F_OFD_SETLK): no file for each path, nothing to tidy up, and the kernel gives it back when the holder is gone,
however it went. Nobody holds it while bytes flow, and nobody holds two.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TypeVar

from hmacfs.core.paths import SlotPath
from hmacfs.errors import StorageBusy
from hmacfs.offload import Pool
from hmacfs.storage import fsutil, rangelocks

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""How long a request waits for the lock before it is 503."""

_JOB_SECONDS, _JOB_STEP = 0.02, 0.001
"""How long, and in which steps, a job waits for it: longer than it is ever held on a disk that answers."""


def slot_name(path: SlotPath) -> str:
    """What a path is called where its own name must not be: 32 hex digits."""
    return sha256(path.raw).hexdigest()[:32]


class Held(Exception):
    """Somebody else holds the lock for longer than a job should wait."""


class SlotLocks:
    """The locks of all paths of a store. Args: file: absolute path of the lock file, made where missing."""

    def __init__(self, file: str) -> None:
        self._file = file

    @contextmanager
    def held(self, slot: str) -> Iterator[None]:
        """A ``with`` block in which nobody else changes what stands under a path. For jobs of the disk pool.

        Args:
            slot: as ``slot_name`` gives it.

        Raises:
            Held: call the job again, through ``patiently``.
        """
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd, int(slot[:15], 16))
            yield
        finally:
            os.close(fd)


def _lock(fd: int, number: int) -> None:
    waited = 0.0
    while not rangelocks.try_lock(fd, number, number + 1):
        if waited >= _JOB_SECONDS:
            raise Held
        fsutil.pause(_JOB_STEP)
        waited += _JOB_STEP


def patiently(pool: Pool, job: Callable[..., T], *args: object) -> T:
    """The result of a job that needs a lock. While it waits, the pool's threads are there for others.

    Raises:
        StorageBusy: somebody held it for all of PATIENCE_SECONDS.
    """
    waited, step = 0.0, 0.005
    while True:
        try:
            return pool.run(job, *args)
        except Held as held:
            if waited >= PATIENCE_SECONDS:
                raise StorageBusy("another request changes this file") from held
        time.sleep(step)
        waited += step + _JOB_SECONDS
        step = min(0.05, 2 * step)
