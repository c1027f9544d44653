"""Who may transfer now: draining, memory, concurrency, and free space with everything in flight counted.

The last check of an upload before its body is asked for. What was taken is given back on every way out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core.paths import SlotPath
from hmacfs.errors import Draining, ServerBusy, StorageFull, TooManyUploads
from hmacfs.services.gate import Gate

_SPACE_SECONDS = 1.0

MOST_PROMISED = 2**45
"""Bytes of free space that one upload counts for, at most: no disk has as many left, and as many uploads as a worker
may have (MaxWorkers) do not pass what a word of the scoreboard holds."""


class Board(Protocol):
    """Numbers that all workers of one server share."""

    def add_pending(self, count: int) -> None:
        """Bytes that running uploads of this worker have declared and not written; may be negative."""

    def add_written(self, count: int) -> None:
        """Bytes that this worker wrote to the store."""

    def pending(self) -> int:
        """Of all workers."""

    def written(self) -> int:
        """Of all workers, ever."""

    def memory(self) -> int:
        """Resident bytes of all workers but those that are about to end."""

    def enter_client(self, client: str) -> int:
        """One more upload of ``client`` here; how many it has in all workers now."""

    def leave_client(self, client: str) -> None: ...

    def add_uploads(self, count: int) -> None:
        """Bodies that this worker takes in; may be negative."""

    def add_downloads(self, count: int) -> None:
        """Files that this worker sends; may be negative."""

    def count_client(self, client: str) -> int:
        """How many uploads ``client`` has in all workers now. May be called in another thread."""

    def is_stopping(self) -> bool:
        """Whether the whole server stops, and not a worker of it alone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit throughout.

    Attributes:
        transfers: concurrent transfers of this process.
        uploads_per_client: over all processes.
        memory: resident bytes of all processes but those that are about to end.
        free_space: bytes of the store's filesystem that uploads may not touch.
    """

    transfers: int = 1000
    uploads_per_client: int = 0
    memory: int = 0
    free_space: int = 0


class Admission:
    """The decision, and the book of what was admitted.

    Args:
        free_bytes: free space of the store's filesystem for us; may block for a disk access.
        clock: monotonic seconds.
    """

    def __init__(self, limits: Limits, board: Board, free_bytes: Callable[[], int], clock: Callable[[], float]) -> None:
        self.limits = limits
        self.board = board
        self._free_bytes = free_bytes
        self._clock = clock
        self.gate = Gate(limits.transfers)
        self._free = 0
        self._free_at = float("-inf")
        self._written_then = 0
        self.check_rate: Callable[[str], None] | None = None
        """Raises TooManyRequests for an address that came too often (RequestRateLimit); None while that is off."""
        self.draining = False
        """This process is about to end; while that is said alone, no new upload is admitted (``drain``)."""
        self._takes_until = float("-inf")

    def upload(self, client: str, total: int) -> "Admitted":
        """Admit an upload of ``total`` bytes for as long as a ``with`` block runs.

        Entering raises TooManyRequests, TooManyUploads, Draining, ServerBusy or StorageFull, in this order (protocol,
        section 3).
        """
        return Admitted(self, client, total)

    def visit(self, client: str) -> "Visit":
        """Of a request that may be admitted more than once, as ``upload`` does."""
        return Visit(self, client)

    def drain(self, seconds: float) -> None:
        """This process is about to end. Where only workers are replaced, an upload that reaches this one all the same,
        on a connection that it has accepted, is admitted during the first half of the time: nobody need be refused.

        Args:
            seconds: until what still runs is ended.
        """
        self._takes_until = self._clock() + seconds / 2
        self.draining = True

    def check_open(self) -> None:
        """Raises Draining where no new upload may begin."""
        if self.draining and (self.board.is_stopping() or self._clock() >= self._takes_until):
            raise Draining

    def enter_slot(self, path: SlotPath) -> int:
        """One more body of a slot that stages on its own; how many of them run in all workers now."""
        return self.board.enter_client(_slot_key(path))

    def slot_bodies(self, path: SlotPath) -> int:
        """How many of them run. May be called in another thread."""
        return self.board.count_client(_slot_key(path))

    def leave_slot(self, path: SlotPath) -> None:
        self.board.leave_client(_slot_key(path))

    @contextmanager
    def sharing(self, key: str) -> Iterator[Callable[[], int]]:
        """One more body of the upload ``key`` for as long as a ``with`` block runs, which gets what tells how many of
        them run in all workers now: 1 at least."""
        name = f"upload {key}"
        self.board.enter_client(name)
        try:
            yield lambda: self.board.count_client(name)
        finally:
            self.board.leave_client(name)

    def enter_download(self) -> None:
        """Take a place for a download that outlives the call. Raises ServerBusy."""
        self.gate.enter()
        self.board.add_downloads(1)

    def leave_download(self) -> None:
        self.board.add_downloads(-1)
        self.gate.leave()

    def room(self) -> int:
        """Bytes left of what may be promised: free space, less what was written since it was asked, less what running
        uploads are going to write, less the reserve. Negative when too much was promised."""
        now = self._clock()
        if now - self._free_at > _SPACE_SECONDS:
            written = self.board.written()
            free = self._free_bytes()  # others run meanwhile: the three belong together
            self._free, self._written_then, self._free_at = free, written, now
        written_since = self.board.written() - self._written_then
        return self._free - written_since - self.board.pending() - self.limits.free_space


def _slot_key(path: SlotPath) -> str:
    """No address looks like this, so slots and clients share the board's table."""
    return f"slot {path.raw.decode()}"


class Admitted:
    """One upload from its admission to its end; what it holds is given back on every way out.

    A class and not nested generators: it stands on the way of every upload.

    Args:
        total: declared bytes.
        counts: whether the request counts for RequestRateLimit by this.
    """

    __slots__ = ("_admission", "_client", "_counts", "_left", "_undo")

    def __init__(self, admission: Admission, client: str, total: int, *, counts: bool = True) -> None:
        self._admission = admission
        self._counts = counts
        self._client = client
        self._left = min(total, MOST_PROMISED)
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> "Admitted":
        try:
            self._enter()
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give everything back before the end of the block, which has nothing left to do then."""
        while self._undo:
            self._undo.pop()()

    def wrote(self, count: int) -> None:
        """``count`` bytes are on disk now."""
        self._left -= count
        board = self._admission.board
        board.add_pending(-count)
        board.add_written(count)

    def _enter(self) -> None:
        admission, board, limits = self._admission, self._admission.board, self._admission.limits
        if admission.check_rate is not None and self._counts:
            admission.check_rate(self._client)
        if limits.uploads_per_client and self._client:
            running = board.enter_client(self._client)
            self._undo.append(self._leave_client)
            if running > limits.uploads_per_client:
                raise TooManyUploads
        admission.check_open()
        if limits.memory and board.memory() > limits.memory:
            raise ServerBusy("over MaxMemoryMB")
        admission.gate.enter()
        self._undo.append(self._leave)
        board.add_uploads(1)
        admission.check_open()  # the end may have begun while we waited
        # Reserved first and judged then: of two that judge at the same moment neither overlooks the other.
        board.add_pending(self._left)
        self._undo.append(self._return_space)
        if limits.free_space and admission.room() < 0:
            raise StorageFull("MinFreeSpace")

    def _leave(self) -> None:
        self._admission.board.add_uploads(-1)
        self._admission.gate.leave()

    def _leave_client(self) -> None:
        self._admission.board.leave_client(self._client)

    def _return_space(self) -> None:
        self._admission.board.add_pending(-self._left)


class Visit:
    """One request, which counts once for RequestRateLimit however often it is admitted. Args: client: its address."""

    def __init__(self, admission: Admission, client: str) -> None:
        self._admission = admission
        self._client = client
        self._has_come = False

    def upload(self, total: int) -> Admitted:
        """As Admission.upload."""
        counts, self._has_come = not self._has_come, True
        return Admitted(self._admission, self._client, total, counts=counts)
