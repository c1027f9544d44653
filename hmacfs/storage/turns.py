"""Taking turns within one process, by name."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


class Turns:
    """One at a time for each name; under gevent greenlets wait, and no thread does."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[AbstractContextManager[bool], int]] = {}
        self._book = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """A ``with`` block in which nobody else has the turn of ``name``. Who has it may take it again."""
        with self._book:
            lock, count = self._locks.get(name) or (threading.RLock(), 0)
            self._locks[name] = lock, count + 1
        try:
            with lock:
                yield
        finally:
            with self._book:
                lock, count = self._locks.pop(name)
                if count > 1:
                    self._locks[name] = lock, count - 1
