"""Which secrets verify at a moment: the current ones, and for a while those that they replaced.

A ring is what all workers of a server agree on. Nothing here may appear in a log: no class has a repr that shows a
value.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

MOST_REPLACED = 16
"""Of each kind. A source that says something else each time must not make verification slower and slower."""


class Kind(StrEnum):
    """What a secret is for."""

    SECRET = "secret"  # noqa: S105 - a name
    JWT = "jwt"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """What the sources say now.

    Attributes:
        secret: signs and verifies.
        jwt, delete: JWTSecret and DeleteSecret, empty where they are off.
        previous: PreviousSecrets: they verify, and never sign.
    """

    secret: str
    jwt: str = ""
    delete: str = ""
    previous: tuple[str, ...] = ()

    def of(self, kind: Kind) -> str:
        return {Kind.SECRET: self.secret, Kind.JWT: self.jwt, Kind.DELETE: self.delete}[kind]


@dataclass(frozen=True, slots=True, repr=False)
class Replaced:
    """A secret that was current. Attributes: until: Unix seconds to which it verifies."""

    kind: Kind
    value: str
    until: int


@dataclass(frozen=True, slots=True, repr=False)
class Ring:
    """Attributes:
    current: as the sources said when they were last read well.
    asked_at: Unix seconds at which they were last asked.
    trouble: why they could not be read then, one sentence without any value; empty where they could.
    """

    current: Secrets
    replaced: tuple[Replaced, ...] = ()
    asked_at: int = 0
    trouble: str = ""

    def values(self, kind: Kind, now: float) -> tuple[str, ...]:
        """Every secret of a kind that verifies at ``now``, the current one first; none where it is off."""
        return tuple(dict.fromkeys(self._values(kind, now)))

    def next_end(self, now: float) -> float:
        """When the next replaced secret ends, Unix seconds; infinity when none will."""
        return min((float(each.until) for each in self.replaced if each.until > now), default=float("inf"))

    def _values(self, kind: Kind, now: float) -> Iterator[str]:
        if self.current.of(kind):
            yield self.current.of(kind)
        if kind is Kind.SECRET:
            yield from self.current.previous
        for each in self.replaced:
            if each.kind is kind and each.until > now:
                yield each.value


def rotated(ring: Ring | None, fresh: Secrets, now: float, grace: float) -> Ring:
    """The ring after the sources were read well.

    What is current no longer verifies until ``now + grace``; nothing verifies longer than that, also where the clock
    was set back or the grace is shorter than it was.

    Args:
        ring: None where there is none yet.
        grace: seconds, SecretGrace.
    """
    if ring is None:
        return Ring(fresh, asked_at=int(now))
    latest = int(now + grace)
    left = [
        Replaced(kind, ring.current.of(kind), latest)
        for kind in Kind
        if ring.current.of(kind) not in ("", fresh.of(kind))
    ]
    left += [replace(each, until=min(each.until, latest)) for each in ring.replaced]
    return Ring(fresh, tuple(_living(left, fresh, now)), asked_at=int(now))


def failed(ring: Ring, trouble: str, now: float) -> Ring:
    """The ring after the sources could not be read: the last good secrets stay."""
    return replace(ring, asked_at=int(now), trouble=trouble)


def is_due(ring: Ring, now: float, interval: float) -> bool:
    """Whether the sources should be asked again; also when the clock was set back behind the last time."""
    return not ring.asked_at <= now < ring.asked_at + interval


def told(ring: Ring, fresh: Secrets, grace: float) -> list[str]:
    """What has changed since the ring, in sentences without any value; none where nothing has."""
    before = ring.current
    named = ((Kind.JWT, "JWTSecret"), (Kind.DELETE, "DeleteSecret"))
    removed = {kind: name for kind, name in named if before.of(kind) and not fresh.of(kind)}
    is_replaced = any(before.of(kind) != fresh.of(kind) for kind in Kind if kind not in removed)
    verifies = f"the old one verifies for {grace:.0f} s more"
    lines = [f"{name} was removed; {verifies}" for name in removed.values()]
    if is_replaced or before.previous != fresh.previous:
        lines.insert(0, f"The secret was replaced; {verifies}")
    return lines


def _living(replaced: list[Replaced], fresh: Secrets, now: float) -> Iterator[Replaced]:
    """Those that still verify, each value once, the newest first; not what is current again."""
    seen = {(kind, fresh.of(kind)) for kind in Kind}
    counts = dict.fromkeys(Kind, 0)
    for each in replaced:
        if each.until > now and (each.kind, each.value) not in seen and counts[each.kind] < MOST_REPLACED:
            seen.add((each.kind, each.value))
            counts[each.kind] += 1
            yield each
