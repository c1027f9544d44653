"""Bans in this process's memory: the plainest reading of their contract."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from hmacfs.core import bans
from hmacfs.core.bans import Ban, FailCounts
from hmacfs.state.base import BanBook


class MemoryBans:
    """Args: clock: Unix seconds, for the removal of what nobody needs any more."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts = FailCounts()
        self._bans: dict[str, Ban] = {}
        self._book = secrets.token_hex(8)
        self._mark = secrets.token_hex(8)
        self._fingerprint = ""

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        with self._lock:
            return {address: self._count(address, count, now) for address, count in fails.items()}

    def save(self, rows: Sequence[Ban]) -> set[str]:
        begun = set()
        with self._lock:
            for ban in rows:
                known = self._bans.get(ban.address)
                if bans.begins(ban, known):
                    begun.add(ban.address)
                if known is None or bans.is_newer(ban, known):
                    self._bans[ban.address] = ban
                self._counts.forget(ban.address)
            self._tidy()
            self._mark = secrets.token_hex(8)
        return begun

    def read(self, known: str) -> BanBook:
        with self._lock:
            return BanBook(self._book, self._mark, None if known == self._mark else list(self._bans.values()))

    def agree(self, fingerprint: str) -> bool:
        with self._lock:
            changed = self._fingerprint not in ("", fingerprint)
            self._fingerprint = fingerprint
            if changed:
                self._bans.clear()
                self._counts.clear()
                self._mark = secrets.token_hex(8)
            return changed

    def _count(self, address: str, count: int, now: float) -> int:
        ban = self._bans.get(address)
        return 0 if ban is not None and ban.is_active(now) else self._counts.add(address, count, now)

    def _tidy(self) -> None:
        now = self._clock()
        kept = [ban for ban in self._bans.values() if ban.is_remembered(now)]
        kept.sort(key=lambda ban: -ban.until)
        self._bans = {ban.address: ban for ban in kept[: bans.MOST_BANS]}
