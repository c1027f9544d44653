"""Reusable block buffers. A fresh megabyte costs page faults for every block; a used one costs nothing."""

from collections.abc import Iterator
from contextlib import contextmanager


class BufferPool:
    """Buffers of one size, lent to one transfer at a time.

    Args:
        size: bytes of a buffer.
        spare: how many idle buffers are kept.
    """

    def __init__(self, size: int, spare: int = 8) -> None:
        self._size = size
        self._spare = spare
        self._idle: list[memoryview] = []

    @contextmanager
    def lend(self, wanted: int) -> Iterator[memoryview]:
        """A buffer of at least ``wanted`` bytes, or of the pool's size where more are wanted.

        A small one is not taken from the pool.
        """
        if wanted <= self._size // 4:
            yield memoryview(bytearray(max(wanted, 1)))
            return
        buffer = self._idle.pop() if self._idle else memoryview(bytearray(self._size))
        try:
            yield buffer
        finally:
            if len(self._idle) < self._spare:
                self._idle.append(buffer)
