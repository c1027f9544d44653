"""Trying again what may pass: want of resources, before a request's body is asked for (MaxRetries, RetryDelay), and for
a GET also what a network filesystem or an upload that is about to be published keeps from it (EnableGetRetries).

Only an attempt that took no effect is repeated: opening and staging. Never a publish, and never a failed fsync: the
kernel may have dropped the pages already, and the next fsync would call that a success.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from hmacfs.core.retry import Schedule
from hmacfs.errors import NotPublishedYet, RequestError, StorageBusy, StorageFailed

T = TypeVar("T")

LONGEST_SECONDS = 5.0
"""From the first attempt to the last: a client that waits for an answer should rather hear 503 and Retry-After."""

GET_SECONDS, GET_FIRST_SECONDS = 1.0, 0.05
"""The same for a GET, and its first delay: somebody looks at a picture that does not come."""

MOST_WAITING = 100
"""Requests of one process that wait for another attempt. Each holds a connection, and so a descriptor, while
descriptors may be just what is short: one more is refused at once."""


def is_busy(error: RequestError) -> bool:
    """No descriptor, no memory, no thread at this moment."""
    return isinstance(error, StorageBusy)


def may_pass(error: RequestError) -> bool:
    """What a GET need not take for the last word."""
    return isinstance(error, StorageBusy | NotPublishedYet) or (isinstance(error, StorageFailed) and error.may_pass)


class Retries:
    """Repeats what raised an error that may pass.

    Args:
        schedule: how often and after which delays.
        now: monotonic seconds.
        sleep: lets other requests run.
        chance: evenly distributed, from 0 to 1, for every delay anew.
        longest: seconds from the first attempt to the last.
        repeats: which errors may pass.
    """

    def __init__(
        self,
        schedule: Schedule,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        chance: Callable[[], float],
        *,
        longest: float = LONGEST_SECONDS,
        repeats: Callable[[RequestError], bool] = is_busy,
    ) -> None:
        self._schedule = schedule
        self._now = now
        self._sleep = sleep
        self._chance = chance
        self._longest = longest
        self._repeats = repeats
        self._waiting = 0

    def run(self, attempt: Callable[..., T], *args: Any, **options: Any) -> T:
        """The result of ``attempt(*args, **options)``, repeated while it raises what may pass.

        Raises:
            RequestError: of the last attempt. One that will not pass ends it at once, as any other error does.
        """
        try:
            return attempt(*args, **options)
        except RequestError as error:
            if not self._repeats(error):
                raise
            first = error  # no closure and nothing else of the repetition here: it stands on the way of every download
        if self._waiting >= MOST_WAITING:
            raise first
        self._waiting += 1
        try:
            return self._repeated(first, attempt, args, options)
        finally:
            self._waiting -= 1

    def _repeated(
        self, first: RequestError, attempt: Callable[..., T], args: tuple[Any, ...], options: dict[str, Any]
    ) -> T:
        deadline = self._now() + self._longest
        done, last = 0, first
        while (delay := self._schedule.delay(done, self._chance())) is not None:
            left = deadline - self._now()
            if left <= 0:
                break
            self._sleep(min(delay, left))
            done += 1
            try:
                return attempt(*args, **options)
            except RequestError as error:
                if not self._repeats(error):
                    raise
                last = error
        raise last
