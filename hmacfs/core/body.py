"""Counting a body against its declared length."""

from hmacfs.errors import Truncated


class BodyMeter:
    """Counts what arrives and knows what is missing.

    Args:
        expected: declared bytes of the body. The server's framing never hands out more.
    """

    __slots__ = ("expected", "received")

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.received = 0

    @property
    def missing(self) -> int:
        return self.expected - self.received

    def take(self, count: int) -> None:
        self.received += count

    def finish(self) -> None:
        """Raises Truncated when bytes are missing. A cut connection looks like an ordinary end, so only this tells."""
        if self.missing:
            raise Truncated(f"{self.received} of {self.expected} bytes arrived")


class BlockSize:
    """How much to read before writing: much from a fast sender, little from a slow one.

    A block is a buffer in somebody's hands until it is full, and thousands of slow senders must not hold a large one
    each; a fast one costs a job of the disk pool for each block.

    Args:
        least, most: bytes.
    """

    __slots__ = ("_least", "_most", "bytes")

    QUICK_SECONDS = 0.02

    def __init__(self, least: int, most: int) -> None:
        self._least = min(least, most)
        self._most = most
        self.bytes = self._least

    def learn(self, filled: int | None, wanted: int, seconds: float) -> None:
        """A read of ``wanted`` bytes gave ``filled`` within ``seconds`` (None: nothing had arrived).

        A block that was full at once is followed by one twice as large; any pause of the sender by a small one.
        """
        is_quick = filled == wanted and seconds < self.QUICK_SECONDS
        self.bytes = min(self._most, 2 * self.bytes) if is_quick else self._least
