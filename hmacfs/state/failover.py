"""Several tiers as one: the highest that lives serves, and nothing that a lower one took meanwhile is lost.

Unfinished uploads: Redis, else the SQL server, else the embedded file. Catalogue: the SQL server, else the embedded
file, with Redis as a cache in front. A tier that fails once is skipped by everybody until a probe finds it well and
``handover`` has brought it up to date; the verb that found it dead goes on to the next one.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hmacfs.core.paths import MAX_PATH_BYTES
from hmacfs.errors import StateUnavailable
from hmacfs.state.base import Cache, FileRow, Grant, Kind, Lower, Reservation, SessionRow, SharedBanStore, Tier
from hmacfs.state.handover import Handover
from hmacfs.state.members import Member, Serving, put
from hmacfs.state.outdated import Entry, Outdated
from hmacfs.state.sharedbans import SharedBans
from hmacfs.state.sql import SqlTier
from hmacfs.state.turnstile import Turnstile

T = TypeVar("T")

PROBE_SECONDS = 2.0
"""Between two looks at the tiers."""
_STOP_SECONDS = 5.0
_TEXT = 255
_UPLOADER = 1024


class SharedState:
    """Catalog and Sessions over all tiers. Make it in a worker, after fork and after patching.

    Attributes:
        bans: of the tier that serves unfinished uploads; nothing is moved, see ``services.bans``.

    Args:
        embedded: SQLite in StateDir.
        lock_path: a file in StateDir, by which the processes of this machine take turns.
        server: PostgreSQL or MySQL, if there is one.
        cache: Redis, if there is one.
        on_change: called with what serves now, in the greenlet or thread that noticed.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        embedded: SqlTier,
        lock_path: str,
        *,
        server: Lower | None = None,
        cache: Cache | None = None,
        on_change: Callable[[Serving], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._cache: Member[Cache] | None = None if cache is None else Member(cache, clock, self._announce)
        lower: list[Member[Any]] = [Member(tier, clock, self._announce) for tier in (server, embedded) if tier]
        sessions = lower if self._cache is None else [self._cache, *lower]
        self._chains = {Kind.FILES: lower, Kind.SESSIONS: sessions}
        self._embedded: Member[SqlTier] = lower[-1]
        self._outdated = Outdated(embedded)
        self._turnstile = Turnstile()
        self._handover = Handover(self._chains, self._outdated, self._turnstile, lock_path)
        self._probing = threading.Lock()
        self._begun = False
        self._told: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.bans: SharedBanStore = SharedBans(
            lambda verb: self._read(Kind.SESSIONS, lambda tier: verb(tier.bans)),
            lambda verb: self._ask_below(Kind.SESSIONS, lambda tier: verb(tier.bans)),
        )

    # Catalogue

    def record_files(self, rows: Sequence[FileRow]) -> None:
        """As Catalog says. Raises ValueError for a path that no tier could keep."""
        fitting = [_fitting_file(row) for row in rows]
        outdated = [Entry(row.path) for row in rows]
        self._write(Kind.FILES, lambda tier: put(tier, Kind.FILES, fitting), below=outdated)
        self._tell_cache(lambda cache: cache.record_files(fitting))

    def find_file(self, path: str) -> FileRow | None:
        self._begin()
        known, row = self._ask_cache(path)
        if known:
            return row
        found = self._read(Kind.FILES, lambda tier: tier.find_file(path))
        if found is not None:
            self._tell_cache(lambda cache: cache.fill_file(found))
        return found

    def forget_files(self, paths: Sequence[str]) -> None:
        self._write(Kind.FILES, lambda tier: tier.forget_files(paths), anywhere=[Entry(path) for path in paths])
        self._tell_cache(lambda cache: cache.forget_files(paths))

    def list_files(self, after: str, limit: int) -> list[FileRow]:
        """As Catalog says; what the serving tier knows, which is not all while a higher one is down."""
        return self._read(Kind.FILES, lambda tier: tier.list_files(after, limit))

    def stored_bytes(self, uploader: str) -> int:
        """As Catalog says. Raises StateUnavailable also while only a lower tier serves: that one does not know all."""
        self._begin()
        highest = self._chains[Kind.FILES][0]
        if not highest.lives:
            raise StateUnavailable(f"{highest.name} is down")
        stored: int = highest.ask(lambda tier: tier.stored_bytes(uploader))
        return stored

    # Sessions

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        fitting = [replace(row, content_type=row.content_type[:_TEXT]) for row in rows]
        # An older copy below loses when it is handed up; but one may outlive what is remembered of its upload's end.
        ends = [Entry(row.key, row.started_ms) for row in rows if row.is_over]
        self._write(Kind.SESSIONS, lambda tier: put(tier, Kind.SESSIONS, fitting), anywhere=ends)

    def find_session(self, key: str, now: int) -> SessionRow | None:
        return self._read(Kind.SESSIONS, lambda tier: tier.find_session(key, now))

    def list_sessions(self, now: int, limit: int) -> list[SessionRow]:
        return self._read(Kind.SESSIONS, lambda tier: tier.list_sessions(now, limit))

    # Upkeep

    def lease(self, name: str, holder: str, seconds: int, now: int) -> bool:
        """As Upkeep says, of the highest tier that answers. Hosts that see different ones may both be told yes."""
        return self._read(Kind.SESSIONS, lambda tier: tier.lease(name, holder, seconds, now))

    def purge(self, now: int) -> None:
        """In every tier that answers."""
        self._begin()
        for member in self._chains[Kind.SESSIONS]:
            if member.lives:
                member.ask(lambda tier: tier.purge(now))

    def over_redis(self, work: Callable[[Any], T]) -> T:
        """``work`` with the tier that is Redis. Raises StateUnavailable; at once where it is dead, or there is none."""
        if self._cache is None or not self._cache.lives:
            raise StateUnavailable("no Redis answers")
        return self._cache.ask(work)

    # Accounts. Nothing of them is handed up: reservations are renewed by who holds them, and counts are made anew.

    def reserve(self, wish: Reservation, quota: int, now: int) -> Grant:
        return self._read(Kind.SESSIONS, lambda tier: tier.reserve(wish, quota, now))

    def renew(self, reservations: Sequence[Reservation], now: int) -> None:
        self._read(Kind.SESSIONS, lambda tier: tier.renew(reservations, now))

    def settle(self, reservations: Sequence[Reservation]) -> None:
        self._read(Kind.SESSIONS, lambda tier: tier.settle(reservations))

    def give_back(self, reservations: Sequence[Reservation]) -> None:
        self._read(Kind.SESSIONS, lambda tier: tier.give_back(reservations))

    def used(self, account: str, now: int) -> int | None:
        return self._read(Kind.SESSIONS, lambda tier: tier.used(account, now))

    def begin_count(self, account: str, now: int) -> int:
        return self._read(Kind.SESSIONS, lambda tier: tier.begin_count(account, now))

    def count(self, account: str, stored: int, mark: int, now: int, until: int) -> bool:
        return self._read(Kind.SESSIONS, lambda tier: tier.count(account, stored, mark, now, until))

    def forget_counts(self) -> None:
        """In every tier that answers: which one serves next is not known."""
        self._begin()
        self._forget_counts()

    # Which tier

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tiers, the highest first."""
        return tuple(member.name for member in self._chains[Kind.SESSIONS])

    def serving(self) -> Serving:
        """Who serves now, and why the others do not."""
        names = {kind: next((m.name for m in chain if m.lives), "none") for kind, chain in self._chains.items()}
        down = {m.name: m.breaker.reason for m in self._chains[Kind.SESSIONS] if not m.lives}
        return Serving(names[Kind.SESSIONS], names[Kind.FILES], down)

    def probe(self) -> None:
        """Look at every tier once, the lowest first; bring back those that answer. Nothing while another looks.

        Takes a second for each tier that is hung, and as long as it takes to hand up what lower tiers hold.
        """
        if not self._probing.acquire(blocking=False):
            return
        try:
            for member in reversed(self._chains[Kind.SESSIONS]):
                if member.lives:
                    self._check(member)
                elif member.breaker.begin_probe(self._clock()):
                    self._revive(member)
            self._begun = True
        finally:
            self._probing.release()
        self._announce()

    def start(self) -> None:
        """Probe now and every two seconds, in a thread or greenlet of its own."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="state-probe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the probes and give up all connections. Never raises."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            self._thread = None
        for member in self._chains[Kind.SESSIONS]:
            member.tier.close()

    def _watch(self) -> None:
        while True:
            try:
                self.probe()
            except Exception:
                logging.getLogger(__name__).exception("looking at the tiers of state failed")
            if self._stop.wait(PROBE_SECONDS):
                return

    def _check(self, member: Member[Any]) -> None:
        try:
            member.ask(lambda tier: tier.ping())
        except StateUnavailable:
            pass  # told by the member

    def _revive(self, member: Member[Any]) -> None:
        try:
            member.tier.ping()
            if member is self._embedded:
                self._outdated.keep_only(other.name for other in self._chains[Kind.SESSIONS])
            member.tier.forget_counts()  # from before it went away
            with self._handover.of(member):
                if member is self._cache:
                    member.tier.distrust()
                member.breaker.probe_answered(self._clock())
            self._forget_counts()  # those below grow old from now on
        except StateUnavailable as error:
            member.breaker.probe_failed(error.detail, self._clock())
        except BaseException:
            member.breaker.probe_failed("the probe was interrupted", self._clock())
            raise

    def _forget_counts(self) -> None:
        for member in self._chains[Kind.SESSIONS]:
            if member.lives:
                try:
                    member.ask(lambda tier: tier.forget_counts())
                except StateUnavailable:
                    pass  # it does so when it comes back

    def _begin(self) -> None:
        """Nobody is served before the tiers were looked at: a lower one may hold rows from before a restart."""
        while not self._begun:
            self.probe()
            with self._probing:  # somebody else looks: wait for the end of it
                pass

    def _read(self, kind: Kind, verb: Callable[[Tier], T]) -> T:
        self._begin()
        return self._first(kind, verb)[1]

    def _write(
        self, kind: Kind, verb: Callable[[Tier], None], *, below: Sequence[Entry] = (), anywhere: Sequence[Entry] = ()
    ) -> None:
        """Args: below, anywhere: what a dead tier has wrong from now on if it lies below the one that serves, or in any
        case. Above it, new rows are going to be moved up."""
        self._begin()
        with self._turnstile.passing():
            served, _ = self._first(kind, verb)
            for place, member in enumerate(self._chains[kind]):
                self._note_outdated(member, kind, [*anywhere, *below] if place > served else anywhere)

    def _first(self, kind: Kind, verb: Callable[[Tier], T]) -> tuple[int, T]:
        """The place in the chain of the tier that served, and its answer."""
        for place, member in enumerate(self._chains[kind]):
            if member.lives:
                try:
                    return place, member.ask(verb)
                except StateUnavailable:
                    continue
        raise StateUnavailable("no tier of state answers")

    def _ask_below(self, kind: Kind, verb: Callable[[Tier], T]) -> list[T]:
        """The answers of the living tiers below the one that serves."""
        answers = []
        for member in [each for each in self._chains[kind] if each.lives][1:]:
            try:
                answers.append(member.ask(verb))
            except StateUnavailable:
                continue
        return answers

    def _note_outdated(self, member: Member[Any], kind: Kind, entries: Sequence[Entry]) -> None:
        """Copies that a dead tier keeps are wrong from now on."""
        if member.lives or member is self._embedded or not self._embedded.lives or not entries:
            return
        try:
            self._embedded.ask(lambda _: self._outdated.add(member.name, kind, entries))
        except StateUnavailable:
            pass  # the verb itself was served; the embedded tier is dead now, and says so

    def _ask_cache(self, path: str) -> tuple[bool, FileRow | None]:
        if self._cache is None or not self._cache.lives:
            return False, None
        try:
            return self._cache.ask(lambda cache: cache.cached_file(path))
        except StateUnavailable:
            return False, None

    def _tell_cache(self, verb: Callable[[Any], None]) -> None:
        """What a cache misses while it is away it distrusts when it comes back."""
        if self._cache is not None and self._cache.lives:
            try:
                self._cache.ask(verb)
            except StateUnavailable:
                pass

    def _announce(self) -> None:
        if not self._begun:
            return
        serving = self.serving()
        picture = (serving.sessions, serving.catalog, *serving.down)  # a reason alone is no news
        if picture != self._told:
            self._told = picture
            if self._on_change is not None:
                self._on_change(serving)


def _fitting_file(row: FileRow) -> FileRow:
    """Within the bounds of every tier's columns: a row that one refuses could never be handed up to it."""
    if not row.path or "\0" in row.path or len(row.path.encode()) > MAX_PATH_BYTES:
        raise ValueError("not the path of a slot")
    return replace(row, content_type=row.content_type[:_TEXT], uploader=row.uploader[:_UPLOADER])
