"""What happens before a tier that was away serves again: it gives up what changed meanwhile and takes what others took.

One process of a machine does this at a time. Rows move up and do not stay below, so what lies in a lower tier is what
has not been handed up yet, whoever left it there and however long ago. A session that is newer above stays as it is.

Not covered: another process that notices two seconds later that the tier is back may still write below until then. Its
own handover moves that up; in between our readers do not see it.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from hmacfs.errors import StateUnavailable
from hmacfs.state.base import Held, Kind, Lower, Tier, ended
from hmacfs.state.batches import BATCH
from hmacfs.state.members import Member, put
from hmacfs.state.outdated import Entry, Outdated
from hmacfs.state.turnstile import Turnstile

_LOCK_SECONDS = 0.5
"""How long another process is waited for; usually it has nothing to move either."""


class Handover:
    """Brings a returning tier up to date.

    Args:
        chains: the members for each kind, the highest first; all but the first are lower tiers.
        lock_path: a file of this machine's processes.
    """

    def __init__(
        self,
        chains: Mapping[Kind, Sequence[Member[Any]]],
        outdated: Outdated,
        turnstile: Turnstile,
        lock_path: str,
    ) -> None:
        self._chains = chains
        self._outdated = outdated
        self._turnstile = turnstile
        self._lock_path = lock_path

    @contextmanager
    def of(self, member: Member[Any]) -> Iterator[None]:
        """Entered when all is where it belongs once ``member`` serves, and no write is under way: let it serve now.

        Raises:
            StateUnavailable: it is too early: a tier failed, another process is at it, or writes did not end.
        """
        with self._one_process() if self._has_company(member) else nullcontext():
            self._settle(member)  # most of it, while others go on writing
            with self._turnstile.held() as quiet:
                if not quiet:
                    raise StateUnavailable("waiting for writes to end")
                self._settle(member)
                yield

    def _has_company(self, member: Member[Any]) -> bool:
        """Whether there is anybody to give to or to take from; a lone tier need not wait for other processes."""
        return any(other.lives for chain in self._chains.values() if member in chain for other in chain)

    def _settle(self, member: Member[Any]) -> None:
        for kind, chain in self._chains.items():
            if member not in chain:
                continue
            living = [other for other in chain if other.lives or other is member]
            if living[-1] is chain[-1]:  # the book is there
                for other in living:
                    self._mend_outdated(other, kind)
            for source in living[1:]:
                self._move(kind, source, living[0], member)

    def _mend_outdated(self, member: Member[Any], kind: Kind) -> None:
        while page := self._outdated.page(member.name, kind):
            member.ask(partial(_forget, kind=kind, entries=page))
            self._outdated.clear(member.name, kind, page)
            if len(page) < BATCH:
                return

    def _move(self, kind: Kind, source: Member[Any], target: Member[Any], returning: Member[Any]) -> None:
        """Page by page. The last page ends it: what comes in meanwhile is for the next round."""
        full = True
        while full:
            try:
                held: Held = source.ask(lambda tier: tier.held(kind, BATCH))
                if held.rows:
                    target.ask(partial(put, kind=kind, rows=held.rows))
                    source.ask(partial(_release, held=held))
            except StateUnavailable:
                if source is not returning and not source.lives:
                    return  # its rows wait until it is back
                raise
            full = len(held.rows) == BATCH

    @contextmanager
    def _one_process(self) -> Iterator[None]:
        descriptor = self._open_lock()
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise StateUnavailable("another process hands over")
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        try:
            os.makedirs(os.path.dirname(self._lock_path), mode=0o700, exist_ok=True)
            return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateUnavailable(f"{self._lock_path}: {error.strerror}") from error


def _forget(tier: Tier, kind: Kind, entries: Sequence[Entry]) -> None:
    if kind is Kind.FILES:
        tier.forget_files([entry.key for entry in entries])
    else:  # not removed: another server may have told it of an upload that began later
        tier.save_sessions([ended(entry.key, entry.started_ms, time.time()) for entry in entries])


def _release(tier: Lower, held: Held) -> None:
    tier.release(held)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
