"""The state port: facts that several workers and several servers share.

Disk is the truth about bytes, and nothing here is needed to take, resume or serve a file: state says what is there
without a walk over the disk. So every verb may raise StateUnavailable, and callers that serve people never wait for
one, but for the verb that decides about a quota.

Drivers' errors are translated once, in the adapter: StateUnavailable is the only error that leaves it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from hmacfs.core.bans import Ban
from hmacfs.errors import StateUnavailable


class RowsRejected(StateUnavailable):
    """A tier answers, but does not take what it was given: its columns or its encoding cannot keep it."""


MAX_PAGE = 1000
"""Rows of one page at most, so that no answer of a tier grows without bound."""


def page(limit: int) -> int:
    """Rows to answer where a caller asked for ``limit``: 0 to MAX_PAGE."""
    return max(0, min(limit, MAX_PAGE))


@dataclass(frozen=True, slots=True)
class FileRow:
    """One stored file in the catalogue.

    Attributes:
        path: PATH of the slot, as text.
        size: bytes.
        digest: SHA-256 of the content as 64 hex digits; empty where it was not computed.
        uploader: who sent it, as far as the signature tells; empty otherwise.
        stored_us: Unix microseconds.
        expires_at: Unix seconds, 0 for never by claim.
    """

    path: str
    size: int
    content_type: str
    digest: str
    uploader: str
    stored_us: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One unfinished upload; or, with ``is_over``, that there is none any more (see ``ended``).

    Attributes:
        key: SHA-256 of the token or upload id as 64 hex digits: what could continue the upload is never in here.
        path: PATH of the slot, as text.
        total, offset: bytes; ``offset`` is the length of the gap-free prefix when the row was written.
        face: "session", "tus" or "draft".
        started_ms: Unix milliseconds, so that two uploads under one key within a second are told apart.
        expires_at: Unix seconds, after which the row is as good as gone.
    """

    key: str
    path: str
    total: int
    offset: int
    content_type: str
    face: str
    started_ms: int
    expires_at: int
    is_over: bool = False


END_SECONDS = 600
"""How long the end of an upload is remembered: longer than a worker may hold back what it knew of it before."""

FILE_ORDER = ("stored_us",)
"""What makes one row of a path newer than another. The worker that stored a file may tell of it when another one has
replaced it already."""

SESSION_ORDER = ("started_ms", "is_over", "offset", "expires_at")
"""What makes one row of a key newer than another, the weightiest first. No fact of an upload takes one of these back,
so every process can tell which of two rows is newer, in whatever order they come. But a power cut may take back bytes
that had not been synced: then a row says too much until its upload has got as far again."""

Row = FileRow | SessionRow
SomeRow = TypeVar("SomeRow", FileRow, SessionRow)


def key_of(row: Row) -> str:
    """What a row is found by: a file's path, a session's key."""
    return row.path if isinstance(row, FileRow) else row.key


_FILE_VALUES = attrgetter(*FileRow.__dataclass_fields__)
_SESSION_VALUES = attrgetter(*SessionRow.__dataclass_fields__)


def values(row: Row) -> tuple[Any, ...]:
    """The fields in their order. ``dataclasses.astuple`` copies each of them deeply, which takes longer (6 µs) than all
    else that is done to write a row among others."""
    found: tuple[Any, ...] = (_FILE_VALUES if isinstance(row, FileRow) else _SESSION_VALUES)(row)
    return found


def rank(row: Row) -> tuple[int, ...]:
    """Compares rows of one path or key: the greater is the newer. The fields of FILE_ORDER or SESSION_ORDER."""
    if isinstance(row, FileRow):
        return (row.stored_us,)
    return row.started_ms, row.is_over, row.offset, row.expires_at


def newest(rows: Iterable[SomeRow]) -> dict[str, SomeRow]:
    """Of each path or key the newest row; of two as new as each other the last."""
    kept: dict[str, SomeRow] = {}
    for row in rows:
        key = key_of(row)
        if key not in kept or rank(row) >= rank(kept[key]):
            kept[key] = row
    return kept


def milliseconds(seconds: float) -> int:
    """The unit of ``started_ms``: the same number in every process for the same moment."""
    return int(seconds * 1000)


def ended(key: str, started_ms: int, now: float) -> SessionRow:
    """The end of the upload that began at ``started_ms`` as a row: newer than every row of that upload and of those
    before it under the same key, and never seen.

    Args:
        now: Unix seconds.
    """
    return SessionRow(key, "", 0, 0, "", "", started_ms, int(now) + END_SECONDS, is_over=True)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Bytes that an upload is going to take of its uploader's quota.

    Attributes:
        account: whose; ``core.quota.account_of``.
        key: which upload; ``core.quota.reservation_key``. There is one reservation for a key.
        size: bytes.
        owner: tells the request that asked last from those that asked before it; empty: whichever it was. With
            ``AT_WORK`` before it while the request itself holds the bytes, and nothing on the disk.
        expires_at: Unix seconds, after which it is as good as gone.
    """

    account: str
    key: str
    size: int
    owner: str
    expires_at: int


AT_WORK = "run:"
SHARED = "+"
"""Before the owner who took a reservation over from somebody who was at work, and may be still."""


def owner_after(known: str, asking: str) -> str:
    """Whose a living reservation is once ``asking`` has asked for it. Args: known: its owner until then."""
    return SHARED + asking if known.startswith((AT_WORK, SHARED)) else asking


class Grant(StrEnum):
    """What became of a wish for a reservation: granted; too much for the quota; or it is not known how much the account
    has, and ``count`` must tell first."""

    GRANTED = "granted"
    FULL = "full"
    UNCOUNTED = "uncounted"


MOST_RESERVATIONS = 1000
"""Of one account; one more does not fit, however few bytes it has."""


class Catalog(Protocol):
    """What was uploaded. Never needed to serve a file; ``hmacfs reindex`` rebuilds it from disk."""

    def record_files(self, rows: Sequence[FileRow]) -> None:
        """Insert, or replace by path what is not newer (``rank``); all rows in one round trip, however many.

        Comparing and replacing is one step: workers that write what they know in any order leave the same rows.
        """

    def find_file(self, path: str) -> FileRow | None: ...

    def forget_files(self, paths: Sequence[str]) -> None:
        """Unknown paths are no error."""

    def list_files(self, after: str, limit: int) -> list[FileRow]:
        """At most ``limit`` (and MAX_PAGE) rows with a path behind ``after``, ordered by the path's UTF-8 bytes."""

    def stored_bytes(self, uploader: str) -> int:
        """The sizes of all files of ``uploader`` together."""


class Sessions(Protocol):
    """Unfinished uploads, for people and for counting; the partial on disk is the truth."""

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        """Insert, or replace by key what is not newer (``rank``); ends are rows as well. All in one round trip.

        Comparing and replacing is one step: workers that write what they know in any order leave the same rows.
        """

    def find_session(self, key: str, now: int) -> SessionRow | None:
        """None when unknown, over, or expired at ``now``, Unix seconds."""

    def list_sessions(self, now: int, limit: int) -> list[SessionRow]:
        """At most ``limit`` (and MAX_PAGE) rows of uploads that are not over and live at ``now``, those that expire
        first come first."""


class Upkeep(Protocol):
    """Who looks after what several servers share, and the removal of rows whose time is over."""

    def lease(self, name: str, holder: str, seconds: int, now: int) -> bool:
        """Whether ``holder`` has ``name`` from now on: it was free, over, or the holder's own already.

        One step, so that of several who ask at once one gets it.

        Args:
            seconds: until it is over; 0 gives it back.
            now: Unix seconds. A tier with a clock that all hosts share uses that.
        """

    def purge(self, now: int) -> None:
        """Remove rows that are over at ``now``, a bounded number of them; nothing where a tier does so by itself."""


@dataclass(frozen=True, slots=True)
class BanBook:
    """What one tier knows of bans.

    Attributes:
        book: which tier's, and which life of it: a Redis that lost everything has another one.
        mark: changes with every change of the bans.
        bans: those that are remembered; None where nothing has changed.
    """

    book: str
    mark: str
    bans: list[Ban] | None


class BanStore(Protocol):
    """Banned clients, and failures of those that may be banned. Each verb is one round trip, and atomic.

    Not moved between tiers: who reads them writes what it knows into another tier's book (``services.bans``).
    """

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        """More failures of some addresses, at most 1000 of them; how many of each count at ``now``, Unix seconds.

        Those of an address that is banned then do not count: who tells of them has not read of the ban yet. Otherwise
        what failed before a ban, told behind it, would bring the next one.
        """

    def save(self, bans: Sequence[Ban]) -> set[str]:
        """Insert, or replace by address what is not newer (``core.bans.is_newer``); their failures count no more.
        A lift is such a row too (``core.bans.lifted``).

        Returns:
            Addresses that are banned by these and were not before (``core.bans.begins``): of all who save a ban that
            they found at the same moment, one hears of it.
        """

    def read(self, known: str) -> BanBook:
        """All bans, unless ``known`` is their mark still; of too many the ones that end first are left out."""

    def agree(self, fingerprint: str) -> bool:
        """The bans are those of the secret with this fingerprint, 64 hex digits. If they were another one's they are
        all lifted, which True says; the first fingerprint lifts none."""


class SharedBanStore(BanStore, Protocol):
    """Bans in whichever tier serves, and what lies in those below it."""

    def lift(self, lifts: Sequence[Ban]) -> None:
        """``save`` in the tier that serves, and in every lower one that answers: one that takes over later may hold an
        old ban, and be read by a process that knows nothing."""

    def lifts_below(self) -> list[Ban]:
        """Lifts in lower tiers: written there while those above were away."""


class Accounts(Protocol):
    """How many bytes each uploader has and is about to have. Counts are copies of what the catalogue says: each holds
    for a time, and may be forgotten at any moment. Times are Unix seconds of the caller's clock."""

    def reserve(self, wish: Reservation, quota: int, now: int) -> Grant:
        """Reserve bytes if they, what is stored and all other living reservations fit into ``quota`` together.

        One step: of several who ask at once, no more are granted than fit. A reservation with the same key is replaced,
        and expires when the later of the two does.
        """

    def renew(self, reservations: Sequence[Reservation], now: int) -> None:
        """These uploads go on: what is reserved for them lives at least so long, and is there again if it was lost."""

    def settle(self, reservations: Sequence[Reservation]) -> None:
        """These uploads are in the catalogue: what is reserved for them counts as stored. Repeating it is harmless."""

    def give_back(self, reservations: Sequence[Reservation]) -> None:
        """These uploads have ended otherwise. A reservation that another owner has taken over meanwhile stays. One that
        was taken over from somebody who may be at work still (``SHARED``) ends at the given ``expires_at``, or before:
        whoever is at work renews it until then. So does one that somebody at work holds (``AT_WORK``), where the given
        owner is empty."""

    def used(self, account: str, now: int) -> int | None:
        """Bytes stored and reserved; None where they are not counted."""

    def begin_count(self, account: str, now: int) -> int:
        """A mark for ``count``, taken before the catalogue is asked."""

    def count(self, account: str, stored: int, mark: int, now: int, until: int) -> bool:
        """``stored`` bytes are in the catalogue. That holds until ``until``, with what is settled meanwhile.

        Returns whether it was taken: not if something was settled since ``mark``, because nobody knows whether that is
        among these bytes. One that is in the catalogue and not settled yet is counted twice until the next count.
        """

    def forget_counts(self) -> None:
        """No count holds any more; reservations stay."""


class Tier(Catalog, Sessions, Upkeep, Accounts, Protocol):
    """One place that keeps state: Redis, PostgreSQL, MySQL or MariaDB, SQLite, or this process's memory.

    Attributes:
        bans: who is banned.
        name: "redis", "postgres", "mysql", "embedded" or "memory"; for logs, health and metrics.
    """

    name: str

    @property
    def bans(self) -> BanStore: ...

    def ping(self) -> None:
        """Nothing, within a second, when the tier works; makes what it lacks (schema, scripts). Raises
        StateUnavailable."""

    def close(self) -> None:
        """Give up every connection. Never raises."""


class Kind(StrEnum):
    """What rows are about."""

    FILES = "files"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True)
class Held:
    """Rows that a lower tier took while a higher one was away.

    Attributes:
        revisions: changes with every write of a row, so that a row written again meanwhile is told from these.
    """

    kind: Kind
    rows: list[Row]
    revisions: list[int]


class Lower(Tier, Protocol):
    """A tier that can stand in for a higher one, and hand up what it took."""

    def held(self, kind: Kind, limit: int) -> Held:
        """At most ``limit`` rows that lie here; none when all has been handed up."""

    def release(self, held: Held) -> None:
        """Remove these rows, but not those that were written again since ``held`` was asked."""


class Cache(Tier, Protocol):
    """A tier whose catalogue only remembers: a row that it does not know may exist all the same.

    ``list_files`` raises StateUnavailable: what a cache knows is no list.
    """

    def cached_file(self, path: str) -> tuple[bool, FileRow | None]:
        """Whether it knows about ``path``, and what: (True, None) is a file that was forgotten a moment ago."""

    def fill_file(self, row: FileRow) -> None:
        """Remember what the catalogue said, unless something newer was remembered or forgotten meanwhile."""

    def distrust(self) -> None:
        """Nothing that is remembered of files counts any more: changes may have been missed."""
