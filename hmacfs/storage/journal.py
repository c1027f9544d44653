"""What a partial keeps beside its bytes: a header, then one record for each range that somebody writes or has written.

The layout is fixed, so that a block costs one write of eight bytes: 28 KiB for the header, 4 KiB for checksums that
came later, then records of eight 64-bit words. Every word is written alone and aligned, so it is never seen half. Two
moments count for each record: ``end``, what the running system has (page cache included, so a killed worker loses
nothing), and ``durable``, what survives a power cut. Which of them is believed depends on whether the machine was
booted since.

Locks are byte ranges of this very file (``rangelocks``). The range of bytes that somebody writes is locked under its
own numbers; the byte META guards changes of the records.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from hmacfs.core.upload import MAX_GAPS, Extents, Span, State
from hmacfs.errors import BadChecksum, StorageFailed, TooManyGaps
from hmacfs.storage import fsutil, journalheader, rangelocks
from hmacfs.storage.base import UploadHeader

_STATE_AT = len(journalheader.MAGIC)
_TICKET_AT = 24
WANTED_AT = journalheader.ROOM
RECORDS_AT = 32768
RECORD_BYTES = 64
_OF_A_PAGE = 4096 // RECORD_BYTES
"""Records that reach the disk together."""
_WORD = struct.Struct("<Q")
_RECORD = struct.Struct("<8Q")
_STATE, _WANTED, _BOOT, _FIRST, _END, _DURABLE, _LIMIT, _TICKET = range(8)
_FREE, _WRITING, _CLOSED = range(3)

MAX_RECORDS = 4096
"""Far above what the bound on gaps and the writers of one upload together make."""

META = 1 << 62
"""The byte whose lock guards the records; every offset of a file lies below it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One range. Offsets are bytes of the file.

    Attributes:
        index: which record it is.
        first, end: what is recorded: everything between them is there.
        limit: until where its writer wants to come.
        is_closed: nobody writes it any more. One whose writer was killed is never closed.
    """

    index: int
    first: int
    end: int
    durable: int
    limit: int
    boot: int
    is_closed: bool

    def may_join(self, other: "Record") -> bool:
        """Whether the two are one range, and one word can say what is durable of it: a hole in that would take back
        what is behind it."""
        left, right = (self, other) if self.first <= other.first else (other, self)
        return right.first <= left.end and (right.first <= left.durable or right.durable == right.first)

    def joined(self, other: "Record") -> "Record":
        """This record grown by one that it ``may_join``."""
        left, right = (self, other) if self.first <= other.first else (other, self)
        durable = max(left.durable, right.durable) if right.first <= left.durable else left.durable
        end = max(self.end, other.end)
        return Record(self.index, left.first, end, durable, end, self.boot, is_closed=True)


class Journal:
    """One journal file that is open for reading and writing.

    Args:
        fd: its descriptor, which belongs to the journal from now on.
        boot: as ``boottag.boot_tag`` gives it.
    """

    def __init__(self, fd: int, boot: int) -> None:
        self.fd = fd
        self._boot = boot
        self._ours: set[int] = set()
        """Records that are written through this very journal: no lock of its own tells it of them."""

    # The header

    def begin(self, header: UploadHeader, data_name: str) -> None:
        """Write the header of a new journal. Raises BadHeader where it has no room."""
        fsutil.write_all(self.fd, memoryview(journalheader.packed(header, data_name)), 0)

    def header(self) -> tuple[UploadHeader, str]:
        """The header and the name of the data file. Raises StorageFailed for a file that is no journal."""
        return journalheader.unpacked(os.pread(self.fd, journalheader.ROOM, 0))

    def wanted(self) -> tuple[str, ...]:
        """Checksums that came after the header."""
        block = os.pread(self.fd, RECORDS_AT - WANTED_AT, WANTED_AT)
        length = _WORD.unpack_from(block)[0] if len(block) >= _WORD.size else 0
        return tuple(block[8 : 8 + length].decode("ascii", "replace").split())

    def add_wanted(self, words: Sequence[str]) -> None:
        """Remember further checksums; whoever calls holds the guard. Raises BadChecksum."""
        known = self.wanted()
        text = " ".join(dict.fromkeys((*known, *words))).encode("ascii")
        if 8 + len(text) > RECORDS_AT - WANTED_AT:
            raise BadChecksum("too many different checksums for one upload")
        fsutil.write_all(self.fd, memoryview(_WORD.pack(len(text)) + text), WANTED_AT)

    @property
    def state(self) -> State:
        """Raises StorageFailed for one that nobody wrote."""
        byte = os.pread(self.fd, 1, _STATE_AT)
        try:
            return State(byte[0])
        except (ValueError, IndexError) as error:
            raise StorageFailed("the journal of an upload cannot be read") from error

    def set_state(self, state: State) -> None:
        os.pwrite(self.fd, bytes((state.value,)), _STATE_AT)

    # The records; whoever changes more than the end of its own holds the guard

    def records(self) -> list[Record]:
        """Those that are in use."""
        return [
            Record(index, first, end, durable, limit, boot, state == _CLOSED)
            for index, (state, _, boot, first, end, durable, limit, _) in enumerate(self._words())
            if state != _FREE
        ]

    def _words(self) -> list[tuple[int, ...]]:
        block = os.pread(self.fd, MAX_RECORDS * RECORD_BYTES, RECORDS_AT)
        return list(_RECORD.iter_unpack(block[: len(block) // RECORD_BYTES * RECORD_BYTES]))

    def is_believed(self, record: Record) -> bool:
        """Whether ``end`` counts: the machine has not been booted since it was written."""
        return record.boot == self._boot

    def is_settled(self, record: Record) -> bool:
        """Whether nothing of it would be lost with the power."""
        return self.is_believed(record) and record.durable == record.end

    def extents(self) -> Extents:
        boot = self._boot
        return Extents(
            [
                (first, end if tag == boot else durable)
                for state, _, tag, first, end, durable, _, _ in self._words()
                if state != _FREE
            ]
        )

    def check_gaps(self, first: int) -> None:
        """Whether somebody may begin to write at ``first``; whoever calls holds the guard.

        What counts is what may be left of a piece that breaks off anywhere: one that touches what is there on its left
        tears no hole, any other one does. Ranges that others have just begun count as begun.

        Raises:
            TooManyGaps: there would be one hole too many.
        """
        begun = [(record.first, max(self._span(record)[1], record.first + 1)) for record in self.records()]
        after = Extents([*begun, (first, first + 1)])
        touches = any(end == first for _, end in begun) or first == 0
        if not touches and after.gaps > MAX_GAPS:
            raise TooManyGaps(self.extents().prefix)

    def extents_of(self, records: list[Record]) -> Extents:
        return Extents(self._span(record) for record in records)

    def _span(self, record: Record) -> Span:
        return record.first, record.end if self.is_believed(record) else record.durable

    def next_ticket(self) -> int:
        """A number higher than that of every earlier request of this upload; whoever calls holds the guard."""
        block = os.pread(self.fd, 8, _TICKET_AT)
        ticket: int = _WORD.unpack(block)[0] + 1
        os.pwrite(self.fd, _WORD.pack(ticket), _TICKET_AT)
        return ticket

    def add(self, first: int, limit: int, ticket: int = 0) -> int:
        """A record for a range that somebody begins to write; its index. Args: ticket: of who writes."""
        size = os.fstat(self.fd).st_size
        used = {record.index for record in self.records()}
        count = max(0, size - RECORDS_AT) // RECORD_BYTES
        index = next((index for index in range(count) if index not in used), count)
        if index >= MAX_RECORDS:
            raise TooManyGaps(self.extents().prefix)
        self._ours.add(index)
        words = (_WRITING, 0, self._boot, first, first, first, limit, ticket)
        fsutil.write_all(self.fd, memoryview(_RECORD.pack(*words)), RECORDS_AT + index * RECORD_BYTES)
        return index

    def set_end(self, index: int, end: int) -> None:
        self._set(index, _END, end)

    def is_wanted(self, index: int) -> bool:
        """Whether the writer of this record should give way."""
        at = RECORDS_AT + index * RECORD_BYTES + _WANTED * 8
        return os.pread(self.fd, 8, at) != bytes(8)

    def want(self, first: int, end: int, ticket: int | None = None) -> None:
        """Tell everybody who writes between ``first`` and ``end`` to give way.

        Args:
            ticket: only to those who came before this one; the newest request wins, however long it waited.
        """
        block = os.pread(self.fd, MAX_RECORDS * RECORD_BYTES, RECORDS_AT)
        for index in range(len(block) // RECORD_BYTES):
            words = _RECORD.unpack_from(block, index * RECORD_BYTES)
            is_older = ticket is None or words[_TICKET] < ticket
            if words[_STATE] == _WRITING and words[_FIRST] < end and first < words[_LIMIT] and is_older:
                self._set(index, _WANTED, 1)

    def close_record(self, index: int) -> None:
        """Its writer has ended."""
        self._ours.discard(index)
        self._set(index, _STATE, _CLOSED)
        self.tidy()

    def tidy(self) -> None:
        """Leave no more records than holes and writers make: what killed writers left is closed, what is empty is
        freed, and closed neighbours become one record where ``may_join`` allows that; whoever calls holds the guard.

        Called whenever a writer ends and whenever all is durable, because only then neighbours of which one was durable
        and the other one was not may be joined.
        """
        closed = []
        for record in self.records():
            if not self.is_believed(record) or not (record.is_closed or self._is_left(record)):
                continue
            if record.end <= record.first:
                self._set(record.index, _STATE, _FREE)
                continue
            if not record.is_closed:
                self._set(record.index, _STATE, _CLOSED)
            closed.append(record)
        self._join(sorted(closed, key=lambda record: record.first))

    def _is_left(self, record: Record) -> bool:
        """Whether the writer of an open record was killed. A living one has its range locked."""
        return record.index not in self._ours and not self.is_held(record.first, max(record.limit, record.first + 1))

    def _join(self, closed: list[Record]) -> None:
        """In an order that a crash may cut anywhere: the one that stays grows first, the others go then.

        Args:
            closed: in the order of their bytes.
        """
        runs: list[tuple[Record, list[Record]]] = []
        for record in closed:
            if runs and runs[-1][0].may_join(record):
                grown, members = runs.pop()
                runs.append((grown.joined(record), [*members, record]))
            else:
                runs.append((record, [record]))
        gone: list[int] = []
        must_sync = False
        for grown, members in runs:
            if len(members) == 1:
                continue
            stays = min(member.index for member in members)
            self._replace(replace(grown, index=stays))
            for member in members:
                if member.index != stays:
                    gone.append(member.index)
                    is_elsewhere = member.index // _OF_A_PAGE != stays // _OF_A_PAGE
                    must_sync = must_sync or (is_elsewhere and member.durable > member.first)
        if must_sync:
            fsutil.fsync(self.fd)  # pages reach the disk in any order, and what a freed one says was told
        for index in gone:
            self._set(index, _STATE, _FREE)

    def _replace(self, record: Record) -> None:
        at = RECORDS_AT + record.index * RECORD_BYTES
        words = (_CLOSED, 0, record.boot, record.first, record.end, record.durable, record.limit, 0)
        fsutil.write_all(self.fd, memoryview(_RECORD.pack(*words)), at)

    def make_durable(self, records: list[Record]) -> None:
        """Everything that ``records`` recorded is on disk now."""
        for record in records:
            end = self._span(record)[1]
            if not self.is_believed(record):
                if not record.is_closed and not self._is_left(record):
                    continue  # another host writes it, which shares the store and has a boot of its own
                self._set(record.index, _END, end)
                self._set(record.index, _BOOT, self._boot)
                self._set(record.index, _STATE, _CLOSED)
            if record.durable != end:
                self._set(record.index, _DURABLE, end)

    def _set(self, index: int, word: int, value: int) -> None:
        os.pwrite(self.fd, _WORD.pack(value), RECORDS_AT + index * RECORD_BYTES + word * 8)

    # Locks

    def try_lock(self, first: int, end: int) -> bool:
        """Hold the range alone until ``unlock`` or the end of this descriptor; False when somebody holds a part."""
        return rangelocks.try_lock(self.fd, first, end)

    def unlock(self, first: int, end: int) -> None:
        rangelocks.unlock(self.fd, first, end)

    def is_held(self, first: int, end: int) -> bool:
        """Whether somebody else holds a part of the range; takes nothing."""
        return rangelocks.is_held(self.fd, first, end)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A ``with`` block in which nobody else changes the records. Held for a few calls and at most one sync.

        Raises:
            BlockingIOError: somebody has held it for seconds: that process stands still.
        """
        fsutil.patiently(lambda: self.try_lock(META, META + 1))
        try:
            yield
        finally:
            self.unlock(META, META + 1)
