"""Which paths this worker is publishing at this moment, so that a GET that comes too early can wait for them."""

from hmacfs.core.paths import SlotPath


class Publishing:
    """The book of it. A lookup costs what one in a dict does."""

    def __init__(self) -> None:
        self._running: dict[bytes, int] = {}

    def __contains__(self, path: SlotPath) -> bool:
        return path.raw in self._running

    def of(self, path: SlotPath) -> "Underway":
        """A ``with`` block in which a file gets its name."""
        return Underway(self._running, path.raw)


class Underway:
    """A class and not a generator: it stands on the way of every upload."""

    __slots__ = ("_raw", "_running")

    def __init__(self, running: dict[bytes, int], raw: bytes) -> None:
        self._running = running
        self._raw = raw

    def __enter__(self) -> None:
        self._running[self._raw] = self._running.get(self._raw, 0) + 1

    def __exit__(self, *_error: object) -> None:
        if (left := self._running[self._raw] - 1) > 0:
            self._running[self._raw] = left
        else:
            del self._running[self._raw]
