"""Rates of a transfer: how long to pause, and whether it is too slow. Time comes in as an argument, in seconds."""

from collections import deque

WINDOW_SECONDS = 30.0
"""Over how long the least rate is judged: a phone in a lift may be silent for a while."""

_BUCKETS = 30


class TokenBucket:
    """Holds an upload to a rate over any longer stretch, while short pieces pass at once.

    Args:
        rate: bytes per second, more than 0.
        now: when the transfer begins.
    """

    __slots__ = ("_debt", "_rate", "_seen")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._debt = 0.0
        self._seen = now

    @property
    def piece(self) -> int:
        """The largest block that keeps the flow even: an eighth of a second's bytes."""
        return max(1, self._rate // 8)

    def spend(self, count: int, now: float) -> float:
        """Take ``count`` bytes; the seconds to pause before the next ones.

        A pause that ended late is made up for by shorter ones, up to a quarter of a second's bytes.
        """
        self._debt = max(-self._rate / 4, self._debt - (now - self._seen) * self._rate) + count
        self._seen = now
        return max(0.0, self._debt / self._rate)


class RateWatch:
    """Notices a body that is slower than a least rate over the last 30 seconds.

    Args:
        least: bytes per second, more than 0.
        now: when the body begins.
    """

    __slots__ = ("_begun", "_least", "_seconds", "_total")

    def __init__(self, least: int, now: float) -> None:
        self._least = least
        self._begun = now
        self._total = 0
        self._seconds: deque[tuple[float, int]] = deque()

    def take(self, count: int, now: float) -> None:
        """``count`` more bytes arrived."""
        self._total += count
        if self._seconds and now - self._seconds[-1][0] < WINDOW_SECONDS / _BUCKETS:
            begun, held = self._seconds[-1]
            self._seconds[-1] = (begun, held + count)
        else:
            self._seconds.append((now, count))

    def is_too_slow(self, now: float) -> bool:
        """Judged from the end of the first window on."""
        if now - self._begun < WINDOW_SECONDS:
            return False
        while self._seconds and self._seconds[0][0] <= now - WINDOW_SECONDS * (1 + 1 / _BUCKETS):
            self._total -= self._seconds.popleft()[1]
        return self._total < self._least * WINDOW_SECONDS
