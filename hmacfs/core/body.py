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
