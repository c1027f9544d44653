"""When to try again after an error that may pass (MaxRetries, RetryDelay): delays that double, spread by chance.

Nothing here waits or draws lots: chance comes in as an argument.
"""

from dataclasses import dataclass

from hmacfs.core.preconditions import http_date

LONGEST_SECONDS = 60.0
"""However often something failed: what is back after a minute's silence should be noticed within the next."""

_DOUBLINGS = 32
"""Beyond any cap already; a power without bound would overflow."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Attributes:
    retries: how often an attempt is repeated, the first one not counted; 0 for never.
    first: seconds before the first repetition, 0 for at once.
    longest: seconds of any delay at most.
    """

    retries: int
    first: float
    longest: float = LONGEST_SECONDS

    def delay(self, done: int, chance: float) -> float | None:
        """Seconds until the next repetition; None when there is none left.

        The delay doubles each time, up to ``longest``, and lies between half of that and the whole: many that failed
        at the same moment do not come back at the same moment.

        Args:
            done: repetitions so far.
            chance: evenly distributed, from 0 to 1.
        """
        if done >= self.retries:
            return None
        whole = min(self.longest, self.first * 2.0 ** min(done, _DOUBLINGS))
        return whole * (1 - chance / 2)


def retry_after(value: str, now: float) -> float:
    """Seconds that a Retry-After header asks to wait (RFC 9110 section 10.2.3), 0 when it is absent or malformed.

    Args:
        value: seconds, or an HTTP date.
        now: Unix seconds.
    """
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    moment = http_date(text) if text else None
    return 0.0 if moment is None else max(0.0, moment - now)
