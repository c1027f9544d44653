"""Lets writes pass side by side, and can hold new ones back for a moment while none is under way.

That moment is when a higher tier takes over: a write that began on a lower tier must not end there unseen.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

HOLD_SECONDS = 1.5
"""How long writes that are under way are waited for; a time limit ends each of them sooner."""


class Turnstile:
    """Threads and greenlets of one process. Make it after fork and after patching."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._held = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """A write, for as long as the block runs. Waits while the turnstile is held, but never for long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, HOLD_SECONDS)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """No write begins while the block runs. The value says whether all that had begun before are over."""
        with self._changed:
            self._held = True
            quiet = self._changed.wait_for(lambda: not self._inside, HOLD_SECONDS)
        try:
            yield quiet
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()
