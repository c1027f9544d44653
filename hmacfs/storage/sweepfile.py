"""Whose turn it is to sweep a store, and what the clocks said at the last sweep: two small files in ``.hmacfs``."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from hmacfs.core.wallclock import Moment, Stock, Swept
from hmacfs.storage import fsutil, private
from hmacfs.storage.base import os_errors_translated
from hmacfs.storage.boottag import boot_tag
from hmacfs.storage.storedir import PRIVATE

_FIELDS = ("last", "trusted", "tidied")
_MOST_BYTES = 65_536
"""Far above what they take."""

_DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading JSON raises that is not what we wrote."""


def clocks() -> Callable[[], Moment]:
    """What the clocks of this machine say, at each call."""
    boot = boot_tag()
    # BOOTTIME and not MONOTONIC: a machine that slept for two days has a wall clock that is right.
    return lambda: Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot)


class SweepFile:
    """Args: store_dir: absolute path of a prepared store."""

    def __init__(self, store_dir: str) -> None:
        self._lock = os.path.join(store_dir, PRIVATE, "sweep.lock")
        self._file = os.path.join(store_dir, PRIVATE, "sweep.json")

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """A ``with`` block that says whether this process is the only one of all on this store that sweeps now."""
        with os_errors_translated():
            fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fsutil.try_flock(fd)
        finally:
            os.close(fd)

    def load(self) -> Swept:
        """What was noted. One that cannot be read counts as none: it is made anew with the next sweep."""
        with os_errors_translated():
            try:
                values = json.loads(private.read_private(self._file, _MOST_BYTES))
                last, trusted, tidied = (_moment(values.get(name)) for name in _FIELDS)
                stock, trouble = _stock(values.get("stock")), str(values.get("trouble", ""))
                return Swept(last, trusted, tidied, stock, trouble)
            except (FileNotFoundError, IsADirectoryError, *_DAMAGED):
                return Swept()

    def save(self, swept: Swept) -> None:
        """Note it, in one step."""
        content = json.dumps(asdict(swept)).encode()
        draft = f"{self._file}.{os.getpid()}"
        with os_errors_translated():
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                fsutil.write_all(fd, memoryview(content), 0)
                fsutil.fsync(fd)
            finally:
                os.close(fd)
            fsutil.rename(draft, self._file)


def _moment(values: dict[str, Any] | None) -> Moment | None:
    if values is None:
        return None
    wall, steady = float(values["wall"]), float(values["steady"])
    if not (math.isfinite(wall) and math.isfinite(steady)):
        raise ValueError("no moment")  # JSON as Python reads it has Infinity and NaN: a sweep would never be due
    return Moment(wall, steady, int(values["boot"]))


def _stock(values: dict[str, Any] | None) -> Stock:
    if values is None:
        return Stock()
    return Stock(*(int(values[name]) for name in ("files", "stored", "versions", "counted_ms")))
