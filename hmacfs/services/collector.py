"""Timed garbage collection (GCInterval): what was made at the start is left out of it for ever, the rest is looked
through when nobody waits for an answer.

Python's own collections go on. They are short as long as little has grown old since ours.
"""

import gc
from collections.abc import Callable

from hmacfs.services.observer import Observer


def is_due(waited: float, interval: float, *, is_quiet: bool) -> bool:
    """Whether to collect now. In the middle of a burst it may wait, for as long as the interval once more.

    Args:
        waited: seconds since the last time.
        is_quiet: nothing was answered in the last second.
    """
    return waited >= (interval if is_quiet else 2 * interval)


class Collector:
    """Args: interval: seconds, 0 for never. clock: monotonic seconds."""

    def __init__(self, interval: int, observer: Observer, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._observer = observer
        self._clock = clock
        self._last = clock()
        self._requests = 0

    def freeze(self) -> None:
        """All that is there now stays: the modules, and the application. Call it once all of it is made."""
        if self._interval:
            gc.collect()
            gc.freeze()
            self._last = self._clock()

    def tick(self, requests: int) -> None:
        """Call it once a second. Args: requests: that this process has answered so far."""
        is_quiet, self._requests = requests == self._requests, requests
        if not self._interval or not is_due(self._clock() - self._last, self._interval, is_quiet=is_quiet):
            return
        self._observer.collecting()
        begun = self._clock()
        found = gc.collect()
        self._last = self._clock()
        self._observer.collected(self._last - begun, found)
