"""A claim on a range of an unfinished upload, and how one is got.

Nobody writes a byte that is recorded: a claim writes only what was missing when it was made, under a lock that nobody
else has on that range.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from hmacfs.core import upload
from hmacfs.core.upload import Event, Span, State
from hmacfs.errors import UploadComplete
from hmacfs.storage import fsutil

if TYPE_CHECKING:
    from hmacfs.storage.partial import LocalPartial


class LocalClaim:
    """The UploadClaim port.

    Args:
        index: of its record in the journal; -1 where nothing was missing.
        fd: the data file, open for writing; -1 where nothing was missing.
        lock: the range of the journal that is locked.
    """

    def __init__(self, partial: "LocalPartial", index: int, missing: list[Span], fd: int, lock: Span = (0, 0)) -> None:
        self._partial = partial
        self._index = index
        self.missing = missing
        self._fd = fd
        self._lock = lock

    def write(self, block: memoryview, at: int, *, record: bool, watch: Callable[[memoryview], None] | None) -> bool:
        if self._index < 0:
            if watch is not None:
                self._partial.run_beside(watch, block)
            return False
        return self._partial.run_beside(self._write, block, at, record, watch)

    def is_wanted(self) -> bool:
        return self._partial.run_beside(self._is_wanted)

    def touch(self) -> None:
        self._partial.run_beside(os.utime, self._partial.journal.fd)

    def record(self, end: int) -> None:
        if self._index >= 0:
            self._partial.run(self._record, end)

    def release(self) -> None:
        if self._lock != (0, 0):
            self._partial.run(self._release)

    def _write(self, block: memoryview, at: int, record: bool, watch: Callable[[memoryview], None] | None) -> bool:
        end = at + len(block)
        for first, last in self.missing:
            low, high = max(first, at), min(last, end)
            if low < high:
                fsutil.write_all(self._fd, block[low - at : high - at], low)
        if watch is not None:
            watch(block)
        if record:
            self._record(end)
        return self._partial.journal.is_wanted(self._index)

    def _is_wanted(self) -> bool:
        """Who brings nothing new holds nothing, and goes when the upload has ended."""
        journal = self._partial.journal
        return journal.is_wanted(self._index) if self._index >= 0 else journal.state is not State.OPEN

    def _record(self, end: int) -> None:
        first, last = self.missing[0][0], self.missing[-1][1]
        if end > first:
            self._partial.journal.set_end(self._index, min(end, last))

    def _release(self) -> None:
        lock, self._lock = self._lock, (0, 0)
        journal = self._partial.journal
        os.close(self._fd)
        with journal.guarded():
            journal.close_record(self._index)
        journal.unlock(*lock)


def claimed(partial: "LocalPartial", first: int, end: int) -> LocalClaim | None:
    """As PartialUpload.claim, for jobs of the disk pool: None while somebody else has the range, who is told to go."""
    journal = partial.journal
    missing = journal.extents().missing(first, end)
    if not missing:
        return LocalClaim(partial, -1, [], -1)
    lock = missing[0][0], missing[-1][1]
    if not journal.try_lock(*lock):
        with journal.guarded():  # or the mark might meet somebody who has just got the place of who had it
            journal.want(*lock, partial.ticket())
        return None
    try:
        with journal.guarded():
            upload.move(journal.state, Event.WRITE)
            missing = journal.extents().missing(first, end)
            if missing:
                journal.check_gaps(missing[0][0])
                fd = _opened_for_writing(partial)
                try:
                    index = journal.add(missing[0][0], missing[-1][1], partial.ticket())
                except BaseException:
                    os.close(fd)
                    raise
                return LocalClaim(partial, index, missing, fd, lock)
    except BaseException:
        journal.unlock(*lock)
        raise
    # Who had the range has just recorded it all. Holding it would keep others out, and nobody could tell us to go.
    journal.unlock(*lock)
    return LocalClaim(partial, -1, [], -1)


def _opened_for_writing(partial: "LocalPartial") -> int:
    """The data file, unless it is the published one: a crash may come between the link and the note of it, and a
    reboot may then take back what the journal had of the bytes."""
    fd = partial.open_data(os.O_RDWR)
    if os.fstat(fd).st_nlink > 1:
        os.close(fd)
        raise UploadComplete
    return fd
