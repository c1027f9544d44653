"""A tier among others: asked while it lives, skipped while it does not, and what it serves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from hmacfs.core.breaker import Breaker
from hmacfs.errors import StateUnavailable
from hmacfs.state.base import FileRow, Kind, Row, RowsRejected, SessionRow, Tier

T = TypeVar("T")
AnyTier = TypeVar("AnyTier", bound=Tier)


@dataclass(frozen=True, slots=True)
class Serving:
    """Which tier answers for what.

    Attributes:
        sessions, catalog: a tier's name, or "none".
        down: the others' names, and why each does not serve; no secrets.
    """

    sessions: str
    catalog: str
    down: Mapping[str, str]


class Member(Generic[AnyTier]):
    """One tier, and whether it may be asked.

    Args:
        tier: not asked before its first probe.
        clock: monotonic seconds.
        failed: called after the tier was found dead.
    """

    def __init__(self, tier: AnyTier, clock: Callable[[], float], failed: Callable[[], None]) -> None:
        self.tier = tier
        self.name = tier.name
        self.breaker = Breaker(clock())
        self._clock = clock
        self._failed = failed

    @property
    def lives(self) -> bool:
        return self.breaker.is_closed

    def ask(self, verb: Callable[[AnyTier], T]) -> T:
        """``verb(tier)``. Raises StateUnavailable, and from then on the tier is skipped until a probe answers."""
        try:
            return verb(self.tier)
        except RowsRejected:
            raise  # it lives: the next one with these rows would be as good as dead to all the others
        except StateUnavailable as error:
            self.fail(error.detail)
            raise

    def fail(self, reason: str) -> None:
        """It is dead for everybody."""
        if self.breaker.fail(reason, self._clock()):
            self._failed()


def put(tier: Tier, kind: Kind, rows: Sequence[Row]) -> None:
    """Write rows of one kind."""
    if kind is Kind.FILES:
        tier.record_files(cast(Sequence[FileRow], rows))
    else:
        tier.save_sessions(cast(Sequence[SessionRow], rows))
