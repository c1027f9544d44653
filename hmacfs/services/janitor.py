"""When a store is swept, and by whom: one process of all that share it, by a lock on the store and, between hosts, a
lease in shared state. Where no tier of that answers, the lock alone decides."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from hmacfs.core.wallclock import Moment, Stock, Swept, has_run_ahead, is_due
from hmacfs.errors import RequestError, StateUnavailable
from hmacfs.services.grounds import Means
from hmacfs.services.sweep import LEAST_REST, Report, Sweep, remove_stale_uploads
from hmacfs.state.base import Upkeep

LEAST_SECONDS = 1.0
LOOK_SECONDS = 60.0
"""So often it is looked whether a sweep is due: servers may be restarted more often than SweepInterval."""

LEASE = "sweep"
LEASE_SECONDS = 60
RENEW_SECONDS = 20.0
"""A third of the lease: a stall of the disk that is shorter than the rest loses nothing."""


class Notes(Protocol):
    """What the processes that share a store know of each other's sweeps."""

    def turn(self) -> AbstractContextManager[bool]:
        """A ``with`` block that says whether this process is the only one that sweeps now."""

    def load(self) -> Swept: ...
    def save(self, swept: Swept) -> None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Attributes:
    interval: seconds between two sweeps, SweepInterval.
    tidying: seconds between two looks for unfinished uploads that are over.
    """

    interval: float
    tidying: float

    @property
    def look(self) -> float:
        """Seconds between two looks at what is due."""
        return max(LEAST_SECONDS, min(self.interval, self.tidying, LOOK_SECONDS))


class Janitor:
    """Sweeps from a thread of its own (under gevent: a greenlet).

    Args:
        state: for the lease, and for what is over in shared state itself.
        holder: what tells this process from all others that share the state.
        clocks: what they say now.
        chores: what else is to be done with each sweep, job by job; what a job did. May raise RequestError.
        counted: told at each look when a sweep last counted the store, whoever did: Unix milliseconds, 0 for never.
    """

    def __init__(
        self,
        means: Means,
        notes: Notes,
        state: Upkeep,
        holder: str,
        schedule: Schedule,
        clocks: Callable[[], Moment],
        chores: Sequence[Callable[[], Iterator[object]]] = (),
        counted: Callable[[int], None] | None = None,
    ) -> None:
        self._means = means
        self._notes = notes
        self._state = state
        self._holder = holder
        self._schedule = schedule
        self._clocks = clocks
        self._chores = tuple(chores)
        self._counted = counted
        self._renewed = float("-inf")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Twice is harmless."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """A sweep that runs ends with its next batch, and is not waited for: it may be cut anywhere."""
        self._ending.set()

    def look(self) -> None:
        """Do what is due, if it is our turn.

        Raises:
            StorageFailed, StorageBusy.
        """
        try:
            self._do_what_is_due()
        finally:
            if self._counted is not None:
                self._counted(self._notes.load().stock.counted_ms)

    def _do_what_is_due(self) -> None:
        with self._notes.turn() as is_ours:
            if not is_ours:
                return
            swept, now = self._notes.load(), self._clocks()
            # The lease of a process that was killed in its sweep goes on for a while. Unfinished uploads do not wait:
            # a tidying needs the lock on the store alone, also where no sweep is due.
            if is_due(swept.last, now, self._schedule.interval) and self._holds_lease():
                self._sweep(swept, now, force=False)
            elif is_due(swept.tidied, now, self._schedule.tidying):
                self._notes.save(replace(swept, tidied=now))
                if not has_run_ahead(swept.trusted, now):  # else the next sweep finds out whether to believe it
                    remove_stale_uploads(self._means)

    def sweep(self, *, force: bool = False) -> Report | None:
        """Sweep now, due or not; None while somebody else does.

        Args:
            force: believe the clock, whatever it says.

        Raises:
            StorageFailed, StorageBusy.
        """
        with self._notes.turn() as is_ours:
            if not is_ours or not self._holds_lease():
                return None
            return self._sweep(self._notes.load(), self._clocks(), force=force)

    def plan(self, *, force: bool = False) -> Report:
        """What a sweep would do now, for means that remove nothing. Needs no turn and notes nothing."""
        now = self._clocks()
        sweep = Sweep(self._means, now.wall, self._ending.wait)
        return sweep.run(by_age=self._trusts(self._notes.load(), now, sweep, force=force))

    def _trusts(self, swept: Swept, now: Moment, sweep: Sweep, *, force: bool) -> bool:
        return force or not has_run_ahead(swept.trusted, now) or not sweep.is_suspicious()

    def _sweep(self, swept: Swept, now: Moment, *, force: bool) -> Report:
        # Noted before: a sweep that kills the process is not begun again at once.
        self._notes.save(replace(swept, last=now, tidied=now))
        sweep = Sweep(self._means, now.wall, self._rest)
        try:
            trusts = self._trusts(swept, now, sweep, force=force)
            report = sweep.run(by_age=trusts)
            stock = self._stock(report) if report.is_complete else swept.stock
            trouble = "" if report.is_complete else swept.trouble
            if trusts or report.is_complete:
                self._notes.save(Swept(now, now if trusts else swept.trusted, now, stock, trouble))
            if trusts:
                self._purge(now)
            if report.is_complete:
                self._do_chores()
            return report
        except Exception as error:
            self._note_trouble(error.code if isinstance(error, RequestError) else RequestError.code)
            raise
        finally:
            self._give_lease_back()

    def _note_trouble(self, code: str) -> None:
        """For whoever asks how the store is, in any process. The log has the rest."""
        try:
            self._notes.save(replace(self._notes.load(), trouble=code))
        except RequestError:
            pass  # a disk that takes no note is told as one that cannot be written

    def _stock(self, report: Report) -> Stock:
        return Stock(report.files, report.stored, report.versions, int(self._clocks().wall * 1000))

    def _do_chores(self) -> None:
        for chore in self._chores:
            for did in chore():
                if self._rest(LEAST_REST if did else 0.0):
                    return

    def _purge(self, now: Moment) -> None:
        try:
            self._state.purge(int(now.wall))
        except StateUnavailable:
            pass  # what is over there counts for nothing anyway

    def _holds_lease(self) -> bool:
        self._renewed = self._clocks().steady
        try:
            return self._state.lease(LEASE, self._holder, LEASE_SECONDS, int(self._clocks().wall))
        except StateUnavailable:
            return True

    def _give_lease_back(self) -> None:
        try:
            self._state.lease(LEASE, self._holder, 0, int(self._clocks().wall))
        except StateUnavailable:
            pass  # it ends by itself

    def _rest(self, seconds: float) -> bool:
        """Whether the sweep is to end: the process is about to, or another host has taken the lease over."""
        if self._ending.wait(seconds):
            return True
        return self._clocks().steady - self._renewed > RENEW_SECONDS and not self._holds_lease()

    def _run(self) -> None:
        while not self._ending.wait(self._schedule.look):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a full or failing disk, or our fault: the next one tries again
                self._means.observer.sweep_failed(error)
