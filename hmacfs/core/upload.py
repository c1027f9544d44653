"""The resumable upload: which of its bytes are there, what may happen to it next, and when it is too old.

One machine for all three faces (protocol, section 5). The faces differ in what they call things, never in these rules.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from hmacfs.errors import BodyTooLong, TooManyGaps, UploadComplete, UploadGone, WrongOffset

MAX_GAPS = 1024
"""Holes in one upload (protocol, section 5): what is recorded of an upload stays a small list."""

Span = tuple[int, int]
"""First byte and the byte behind the last one."""


class Extents:
    """Which bytes are there: disjoint spans in order, none touching the next. Immutable.

    Args:
        spans: in any order, overlapping or not; empty ones count for nothing.
    """

    __slots__ = ("_ends", "_firsts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in sorted(span for span in spans if span[0] < span[1]):
            if self._ends and first <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._firsts.append(first)
                self._ends.append(end)

    @property
    def spans(self) -> list[Span]:
        return list(zip(self._firsts, self._ends, strict=True))

    @property
    def prefix(self) -> int:
        """Length of the gap-free beginning: the offset that clients are told."""
        return self._ends[0] if self._firsts and self._firsts[0] == 0 else 0

    @property
    def recorded(self) -> int:
        """How many bytes are there, wherever they are."""
        return sum(self._ends) - sum(self._firsts)

    @property
    def gaps(self) -> int:
        """Holes before the last byte that is there."""
        return len(self._firsts) - (1 if self._firsts and self._firsts[0] == 0 else 0)

    def missing(self, first: int, end: int) -> list[Span]:
        """The holes between ``first`` and ``end``, in order."""
        holes = []
        index = bisect_right(self._firsts, first) - 1
        here = max(first, self._ends[index]) if index >= 0 else first
        for at in range(index + 1, bisect_left(self._firsts, end)):
            holes.append((here, self._firsts[at]))
            here = self._ends[at]
        if here < end:
            holes.append((here, end))
        return holes

    def plus(self, first: int, end: int) -> "Extents":
        """These and the bytes from ``first`` to ``end``."""
        return Extents([*self.spans, (first, end)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and self.spans == other.spans

    def __hash__(self) -> int:
        return hash(tuple(self.spans))

    def __repr__(self) -> str:
        return f"Extents({self.spans})"


class State(Enum):
    """Where an upload stands. OPEN until its one step of publishing, whatever has arrived."""

    OPEN = 0
    PUBLISHED = 1
    GONE = 2


class Event(Enum):
    ASK = "ask"
    WRITE = "write"
    PUBLISH = "publish"
    TERMINATE = "terminate"
    EXPIRE = "expire"


class Verdict(Enum):
    """What the caller does about an event: carry it out, answer that the file is there already, or refuse."""

    GO = "go"
    DONE = "done"
    REFUSE_COMPLETE = "complete"
    REFUSE_GONE = "gone"


TRANSITIONS: dict[tuple[State, Event], tuple[Verdict, State]] = {
    (State.OPEN, Event.ASK): (Verdict.GO, State.OPEN),
    (State.OPEN, Event.WRITE): (Verdict.GO, State.OPEN),
    (State.OPEN, Event.PUBLISH): (Verdict.GO, State.PUBLISHED),
    (State.OPEN, Event.TERMINATE): (Verdict.GO, State.GONE),
    (State.OPEN, Event.EXPIRE): (Verdict.GO, State.GONE),
    (State.PUBLISHED, Event.ASK): (Verdict.GO, State.PUBLISHED),
    (State.PUBLISHED, Event.WRITE): (Verdict.REFUSE_COMPLETE, State.PUBLISHED),
    (State.PUBLISHED, Event.PUBLISH): (Verdict.DONE, State.PUBLISHED),
    (State.PUBLISHED, Event.TERMINATE): (Verdict.REFUSE_GONE, State.PUBLISHED),
    (State.PUBLISHED, Event.EXPIRE): (Verdict.GO, State.GONE),
    (State.GONE, Event.ASK): (Verdict.REFUSE_GONE, State.GONE),
    (State.GONE, Event.WRITE): (Verdict.REFUSE_GONE, State.GONE),
    (State.GONE, Event.PUBLISH): (Verdict.REFUSE_GONE, State.GONE),
    (State.GONE, Event.TERMINATE): (Verdict.REFUSE_GONE, State.GONE),
    (State.GONE, Event.EXPIRE): (Verdict.DONE, State.GONE),
}
"""(where it stands, what happens) to (what to do, where it stands then). Nothing leads out of GONE, and from PUBLISHED
only expiry leads on, which forgets the upload and never touches the file."""


def move(state: State, event: Event) -> State:
    """Where the upload stands after ``event``.

    Raises:
        UploadComplete: it is published and takes nothing more.
        UploadGone: it was terminated, it expired, or it is published and cannot be terminated any more.
    """
    verdict, after = TRANSITIONS[state, event]
    if verdict is Verdict.REFUSE_COMPLETE:
        raise UploadComplete
    if verdict is Verdict.REFUSE_GONE:
        raise UploadGone
    return after


@dataclass(frozen=True, slots=True)
class Piece:
    """What one request brings: the bytes from ``first`` to ``end``.

    Attributes:
        end: behind the last byte; None where the body does not say its length.
    """

    first: int
    end: int | None


def check_append(have: Extents, total: int, piece: Piece) -> None:
    """Whether ``piece`` continues the upload exactly where it stands (tus, the draft, ChunkingEnabled = false).

    Raises:
        WrongOffset: it begins elsewhere.
        BodyTooLong: it goes beyond the total.
    """
    if piece.first != have.prefix:
        raise WrongOffset(have.prefix, piece.first)
    if piece.end is not None and piece.end > total:
        raise BodyTooLong


def check_gaps(have: Extents, piece: Piece) -> None:
    """Whether the upload may take a piece that lies anywhere.

    Raises:
        TooManyGaps: it would tear one hole more than there may be. A piece that makes none is always welcome.
    """
    if piece.end is None or have.gaps < MAX_GAPS:
        return
    after = have.plus(piece.first, piece.end)
    if after.gaps > max(MAX_GAPS, have.gaps):
        raise TooManyGaps(have.prefix)


def replaces(ours: Extents, theirs: Extents) -> bool:
    """Whether a broken-off PUT of its own takes the place of what the token has (protocol, section 5, "never merges").

    Only where it is longer, and never where a client would be told a smaller offset than before.
    """
    return ours.prefix >= theirs.prefix and ours.recorded > theirs.recorded


def is_expired(changed: float, ttl: float, now: float) -> bool:
    """Args: changed: Unix seconds of the last byte. ttl: seconds (SessionTTL)."""
    return now - changed > ttl
