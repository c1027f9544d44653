"""Trying again what failed for want of resources, before a request's body is asked for (MaxRetries, RetryDelay).

Only an attempt that took no effect is repeated: opening and staging. Never a publish, and never a failed fsync: the
kernel may have dropped the pages already, and the next fsync would call that a success.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from hmacfs.core.retry import Schedule
from hmacfs.errors import StorageBusy

T = TypeVar("T")

LONGEST_SECONDS = 5.0
"""From the first attempt to the last: a client that waits for an answer should rather hear 503 and Retry-After."""

MOST_WAITING = 100
"""Requests of one process that wait for another attempt. Each holds a connection, and so a descriptor, while
descriptors may be just what is short: one more is refused at once."""


class Retries:
    """Repeats what raised StorageBusy: no descriptor, no memory, no thread at this moment.

    Args:
        schedule: how often and after which delays.
        now: monotonic seconds.
        sleep: lets other requests run.
        chance: evenly distributed, from 0 to 1, for every delay anew.
    """

    def __init__(
        self,
        schedule: Schedule,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        chance: Callable[[], float],
    ) -> None:
        self._schedule = schedule
        self._now = now
        self._sleep = sleep
        self._chance = chance
        self._waiting = 0

    def run(self, attempt: Callable[..., T], *args: Any, **options: Any) -> T:
        """The result of ``attempt(*args, **options)``, repeated while it raises StorageBusy, for 5 seconds at most.

        Raises:
            StorageBusy: of the last attempt. Any other error ends it at once.
        """
        try:
            return attempt(*args, **options)
        except StorageBusy as error:
            first = error  # no closure and nothing else of the repetition here: it stands on the way of every download
        if self._waiting >= MOST_WAITING:
            raise first
        self._waiting += 1
        try:
            return self._repeated(first, attempt, args, options)
        finally:
            self._waiting -= 1

    def _repeated(
        self, first: StorageBusy, attempt: Callable[..., T], args: tuple[Any, ...], options: dict[str, Any]
    ) -> T:
        deadline = self._now() + LONGEST_SECONDS
        done, last = 0, first
        while (delay := self._schedule.delay(done, self._chance())) is not None:
            left = deadline - self._now()
            if left <= 0:
                break
            self._sleep(min(delay, left))
            done += 1
            try:
                return attempt(*args, **options)
            except StorageBusy as error:
                last = error
        raise last
