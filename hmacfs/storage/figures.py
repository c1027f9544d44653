"""Numbers of a store for people, found out at a price that does not depend on how much lies there."""

import os
from dataclasses import dataclass

from hmacfs.core.wallclock import Stock
from hmacfs.storage.partialfolders import DATA
from hmacfs.storage.storedir import PRIVATE
from hmacfs.storage.sweepfile import SweepFile

MOST_SESSIONS = 100_000
"""Unfinished uploads are counted up to here."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Attributes:
    free: bytes of the filesystem that we may use.
    sessions: unfinished uploads, those included that are over and wait for a sweep.
    stock: what the last sweep noted.
    """

    free: int
    sessions: int
    stock: Stock


def of_store(store_dir: str) -> Figures:
    """For a pool thread: blocks as long as the disk does. Raises StorageFailed, StorageBusy, OSError."""
    info = os.statvfs(store_dir)
    sessions = _sessions(os.path.join(store_dir, PRIVATE, "partials"))
    return Figures(info.f_bavail * info.f_frsize, sessions, SweepFile(store_dir).load().stock)


def _sessions(root: str) -> int:
    """Each has one file of data."""
    count = 0
    for folder, _, names in os.walk(root):
        if os.path.dirname(folder) != root:  # groups, and folders of slots in them
            count += sum(name.endswith(DATA) for name in names)
        if count >= MOST_SESSIONS:
            break
    return count
