"""State in this process's memory: for tests, and the plainest reading of the port's contract.

Nothing is shared with other workers and nothing survives. Over ``most_rows`` the row written longest ago is dropped.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from hmacfs.state.base import (
    AT_WORK,
    MOST_RESERVATIONS,
    SHARED,
    BanStore,
    FileRow,
    Grant,
    Reservation,
    SessionRow,
    newest,
    owner_after,
    page,
)
from hmacfs.state.memorybans import MemoryBans

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
        self.bans: BanStore = MemoryBans()
        self._counts: dict[str, tuple[int, int]] = {}
        self._settled: dict[str, int] = {}
        self._reservations: dict[str, Reservation] = {}

    def record_files(self, rows: Sequence[FileRow]) -> None:
        with self._lock:
            known = [self._files[row.path] for row in rows if row.path in self._files]
            self._put(self._files, newest([*known, *rows]).items())

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

    def stored_bytes(self, uploader: str) -> int:
        with self._lock:
            return sum(row.size for row in self._files.values() if row.uploader == uploader)

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

    def reserve(self, wish: Reservation, quota: int, now: int) -> Grant:
        with self._lock:
            stored, until = self._counts.get(wish.account, (0, 0))
            if until <= now:
                return Grant.UNCOUNTED
            others = [each for each in self._living(wish.account, now) if each.key != wish.key]
            if stored + sum(each.size for each in others) + wish.size > quota or len(others) >= MOST_RESERVATIONS:
                return Grant.FULL
            known = self._reservations.get(wish.key)
            owner = known.owner if known is not None and known.expires_at > now else ""
            self._keep(replace(wish, owner=owner_after(owner, wish.owner)))
            return Grant.GRANTED

    def renew(self, reservations: Sequence[Reservation], now: int) -> None:
        with self._lock:
            for each in reservations:
                known = self._reservations.get(each.key, each)
                self._keep(known if known.expires_at > now else each, each.expires_at)

    def settle(self, reservations: Sequence[Reservation]) -> None:
        with self._lock:
            for each in reservations:
                found = self._reservations.pop(each.key, None)
                if found is not None:
                    self._put(self._settled, [(each.account, self._settled.get(each.account, 0) + 1)])
                if found is not None and each.account in self._counts:
                    stored, until = self._counts[each.account]
                    self._counts[each.account] = stored + found.size, until

    def give_back(self, reservations: Sequence[Reservation]) -> None:
        with self._lock:
            for each in reservations:
                found = self._reservations.get(each.key)
                if found is None or each.owner not in ("", found.owner.removeprefix(SHARED)):
                    continue
                if found.owner.startswith(SHARED) or (not each.owner and found.owner.startswith(AT_WORK)):
                    ends = min(found.expires_at, each.expires_at)
                    self._reservations[each.key] = replace(found, expires_at=ends)
                else:
                    del self._reservations[each.key]

    def used(self, account: str, now: int) -> int | None:
        with self._lock:
            stored, until = self._counts.get(account, (0, 0))
            return None if until <= now else stored + sum(each.size for each in self._living(account, now))

    def begin_count(self, account: str, now: int) -> int:  # noqa: ARG002 - for tiers that purge
        return self._settled.get(account, 0)

    def count(self, account: str, stored: int, mark: int, now: int, until: int) -> bool:  # noqa: ARG002 - the same
        with self._lock:
            if self._settled.get(account, 0) != mark:
                return False
            self._put(self._counts, [(account, (stored, until))])
            return True

    def forget_counts(self) -> None:
        with self._lock:
            self._counts.clear()

    def ping(self) -> None:
        """Always works."""

    def close(self) -> None:
        """Nothing to give up."""

    def _living(self, account: str, now: int) -> list[Reservation]:
        return [each for each in self._reservations.values() if each.account == account and each.expires_at > now]

    def _keep(self, wish: Reservation, at_least: int = 0) -> None:
        known = self._reservations.get(wish.key, wish)
        expires_at = max(wish.expires_at, known.expires_at, at_least)
        self._put(self._reservations, [(wish.key, replace(wish, expires_at=expires_at))])

    def _put(self, kept: dict[str, Row], new: Iterable[tuple[str, Row]]) -> None:
        for key, row in new:
            kept.pop(key, None)  # written anew, it is the youngest
            kept[key] = row
        while len(kept) > self._most:
            del kept[next(iter(kept))]


def _lives(row: SessionRow, now: int) -> bool:
    return row.expires_at > now and not row.is_over
