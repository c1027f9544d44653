"""Whether a tier of shared state may be asked: a state machine without a clock of its own.

    phase     failed     probe begins   probe answered
    CLOSED    OPEN       -              -
    OPEN      OPEN       PROBING        -
    PROBING   PROBING    -              CLOSED, or OPEN when the probe failed

One failure opens it: nobody waits for a dead tier twice. Only a probe closes it, because what other tiers took
meanwhile is handed back before the tier serves; so the success or failure of a verb that began earlier changes nothing.
"""

from enum import Enum

PROBE_SECONDS = 60.0
"""A probe that said nothing for so long is taken for lost, and another may begin."""


class Phase(Enum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Args: closed: whether the tier may be asked from the start; otherwise a probe must answer first.

    Attributes:
        reason: why it is not closed; empty otherwise.
        since: when ``phase`` was entered, in the caller's seconds.
    """

    __slots__ = ("phase", "reason", "since")

    def __init__(self, now: float, *, closed: bool = False) -> None:
        self.phase = Phase.CLOSED if closed else Phase.OPEN
        self.reason = "" if closed else "not asked yet"
        self.since = now

    @property
    def is_closed(self) -> bool:
        """Whether the tier may be asked."""
        return self.phase is Phase.CLOSED

    def fail(self, reason: str, now: float) -> bool:
        """The tier could not be reached, or not in time. True when that was news."""
        if self.phase is not Phase.CLOSED:
            return False
        self._enter(Phase.OPEN, now, reason)
        return True

    def begin_probe(self, now: float) -> bool:
        """Whether the caller is the one who probes now; it must say then how that ended."""
        lost = self.phase is Phase.PROBING and now - self.since >= PROBE_SECONDS
        if self.phase is not Phase.OPEN and not lost:
            return False
        self._enter(Phase.PROBING, now, self.reason)
        return True

    def probe_failed(self, reason: str, now: float) -> None:
        """It stays open. Nothing, unless a probe runs."""
        if self.phase is Phase.PROBING:
            self._enter(Phase.OPEN, now, reason)

    def probe_answered(self, now: float) -> bool:
        """It serves again. True when a probe was running."""
        if self.phase is not Phase.PROBING:
            return False
        self._enter(Phase.CLOSED, now, "")
        return True

    def _enter(self, phase: Phase, now: float, reason: str) -> None:
        self.phase, self.since, self.reason = phase, now, reason
