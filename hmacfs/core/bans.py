"""Who is banned, for how long, and what counts towards it. Pure: time and the earlier ban are arguments.

Only a well-formed MAC that is wrong counts, and only for a client address (``clientaddr.counted``: an IPv6 client is
its /64). What a banned client sends is not judged, so it neither counts nor makes the ban longer.

Sliding windows need every time of every failure, or slices of time: a failure counts for ten minutes, less up to one
slice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WINDOW_SECONDS = 600
SLICE_SECONDS = 10
DAY = 24 * 3600
FOREVER = 253_402_300_799
"""Unix seconds, the end of the year 9999: the end of a ban that only an operator ends."""

LIFT_SECONDS = 90 * DAY
"""How long a lift is known: a tier that was away for longer may bring the ban back (Redis keeps it as long itself)."""

MOST_BANS = 4096
"""Kept of one server's bans; over it those that end first are dropped, and lifts before all bans that still run."""

SUSPICIOUS_ADDRESSES = 3
"""So many addresses that fail, and none that succeeds: the secret is probably another one than the XMPP server's."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Attributes:
    after_fails: wrong MACs within ten minutes that bring a ban; 0 for never (BlockAfterFails).
    first, later: seconds of a first block, and of the next one, which doubles (BlockDuration, AutoBanTime).
    ends: whether later blocks end by themselves (AutoUnban).
    """

    after_fails: int = 10
    first: int = 300
    later: int = 600
    ends: bool = True


@dataclass(frozen=True, slots=True)
class Ban:
    """One address's ban; remembered for a day after its end, because an offence soon after it is a repeated one.

    A ban without length is a lift: an operator ended what was there before, and the address begins anew. It replaces
    the ban in every book that it meets, by being newer; absence says nothing, because a tier may just not know yet.

    Attributes:
        address: as ``clientaddr.counted`` writes it.
        since, until: Unix seconds; ``until`` is FOREVER for one that an operator must lift.
        times: blocks in a row, this one included; 0 for an operator's own.
    """

    address: str
    since: int
    until: int
    times: int

    def is_active(self, now: float) -> bool:
        return self.until > now and not self.is_lift

    def is_remembered(self, now: float) -> bool:
        """Whether a further offence at ``now`` is a repeated one, or the ban still runs; or its lift is known still."""
        return now < self.forgotten_at

    @property
    def is_lift(self) -> bool:
        return self.since == self.until

    @property
    def is_endless(self) -> bool:
        return self.until >= FOREVER

    @property
    def forgotten_at(self) -> int:
        """Unix seconds after which nobody needs to know of it."""
        if self.is_endless:
            return FOREVER
        return self.until + (LIFT_SECONDS if self.is_lift else DAY)


def seconds_left(ban: Ban, now: float) -> int:
    """For Retry-After: whole seconds, rounded up, from 1 to a day; nobody knows when an endless one is lifted."""
    return max(1, min(DAY, int(-(-(ban.until - now) // 1))))


def next_ban(address: str, previous: Ban | None, rules: Rules, now: int) -> Ban:
    """The ban for an address that has failed too often.

    Args:
        previous: its last ban, if that is known.
    """
    if previous is None or not previous.is_remembered(now) or not previous.times:
        return Ban(address, now, now + rules.first, 1)
    if not rules.ends:
        return Ban(address, now, FOREVER, previous.times + 1)
    return Ban(address, now, now + later_seconds(rules.later, previous.times + 1), previous.times + 1)


def later_seconds(later: int, times: int) -> int:
    """Length of the block number ``times`` in a row, from the second on: doubled each time, but doubling ends at a
    day. A longer AutoBanTime is taken as it is."""
    doublings = min(times - 2, DAY.bit_length())
    return max(later, min(later << doublings, DAY))


def is_newer(ban: Ban, other: Ban) -> bool:
    """Whether ``ban`` replaces ``other`` of the same address: what began later, then what ends later."""
    return (ban.since, ban.until) >= (other.since, other.until)


def begins(ban: Ban, kept: Ban | None) -> bool:
    """Whether with ``ban`` an address is banned that was not when it began: then it is news.

    Args:
        kept: what stood in its place, if anything did.
    """
    if kept is None or ban.is_lift:
        return not ban.is_lift
    return is_newer(ban, kept) and not kept.is_active(ban.since)


def lifted(ban: Ban, now: int) -> Ban:
    """The lift that replaces ``ban``: newer than it also where it began in this second, or by a clock that is ahead."""
    moment = max(now, ban.since + 1)
    return Ban(ban.address, moment, moment, 0)


def unheard(known: Mapping[str, Ban], lifts: Iterable[Ban]) -> list[Ban]:
    """Those of ``lifts`` that end something which is ``known``."""
    found: dict[str, Ban] = {}
    for lift in lifts:
        last = found.get(lift.address) or known.get(lift.address)
        if last is not None and not is_newer(last, lift):
            found[lift.address] = lift
    return list(found.values())


def suspects_secret(failing: int, *, succeeded: bool) -> bool:
    """Whether the failures rather speak against our secret than against the clients; then nobody is banned.

    Args:
        failing: addresses that failed since the start.
        succeeded: whether anybody's MAC was right since the start.
    """
    return not succeeded and failing >= SUSPICIOUS_ADDRESSES


def slice_of(now: float) -> int:
    """The slice of time that a failure at ``now`` is counted in."""
    return int(now // SLICE_SECONDS)


def last_expired_slice(now: float) -> int:
    """This slice and those before it count no more at ``now``."""
    return int((now - WINDOW_SECONDS) // SLICE_SECONDS)


class FailCounts:
    """Failures of a window, address by address, in one process.

    Args:
        most: addresses; over it the one that first failed longest ago is forgotten.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._slices: dict[str, dict[int, int]] = {}

    def add(self, address: str, count: int, now: float) -> int:
        """``count`` more failures; how many of the address count now."""
        slices = self._slices.setdefault(address, {})
        slices[slice_of(now)] = slices.get(slice_of(now), 0) + count
        expired = last_expired_slice(now)
        for old in [number for number in slices if number <= expired]:
            del slices[old]
        while len(self._slices) > self._most:
            del self._slices[next(iter(self._slices))]
        return sum(slices.values())

    def forget(self, address: str) -> None:
        """As if it had never failed."""
        self._slices.pop(address, None)

    def clear(self) -> None:
        self._slices.clear()


def merged(ours: Mapping[str, Ban], theirs: Mapping[str, Ban], now: float) -> "Merge":
    """What must be written where another book of bans is met, because the tier of shared state changed.

    Args:
        ours: what this process knows.
        theirs: what stands in the book.
    """
    saved = [
        ban
        for ban in ours.values()
        if ban.is_remembered(now) and (ban.address not in theirs or not is_newer(theirs[ban.address], ban))
    ]
    return Merge({**theirs, **{ban.address: ban for ban in saved}}, saved)


@dataclass(frozen=True, slots=True)
class Merge:
    """Attributes: bans: what counts from now on. saved: what the book lacks, or has older."""

    bans: dict[str, Ban]
    saved: list[Ban]
