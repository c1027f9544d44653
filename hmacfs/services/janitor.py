"""What is removed when its time is over. One process of all that share a store does it at a time."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from hmacfs.errors import RequestError
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.storage.base import Partials

LEAST_SECONDS = 1.0


class Janitor:
    """Sweeps from a thread of its own (under gevent: a greenlet).

    Args:
        turn: a ``with`` block that says whether this process is the one that sweeps now.
        interval: seconds between two sweeps.
    """

    def __init__(
        self,
        partials: Partials,
        turn: Callable[[], AbstractContextManager[bool]],
        recorder: Recorder,
        observer: Observer,
        interval: float,
    ) -> None:
        self._partials = partials
        self._turn = turn
        self._recorder = recorder
        self._observer = observer
        self._interval = max(LEAST_SECONDS, interval)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Twice is harmless."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """A sweep that runs is not waited for: it may be cut anywhere."""
        self._ending.set()

    def sweep(self) -> None:
        """Remove unfinished uploads that have not changed for SessionTTL, if it is our turn."""
        with self._turn() as is_ours:
            if not is_ours:
                return
            for path, key, started_at in self._partials.sweep():
                self._recorder.session_ended(key, started_at)
                self._observer.upload_expired(path)

    def _run(self) -> None:
        while not self._ending.wait(self._interval):
            try:
                self.sweep()
            except RequestError as error:  # a full or failing disk: the next sweep tries again
                self._observer.sweep_failed(error)
