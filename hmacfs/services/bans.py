"""Banned clients: looked up in this process's memory before anything is hashed, shared behind the answers.

A worker judges by what it knows and counts by itself, so it needs no tier of shared state. Once a second, and at once
when it bans somebody, it tells the tier that serves what failed here, and reads who is banned anywhere. Where another
tier serves than the last time, what we know is written there first (``core.bans.merged``): a ban outlives a Redis that
was killed, and its lift a Redis that comes back. A lift may also lie in a lower tier, where an operator wrote it while
those above were away and none of us read it: that is looked for when tiers change, and now and then.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from hmacfs.core import bans, signature
from hmacfs.core.bans import Ban, FailCounts, Rules
from hmacfs.core.clientaddr import counted
from hmacfs.errors import Banned, StateUnavailable
from hmacfs.services.observer import Observer
from hmacfs.state.base import BanBook, SharedBanStore

REFRESH_SECONDS = 1.0
BELOW_SECONDS = 30.0
"""Between two looks for lifts in lower tiers."""
MOST_FAILING = 200
"""Addresses whose failures are sent at once; what others failed in that second counts here only."""


class Board(Protocol):
    """What is known of a secret, by its number, in all workers of one server since it started."""

    def note_success(self, secret: int) -> None: ...
    def has_succeeded(self, secret: int) -> bool: ...
    def note_failure(self, secret: int, client: str) -> None: ...
    def failing(self, secret: int) -> int: ...
    def may_tell(self, secret: int) -> bool: ...


class BanList:
    """Who is banned, as this process knows it.

    Args:
        store: where workers and servers share it; asked by ``refresh`` only.
        spares: whether an address (not its network) is never banned: trusted proxies, NeverBan.
        fingerprint: 64 hex digits that change with the secret and do not tell it.
        clock: Unix seconds.
    """

    def __init__(
        self,
        rules: Rules,
        store: SharedBanStore,
        board: Board,
        spares: Callable[[str], bool],
        fingerprint: Callable[[], str],
        observer: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._store = store
        self._board = board
        self._spares = spares
        self._fingerprint = fingerprint
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._bans: dict[str, Ban] = {}
        self._counts = FailCounts()
        self._unsent: dict[str, int] = {}
        self._unsaved: dict[str, Ban] = {}
        self._untold: dict[str, Ban] = {}
        self._book = self._mark = ""
        self._looked_below = float("-inf")
        self._print = fingerprint()
        self._secret = _number(self._print)
        self._has_succeeded = False
        self._due = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self, client: str) -> None:
        """Args: client: an address as ``ProxyTrust.client`` tells it; empty for an unknown one, which is never banned.

        Raises:
            Banned: with the seconds that are left.
        """
        ban = self._bans.get(counted(client)) if self._bans else None
        if ban is not None and ban.is_active(now := self._clock()) and not self._is_spared(client):
            raise Banned(bans.seconds_left(ban, now))

    @property
    def active(self) -> int:
        """How many addresses are banned now, as far as this process knows. May be asked in another thread."""
        now = self._clock()
        return sum(ban.is_active(now) for ban in list(self._bans.values()))

    def succeeded(self) -> None:
        """A MAC was right. Costs next to nothing after the first time."""
        if not self._has_succeeded:
            self._has_succeeded = True
            self._board.note_success(self._secret)

    def failed(self, client: str) -> None:
        """A well-formed MAC of ``client``, as in ``check``, was wrong. Bans it if that was once too often."""
        if not client:
            return
        address, now = counted(client), self._clock()
        self._board.note_failure(self._secret, address)
        if not self._rules.after_fails or self._is_spared(client):
            return
        with self._lock:
            if self._is_banned(address, now):
                return  # since it was looked up
            if address in self._unsent or len(self._unsent) < MOST_FAILING:
                self._unsent[address] = self._unsent.get(address, 0) + 1
            if self._counts.add(address, 1, now) >= self._rules.after_fails:
                self._ban(address, now)

    def start(self) -> None:
        """Exchange with shared state once a second, in a thread of its own (under gevent: a greenlet)."""
        if self._thread is None:
            self._ending.clear()
            self._thread = threading.Thread(target=self._run, name="bans", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Send what is left, for a second at most, and end."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            self._due.set()
            thread.join(REFRESH_SECONDS)

    def refresh(self) -> None:
        """Tell and read, once. Where no tier answers memory alone decides, until one does.

        Of a ban that several workers find at once, the one tells the observer whose row the tier took for a new one.
        Where no tier says so, each worker tells of its own.
        """
        self._notice_secret()
        if self._suspects_secret() and self._board.may_tell(self._secret):
            self._observer.secret_suspected()
        try:
            self._send_fails()
            self._send_bans()
            self._read()
            self._look_below()
        except StateUnavailable:
            self._tell_alone()  # the state itself tells of its tiers
        except Exception:
            self._tell_alone()
            raise

    def _run(self) -> None:
        while not self._ending.is_set():
            self._refresh_safely()
            self._due.wait(REFRESH_SECONDS)
            self._due.clear()
        self._refresh_safely()  # the last bans are known after a restart

    def _refresh_safely(self) -> None:
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - a fault of ours: it must not end the thread
            self._observer.bans_failed(error)

    def _is_spared(self, client: str) -> bool:
        return not client or self._spares(client)

    def _suspects_secret(self) -> bool:
        succeeded = self._has_succeeded or self._board.has_succeeded(self._secret)
        return not succeeded and bans.suspects_secret(self._board.failing(self._secret), succeeded=False)

    def _ban(self, address: str, now: float) -> None:
        """Under the lock. Nothing for one that is banned, and while the secret is suspected: the count goes on."""
        if self._is_banned(address, now) or self._suspects_secret():
            return
        ban = bans.next_ban(address, self._bans.get(address), self._rules, int(now))
        self._bans[address] = self._unsaved[address] = self._untold[address] = ban
        self._begin_anew(address)
        self._due.set()  # the others read once a second: with our own second it would be two
        if len(self._bans) > bans.MOST_BANS:
            del self._bans[min(self._bans, key=lambda known: self._bans[known].until)]

    def _is_banned(self, address: str, now: float) -> bool:
        ban = self._bans.get(address)
        return ban is not None and ban.is_active(now)

    def _begin_anew(self, address: str) -> None:
        """Under the lock. What failed before a ban, or before its lift, counts no more behind it."""
        self._counts.forget(address)
        self._unsent.pop(address, None)

    def _notice_secret(self) -> None:
        """A secret that was changed while we run lifts all bans at once; shared ones at the next reading."""
        found = self._fingerprint()
        if found == self._print:
            return
        with self._lock:
            self._print, self._secret, self._has_succeeded = found, _number(found), False
            self._bans, self._unsaved, self._untold, self._unsent = {}, {}, {}, {}
            self._counts.clear()
            self._book = self._mark = ""

    def _send_fails(self) -> None:
        with self._lock:
            unsent, self._unsent = self._unsent, {}
        if not unsent:
            return
        now = self._clock()
        counts = self._store.count(unsent, now)
        with self._lock:
            for address, count in counts.items():
                if count >= self._rules.after_fails:
                    self._ban(address, now)

    def _send_bans(self) -> None:
        if self._book and (unsaved := dict(self._unsaved)):  # before the first reading there is no book to merge with
            self._save(list(unsaved.values()))
            with self._lock:
                for address, ban in unsaved.items():
                    if self._unsaved.get(address) == ban:
                        del self._unsaved[address]

    def _save(self, rows: Sequence[Ban]) -> None:
        """And tell of those that are ours. What the tier had before us is told by who brought it."""
        begun = self._store.save(rows)
        with self._lock:
            ours = [ban for ban in rows if self._untold.get(ban.address) == ban]
            for ban in ours:
                del self._untold[ban.address]
        self._tell(ban for ban in ours if ban.address in begun)

    def _tell_alone(self) -> None:
        """Nobody says who else found the same: better told twice than by nobody."""
        with self._lock:
            ours, self._untold = self._untold, {}
        self._tell(ours.values())

    def _tell(self, found: Iterable[Ban]) -> None:
        for ban in found:
            self._observer.banned(ban.address, 0 if ban.is_endless else ban.until - ban.since, ban.times)

    def _read(self) -> None:
        found = self._store.read(self._mark)
        if found.book != self._book:
            found = self._agreed(found)
            self._move_to(found)
        elif found.bans is not None:
            self._take({ban.address: ban for ban in found.bans})
        self._mark = found.mark

    def _look_below(self) -> None:
        now = self._clock()
        if self._looked_below <= now < self._looked_below + BELOW_SECONDS:
            return
        if lifts := bans.unheard(self._bans, self._store.lifts_below()):
            self._store.save(lifts)  # and with the next reading it is known here
        self._looked_below = now

    def _agreed(self, found: BanBook) -> BanBook:
        """The book that we have not read before, or not lately, once its bans are those of our secret."""
        if self._store.agree(self._print):
            self._observer.bans_lifted(sum(not ban.is_lift for ban in found.bans or ()))
            found = self._store.read("")
        return found if found.bans is not None else self._store.read("")

    def _move_to(self, found: BanBook) -> None:
        theirs = {ban.address: ban for ban in found.bans or ()}
        with self._lock:
            merge = bans.merged(self._bans, theirs, self._clock())
        if merge.saved:
            self._save(merge.saved)
        self._book, self._looked_below = found.book, float("-inf")
        self._take(merge.bans)

    def _take(self, known: dict[str, Ban]) -> None:
        """From now on these are banned, and those whom we banned since the book was read."""
        with self._lock:
            unsaved = self._unsaved.items()
            known = known | {name: ban for name, ban in unsaved if name not in known or bans.is_newer(ban, known[name])}
            for address in self._bans.keys() | known.keys():
                if self._bans.get(address) != known.get(address):  # banned or lifted elsewhere
                    self._begin_anew(address)
            self._bans = known


def fingerprint(*keys: bytes) -> str:
    """Changes with any of the secrets and does not tell them. Args: keys: at least one."""
    print_ = "hmacfs: whose bans these are"
    for key in keys:
        print_ = signature.sign(key, print_.encode())
    return print_


def _number(fingerprint: str) -> int:
    """Stands for a secret on the board."""
    return int(fingerprint[:15], 16) | 1
