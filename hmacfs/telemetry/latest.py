"""What takes a while to find out, found out once for all who ask at the same time, and never waited for without end."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """A value that is made anew when somebody asks and the last one is too old. At most one is made at a time.

    Args:
        make: finds it out; runs in a thread of its own (under gevent a greenlet, so that it may use a pool).
        fresh: seconds for which a value counts as new.
        patience: seconds that somebody who asks waits at most.
        clock: monotonic seconds.
    """

    def __init__(
        self, make: Callable[[], T], *, fresh: float, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._fresh = fresh
        self._patience = patience
        self._clock = clock
        self._made_at = float("-inf")
        self._running: threading.Event | None = None
        self._error: BaseException | None = None
        self.value: T | None = None
        """The last one, however old; None before the first."""

    def get(self) -> T:
        """The value.

        Raises:
            TimeoutError: it did not come in time. It is still being made.
            Exception: what ``make`` raised.
        """
        if self.value is not None and self._clock() - self._made_at < self._fresh:
            return self.value
        ready = self._running
        if ready is None:
            ready = self._running = threading.Event()
            threading.Thread(target=self._work, args=(ready,), name="latest", daemon=True).start()
        if not ready.wait(self._patience):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        assert self.value is not None
        return self.value

    def _work(self, ready: threading.Event) -> None:
        began = self._clock()
        try:
            self.value, self._made_at, self._error = self._make(), began, None
        except Exception as error:  # noqa: BLE001 - raised again where somebody asked
            self._error = error
        finally:
            self._running = None
            ready.set()
