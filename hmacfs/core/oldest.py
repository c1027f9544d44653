"""The rule on size: which of a store's files are the oldest, told in bounded memory however many there are.

First every file is added to bands of age, of which there are never more than MOST_BANDS. They tell up to which age all
files go, and in which band only some. Then the files are looked at once more: ``Choice`` takes what is older than that
band at once, and remembers of the band itself no more than the oldest that suffice.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

from hmacfs.core.retention import Held

MOST_BANDS = 4096
"""About 500 KB. Bands begin with the length of a second; when there are more, two become one."""

MOST_CHOSEN = 50_000
"""Files of one band that are remembered at most, about 20 MB. A band has as many only where as many files were stored
within a second or so; the rest is then chosen in another round."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What has to go.

    Attributes:
        first: everything stored before this moment goes; Unix seconds.
        end: of what was stored between ``first`` and this moment the oldest go, until ``count`` bytes are freed.
    """

    first: int
    end: int
    count: int


class Bands:
    """How many bytes were stored when, of files that may go."""

    def __init__(self) -> None:
        self._shift = 0
        self._bytes: dict[int, int] = {}

    def add(self, held: Held) -> None:
        """Count a file in."""
        band = held.turn >> self._shift
        self._bytes[band] = self._bytes.get(band, 0) + held.size
        while len(self._bytes) > MOST_BANDS:
            self._merge()

    def cut(self, excess: int) -> Cut | None:
        """What has to go to free at least ``excess`` bytes: the oldest, or all there are. None for nothing."""
        if excess <= 0 or not self._bytes:
            return None
        missing = excess
        for band in sorted(self._bytes):
            if missing <= self._bytes[band]:
                return Cut(band << self._shift, (band + 1) << self._shift, missing)
            missing -= self._bytes[band]
        end = (band + 1) << self._shift  # all of them do not suffice
        return Cut(end, end, 0)

    def _merge(self) -> None:
        self._shift += 1
        merged: dict[int, int] = {}
        for band, count in self._bytes.items():
            merged[band >> 1] = merged.get(band >> 1, 0) + count
        self._bytes = merged


class _Kept:
    """A file in a heap that has the youngest on top; of equal age the last by path, and a file after its versions:
    where it goes, they all do."""

    __slots__ = ("held", "place")

    def __init__(self, held: Held) -> None:
        self.held = held
        self.place = (held.turn_ns, held.path.raw, held.version or math.inf)

    def __lt__(self, other: "_Kept") -> bool:
        return self.place > other.place


class Choice:
    """Picks what goes, while the files that may go are shown to it one by one, in any order."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._heap: list[_Kept] = []
        self._size = 0
        self.is_cut_short = False
        """Whether more of one band would have to go than is remembered at a time."""

    def goes(self, held: Held) -> bool:
        """Whether this file goes for certain. What is not certain yet is among the ``rest``, or stays."""
        if held.turn >= self._cut.end:
            return False
        if held.turn < self._cut.first:
            return True
        self._remember(held)
        return False

    def rest(self) -> Iterator[Held]:
        """The others that go, the oldest first. Ask when all have been shown."""
        for kept in sorted(self._heap, key=lambda kept: kept.place):
            yield kept.held

    def _remember(self, held: Held) -> None:
        heapq.heappush(self._heap, _Kept(held))
        self._size += held.size
        while self._heap and self._size - self._heap[0].held.size >= self._cut.count:
            self._size -= heapq.heappop(self._heap).held.size
        if len(self._heap) > MOST_CHOSEN:
            self._size -= heapq.heappop(self._heap).held.size
            self.is_cut_short = True
