"""UserQuota: the bytes that one uploader may have in the store.

An upload reserves its bytes before its body, one round trip to shared state. They count as stored once the recorder has
written the file's row, and are given back when the upload ends otherwise. What is stored is counted by the catalogue; a
tier keeps a copy of that count for a while. So who deletes a file need not say whose it was: nobody is refused by a
count that is older than a few seconds.

The quota is soft: while no tier answers, or the catalogue cannot be asked, uploads are taken all the same.
"""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from hmacfs.core import quota
from hmacfs.core.paths import SlotPath
from hmacfs.errors import QuotaExceeded, RequestError, StateUnavailable, UploadComplete
from hmacfs.services.recorder import Recorder
from hmacfs.state.base import AT_WORK, Accounts, Catalog, Grant, Reservation
from hmacfs.storage.base import Standing, Storage, UploadHeader

COUNT_SECONDS = 900
"""How long a count holds. It may be wrong by what was lost on its way to shared state, and heals with the next one."""

_COUNTINGS = 5
"""How often it is counted while uploads of the same account end just then."""

FRESH_SECONDS = 5.0
"""A count that is older refuses nobody: files may have been deleted since."""

LEASE_SECONDS = 300
"""For how long the bytes of an upload in one piece stay reserved after its process was killed."""

RENEW_SECONDS = 100.0
SHARED_SECONDS = RENEW_SECONDS + 20
"""For how long the bytes stay reserved that a failed request shared with another one of its slot: if that is at work
still, it renews them within this time."""

_RENEWED_AT_ONCE = 100
_MOST_REMEMBERED = 10_000


class State(Accounts, Catalog, Protocol):
    """Where bytes are counted."""


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """Attributes:
    most: bytes of one uploader, UserQuota.
    by_first_segment: QuotaByFirstSegment.
    session_ttl: seconds, SessionTTL.
    """

    most: int
    by_first_segment: bool = False
    session_ttl: float = 86400.0


Holding = AbstractContextManager[None]

_FREELY: Holding = nullcontext()


class Quotas:
    """No quota: everybody may have everything."""

    def uploader(self, path: SlotPath, named: str) -> str:  # noqa: ARG002
        """Who is written into the catalogue. Args: named: whom the signature names, or empty."""
        return named

    def held(self, path: SlotPath, total: int, named: str, *, resumable: bool = False) -> Holding:  # noqa: ARG002
        """A ``with`` block for an upload of ``total`` bytes, less those of the uploader's own file that they replace,
        because an old version does not count. If it ends by an exception and nothing of the upload is kept, its bytes
        are given back; otherwise they stay reserved.

        Args:
            resumable: what is kept of it stays reserved for SessionTTL.

        Raises:
            QuotaExceeded: on entering.
        """
        return _FREELY

    def settle(self, path: SlotPath, total: int, named: str) -> None:
        """The file was published, and left to the recorder before. Never waits."""

    def give_back(self, path: SlotPath, total: int, named: str) -> None:
        """The upload has ended otherwise; unless the slot has another one of this size that goes on. Never waits for a
        tier."""

    def removed(self, header: UploadHeader, left: Sequence[Standing]) -> None:
        """An unfinished upload has gone, whoever removed it. From any thread; never waits.

        Args:
            left: what its slot still has: other unfinished uploads, and its file.
        """

    def start(self) -> None:
        """Begin to look after what is held. Twice is harmless."""

    def stop(self) -> None:
        """End that."""


class UserQuotas(Quotas):
    """One quota for every uploader.

    Args:
        state: asked on the way of every upload of somebody known.
        recorder: told how reservations end.
        clock: Unix seconds.
        standing_of: the unfinished uploads of a slot; None where uploads cannot be resumed.
        replaced: where the files lie that uploads replace; None where they replace none (EnableVersioning).
    """

    def __init__(
        self,
        state: State,
        recorder: Recorder,
        rules: QuotaRules,
        clock: Callable[[], float],
        standing_of: Callable[[SlotPath], Sequence[Standing]] | None = None,
        replaced: Storage | None = None,
    ) -> None:
        self._state = state
        self._recorder = recorder
        self._rules = rules
        self._clock = clock
        self._standing_of = standing_of
        self._replaced = replaced
        self._held: dict[str, tuple[Reservation, float]] = {}
        self._counted_at: dict[str, float] = {}
        self._ended_while_renewing: deque[Reservation] = deque(maxlen=_MOST_REMEMBERED)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def uploader(self, path: SlotPath, named: str) -> str:
        return quota.uploader_of(path, named, by_first_segment=self._rules.by_first_segment)

    def held(self, path: SlotPath, total: int, named: str, *, resumable: bool = False) -> Holding:
        uploader = self.uploader(path, named)
        if not uploader or (more := self._more(path, total, uploader)) is None:
            return _FREELY
        return self._hold(path, total, more, uploader, resumable)

    def settle(self, path: SlotPath, total: int, named: str) -> None:
        if uploader := self.uploader(path, named):
            wish = self._wish(path, total, uploader, "", 0)
            self._recorder.quota_settled(wish)
            self._ended_while_renewing.append(wish)

    def give_back(self, path: SlotPath, total: int, named: str) -> None:
        uploader = self.uploader(path, named)
        if uploader:
            self._give_back(path, self._wish(path, total, uploader, "", SHARED_SECONDS))

    def removed(self, header: UploadHeader, left: Sequence[Standing]) -> None:
        if uploader := self.uploader(header.path, header.uploader):
            wish = self._wish(header.path, header.total, uploader, "", SHARED_SECONDS)
            if not self._stands_for(wish, header.path, left):
                self._recorder.quota_left(wish)

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="quotas", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ending.set()

    def renew(self) -> None:
        """Keep what is held by this process, also in a tier that did not know of it. Raises StateUnavailable."""
        now = self._clock()
        self._ended_while_renewing.clear()
        held = [replace(wish, expires_at=int(now + life)) for wish, life in self._held.values()]
        for start in range(0, len(held), _RENEWED_AT_ONCE):
            self._state.renew(held[start : start + _RENEWED_AT_ONCE], int(now))
        for wish in tuple(self._ended_while_renewing):
            self._recorder.quota_given_back(wish)  # it may have been brought back

    def _more(self, path: SlotPath, total: int, uploader: str) -> int | None:
        """What of ``total`` goes beyond the uploader's file that it replaces; None where nothing does."""
        if self._replaced is None:
            return total
        try:
            stored = self._replaced.open(path, with_content=False)
        except RequestError:  # there is none; a disk that fails says so to the upload itself
            return total
        size, named = stored.entity.size, stored.metadata.uploader
        stored.close()
        if self.uploader(path, named) != uploader:
            return total
        return total - size if total > size else None

    @contextmanager
    def _hold(self, path: SlotPath, total: int, more: int, uploader: str, resumable: bool) -> Iterator[None]:
        life = max(LEASE_SECONDS, self._rules.session_ttl) if resumable else LEASE_SECONDS
        owner = ("" if resumable else AT_WORK) + secrets.token_hex(8)
        wish = replace(self._wish(path, total, uploader, owner, life), size=more)
        self._reserve(wish, uploader)
        self._held[wish.owner] = wish, life
        try:
            yield
        except UploadComplete:
            raise  # by another request, which settles what it is now
        except BaseException:
            self._give_back(path, replace(wish, expires_at=int(self._clock() + SHARED_SECONDS)))
            raise
        finally:
            del self._held[wish.owner]

    def _wish(self, path: SlotPath, total: int, uploader: str, owner: str, life: float) -> Reservation:
        key = self._key(path, total, uploader)
        return Reservation(quota.account_of(uploader), key, total, owner, int(self._clock() + life))

    def _key(self, path: SlotPath, total: int, uploader: str) -> str:
        return quota.reservation_key(quota.account_of(uploader), path, total)

    def _reserve(self, wish: Reservation, uploader: str) -> None:
        """Raises QuotaExceeded."""
        most = self._rules.most
        if wish.size > most:
            raise QuotaExceeded("the file alone is larger than UserQuota")
        try:
            grant = self._state.reserve(wish, most, int(self._clock()))
            if grant is not Grant.GRANTED and self._count(wish.account, uploader, grant):
                grant = self._state.reserve(wish, most, int(self._clock()))
        except StateUnavailable:
            return  # the quota is soft
        if grant is Grant.FULL:
            raise QuotaExceeded("UserQuota")

    def _count(self, account: str, uploader: str, grant: Grant) -> bool:
        """Ask the catalogue what the account has stored; whether it was asked. Not again and again for somebody whose
        quota is full."""
        now = self._clock()
        if grant is Grant.FULL and 0 <= now - self._counted_at.get(account, float("-inf")) < FRESH_SECONDS:
            return False
        for _ in range(_COUNTINGS):
            mark = self._state.begin_count(account, int(now))
            try:
                stored = self._state.stored_bytes(uploader)
            except StateUnavailable:
                return False
            if self._state.count(account, stored, mark, int(now), int(now + COUNT_SECONDS)):
                break
        if len(self._counted_at) >= _MOST_REMEMBERED:
            self._counted_at.clear()
        self._counted_at[account] = now
        return True

    def _stands_for(self, wish: Reservation, path: SlotPath, found: Sequence[Standing]) -> bool:
        """Whether one of these shares the reservation."""
        return any(wish.key == self._key(path, each.total, self.uploader(path, each.uploader)) for each in found)

    def _give_back(self, path: SlotPath, wish: Reservation) -> None:
        """Unless something is kept of an upload that shares it, which somebody may continue."""
        try:
            goes_on = self._standing_of is not None and self._stands_for(wish, path, self._standing_of(path))
        except RequestError:  # a failing disk; the reservation expires
            goes_on = True
        if not goes_on:
            self._recorder.quota_given_back(wish)
            self._ended_while_renewing.append(wish)

    def _run(self) -> None:
        while not self._ending.wait(RENEW_SECONDS):
            try:
                self.renew()
            except StateUnavailable:
                pass  # again in a while
