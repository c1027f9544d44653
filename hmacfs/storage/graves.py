"""Which paths are gone and known to be: 410 in place of 404, and no replayed PUT that brings a file back.

    graves/days/20261120-0          one empty file for each day, and one more for each 60,000 burials of it
    graves/ab/ab12...               a hard link to one of them, named after the SHA-256 of PATH

So a grave costs an entry in a folder and no inode, its age is that of the day's file, and no shared state is asked. It
is not synced by itself: it is made before the file's name is taken away, and a journalling filesystem keeps that order
over a power cut. Losing one opens the path again, as the protocol allows (section 3).
"""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import islice

from hmacfs.core.paths import SlotPath
from hmacfs.offload import Pool
from hmacfs.storage import fsutil, private
from hmacfs.storage.base import os_errors_translated
from hmacfs.storage.storedir import PRIVATE

DAY = 86400
KEPT_SECONDS = 31 * DAY
"""Counted from the beginning of the day's file, so that a grave holds for 30 days at least (protocol, section 3)."""

MOST_LINKS = 60_000
"""Of one file. ext4 allows 65,000, btrfs 65,535."""

_DAYS = "days"
_DAY_FILE = re.compile(r"[0-9]{8}-[0-9]+")
_GRAVE = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{16})?")  # and the draft of one, which a crash left


class LocalGraves:
    """The Graves port. Methods that end in ``_now`` block and are for jobs of the disk pool.

    Args:
        store_dir: absolute path of a prepared store.
        clock: Unix seconds.
    """

    def __init__(self, store_dir: str, disk: Pool, clock: Callable[[], float] = time.time) -> None:
        self._root = os.path.join(store_dir, PRIVATE, "graves")
        self._disk = disk
        self._clock = clock
        self._number = 0
        with os_errors_translated():
            private.make_private_directory(self._root)
            self._fd = os.open(self._root, fsutil.DIRECTORY)  # a path from here is looked up in half of the time

    def bury(self, path: SlotPath) -> bool:
        """``path`` counts as gone from now on; whether it did not before."""
        with os_errors_translated():
            return self._disk.run(self.bury_now, path)

    def exhume(self, path: SlotPath) -> None:
        """``path`` does not count as gone any more."""
        with os_errors_translated():
            self._disk.run(self.exhume_now, path)

    def buried(self, path: SlotPath) -> bool:
        """Whether ``path`` was deleted or has expired in the last 30 days."""
        with os_errors_translated():
            return self._disk.run(self.buried_now, path)

    def buried_now(self, path: SlotPath) -> bool:
        name = sha256(path.raw).hexdigest()
        place = f"{name[:2]}/{name}"
        # Nearly always there is none, and access says so without the cost of an exception: 1 to 2 microseconds in all.
        if not os.access(place, os.F_OK, dir_fd=self._fd):
            return False
        try:
            return not self._is_over(os.stat(place, dir_fd=self._fd).st_mtime)
        except FileNotFoundError:
            return False

    def bury_now(self, path: SlotPath) -> bool:
        place = self._place(path)
        while True:
            day = self._day_file()
            try:
                return self._link(day, place)
            except FileNotFoundError:
                self._make_folders(place)
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                self._number += 1

    def exhume_now(self, path: SlotPath) -> None:
        private.remove_file(self._place(path))

    def sweep(self, batch: int) -> Iterator[int]:
        """Remove the graves that are over, job by job; how many each job removed. Nothing where none can be over."""
        with os_errors_translated():
            days = self._disk.run(self._old_days)
            if not days:
                return
            for number in range(256):
                names = self._old_ones(f"{number:02x}")
                while (removed := self._disk.run(_unlink_next, names, batch)) >= 0:
                    yield removed
            for day in days:
                private.remove_file(day)

    def _link(self, day: str, place: str) -> bool:
        """Whether there was no grave, or one that is over."""
        try:
            fsutil.link_private(day, place)
        except FileExistsError:
            # An old grave is as young as today's file from now on. A rename between two names of one file does nothing.
            if os.path.samefile(day, place):
                return False
            is_over = self._is_over(os.stat(place).st_mtime)
            fsutil.replace_link(day, place)
            return is_over
        return True

    def _place(self, path: SlotPath) -> str:
        name = sha256(path.raw).hexdigest()
        return f"{self._root}/{name[:2]}/{name}"

    def _is_over(self, modified: float) -> bool:
        return self._clock() - modified > KEPT_SECONDS

    def _day_file(self) -> str:
        """The file of today that has room for one more link."""
        now = self._clock()
        today = time.strftime("%Y%m%d", time.gmtime(now))
        while True:
            place = os.path.join(self._root, _DAYS, f"{today}-{self._number}")
            try:
                if os.stat(place, follow_symlinks=False).st_nlink < MOST_LINKS:
                    return place
                self._number += 1
            except FileNotFoundError:
                if self._number and not os.path.exists(os.path.join(self._root, _DAYS, f"{today}-0")):
                    self._number = 0  # the first burial of a new day
                else:
                    self._make_day(place, now // DAY * DAY)

    def _make_day(self, place: str, midnight: float) -> None:
        self._make_folders(place)
        private.make_stamp(place, midnight)

    def _make_folders(self, place: str) -> None:
        for folder in (os.path.join(self._root, _DAYS), os.path.dirname(place)):
            private.make_private_directory(folder)

    def _old_days(self) -> list[str]:
        days = os.path.join(self._root, _DAYS)
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(days) as entries:
            return [entry.path for entry in entries if _DAY_FILE.fullmatch(entry.name) and self._is_old(entry)]
        return []

    def _old_ones(self, folder: str) -> Iterator[str]:
        # NotADirectoryError, and names that are none: what somebody else left here is passed over.
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(os.path.join(self._root, folder)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if _GRAVE.fullmatch(entry.name) and self._is_old(entry):
                        yield entry.path

    def _is_old(self, entry: "os.DirEntry[str]") -> bool:
        info = entry.stat(follow_symlinks=False)
        return stat.S_ISREG(info.st_mode) and self._is_over(info.st_mtime)


def _unlink_next(names: Iterator[str], most: int) -> int:
    """How many of the next ``most`` were removed; -1 when there are none left."""
    count = -1
    for name in islice(names, most):
        private.remove_file(name)
        count = max(count, 0) + 1
    return count
