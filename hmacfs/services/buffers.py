"""Reusable block buffers. A fresh megabyte costs page faults for every block; a used one costs nothing."""

import mmap

_HEAP = 64 * 1024
"""Buffers up to this size come from the heap."""


class BufferPool:
    """Buffers of one size, lent to one transfer at a time.

    Args:
        size: bytes of a buffer.
        spare: how many idle buffers are kept.
    """

    def __init__(self, size: int, spare: int = 8) -> None:
        self.size = size
        self._spare = spare
        self._idle: list[memoryview] = []

    def lend(self, wanted: int) -> "Loan":
        """A buffer of at least ``wanted`` bytes, or of the pool's size where more are wanted, for a ``with`` block.

        A small one is not taken from the pool.
        """
        if wanted <= min(_HEAP, self.size // 4):
            return Loan(None, memoryview(bytearray(max(wanted, 1))))
        if wanted <= self.size // 4:
            return Loan(None, _mapped(wanted))
        return Loan(self, self._idle.pop() if self._idle else _mapped(self.size))

    def take_back(self, buffer: memoryview) -> None:
        if len(self._idle) < self._spare:
            self._idle.append(buffer)


def _mapped(size: int) -> memoryview:
    """Not from the heap, which keeps what a burst of uploads made it take: this goes back to the system."""
    return memoryview(mmap.mmap(-1, size))


class Loan:
    """Args: pool: where the buffer goes back to, None for nowhere."""

    __slots__ = ("_buffer", "_pool")

    def __init__(self, pool: BufferPool | None, buffer: memoryview) -> None:
        self._pool = pool
        self._buffer = buffer

    def __enter__(self) -> memoryview:
        return self._buffer

    def __exit__(self, *_error: object) -> None:
        if self._pool is not None:
            self._pool.take_back(self._buffer)
