"""The state port: facts that several workers and several servers share.

Disk is the truth about bytes, and nothing here is needed to take, resume or serve a file: state says what is there
without a walk over the disk. So every verb may raise StateUnavailable, and callers that serve people never wait for
one.

Drivers' errors are translated once, in the adapter: StateUnavailable is the only error that leaves it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
        stored_at: Unix seconds.
        expires_at: Unix seconds, 0 for never by claim.
    """

    path: str
    size: int
    content_type: str
    digest: str
    uploader: str
    stored_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One unfinished upload.

    Attributes:
        key: SHA-256 of the token or upload id as 64 hex digits: what could continue the upload is never in here.
        path: PATH of the slot, as text.
        total, offset: bytes; ``offset`` is the length of the gap-free prefix when the row was written.
        face: "session", "tus" or "draft".
        started_at, expires_at: Unix seconds; after the latter the row is as good as gone.
    """

    key: str
    path: str
    total: int
    offset: int
    content_type: str
    face: str
    started_at: int
    expires_at: int


class Catalog(Protocol):
    """What was uploaded. Never needed to serve a file; ``hmacfs reindex`` rebuilds it from disk."""

    def record_files(self, rows: Sequence[FileRow]) -> None:
        """Insert, or replace by path; all rows in one round trip, however many."""

    def find_file(self, path: str) -> FileRow | None: ...

    def forget_files(self, paths: Sequence[str]) -> None:
        """Unknown paths are no error."""

    def list_files(self, after: str, limit: int) -> list[FileRow]:
        """At most ``limit`` (and MAX_PAGE) rows with a path behind ``after``, ordered by the path's UTF-8 bytes."""


class Sessions(Protocol):
    """Unfinished uploads, for people and for counting; the partial on disk is the truth."""

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        """Insert, or replace by key; all rows in one round trip."""

    def find_session(self, key: str, now: int) -> SessionRow | None:
        """None when unknown or expired at ``now``, Unix seconds."""

    def forget_sessions(self, keys: Sequence[str]) -> None:
        """Unknown keys are no error."""

    def list_sessions(self, now: int, limit: int) -> list[SessionRow]:
        """At most ``limit`` (and MAX_PAGE) rows that live at ``now``, those that expire first come first."""


class Tier(Catalog, Sessions, Protocol):
    """One place that keeps state: Redis, PostgreSQL, MySQL or MariaDB, SQLite, or this process's memory.

    Attributes:
        name: "redis", "postgres", "mysql", "embedded" or "memory"; for logs, health and metrics.
    """

    name: str

    def ping(self) -> None:
        """Nothing, within a second, when the tier works; makes what it lacks (schema, scripts). Raises
        StateUnavailable."""

    def close(self) -> None:
        """Give up every connection. Never raises."""
