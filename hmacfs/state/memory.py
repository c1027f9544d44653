"""State in this process's memory: for tests, and the plainest reading of the port's contract.

Nothing is shared with other workers and nothing survives. Over ``most_rows`` the row written longest ago is dropped.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import TypeVar

from hmacfs.state.base import FileRow, SessionRow, newest, page

Row = TypeVar("Row")


class MemoryTier:
    """Args: most_rows: kept of each kind at most."""

    name = "memory"

    def __init__(self, most_rows: int = 100_000) -> None:
        self._most = most_rows
        self._lock = threading.Lock()
        self._files: dict[str, FileRow] = {}
        self._sessions: dict[str, SessionRow] = {}
        self._leases: dict[str, tuple[str, int]] = {}

    def record_files(self, rows: Sequence[FileRow]) -> None:
        with self._lock:
            self._put(self._files, ((row.path, row) for row in rows))

    def find_file(self, path: str) -> FileRow | None:
        return self._files.get(path)

    def forget_files(self, paths: Sequence[str]) -> None:
        with self._lock:
            for path in paths:
                self._files.pop(path, None)

    def list_files(self, after: str, limit: int) -> list[FileRow]:
        with self._lock:
            behind = [path for path in self._files if path > after]
            # Text sorts by code points, and so do the bytes of UTF-8.
            return [self._files[path] for path in sorted(behind)[: page(limit)]]

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        with self._lock:
            known = [self._sessions[row.key] for row in rows if row.key in self._sessions]
            self._put(self._sessions, newest([*known, *rows]).items())

    def find_session(self, key: str, now: int) -> SessionRow | None:
        row = self._sessions.get(key)
        return row if row is not None and _lives(row, now) else None

    def list_sessions(self, now: int, limit: int) -> list[SessionRow]:
        with self._lock:
            living = [row for row in self._sessions.values() if _lives(row, now)]
        return sorted(living, key=lambda row: (row.expires_at, row.key))[: page(limit)]

    def lease(self, name: str, holder: str, seconds: int, now: int) -> bool:
        with self._lock:
            owner, ends = self._leases.get(name, ("", 0))
            if ends > now and owner != holder:
                return False
            self._leases[name] = (holder, now + seconds)
            return True

    def purge(self, now: int) -> None:
        with self._lock:
            for key in [key for key, row in self._sessions.items() if row.expires_at <= now]:
                del self._sessions[key]

    def ping(self) -> None:
        """Always works."""

    def close(self) -> None:
        """Nothing to give up."""

    def _put(self, kept: dict[str, Row], new: Iterable[tuple[str, Row]]) -> None:
        for key, row in new:
            kept.pop(key, None)  # written anew, it is the youngest
            kept[key] = row
        while len(kept) > self._most:
            del kept[next(iter(kept))]


def _lives(row: SessionRow, now: int) -> bool:
    return row.expires_at > now and not row.is_over
