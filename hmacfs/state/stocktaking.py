"""What came into the store and went, by moment, in memory that the master maps before it forks.

A sweep of any process counts the store at a moment that this server learns of later. What had come until then the sweep
has counted; what came since is added to it. Each worker writes to its own slot only, so no lock is needed.
"""

import mmap
from dataclasses import dataclass

_SPAN_MS, _SPANS = 20, 4096
"""Remembered by spans of so many milliseconds, so many of them in each slot: for 82 s at least, and every worker looks
once a minute whether somebody has counted."""
_SLOT_WORDS = 1 + 3 * _SPANS
"""How many spans there have been, then when each began, and files and bytes at its end."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Attributes: count: bytes."""

    files: int
    count: int


class Stocktaking:
    """Args: slots: of the scoreboard."""

    def __init__(self, slots: int) -> None:
        self._words = memoryview(mmap.mmap(-1, slots * _SLOT_WORDS * 8)).cast("q")

    def note(self, slot: int, files: int, count: int, now: float) -> None:
        """What a slot has told of from the start until now. Args: count: bytes. now: Unix seconds."""
        base = slot * _SLOT_WORDS
        began, spans = int(now * 1000) // _SPAN_MS * _SPAN_MS, self._words[base]
        if not spans or self._words[_place(base, spans - 1)] != began:
            spans += 1
            self._words[_place(base, spans - 1)] = began
        place = _place(base, spans - 1)
        self._words[place + 1], self._words[place + 2] = files, count
        self._words[base] = spans  # last: nobody reads a span before it is whole

    def at(self, moment: int) -> Sum:
        """What all slots had told of at ``moment``, Unix milliseconds, to the span. The oldest that is known where that
        is longer ago than is remembered."""
        files = count = 0
        for base in range(0, len(self._words), _SLOT_WORDS):
            place = self._last(base, moment)
            if place is not None:
                files, count = files + self._words[place + 1], count + self._words[place + 2]
        return Sum(files, count)

    def _last(self, base: int, moment: int) -> int | None:
        """Where the last span stands that began until ``moment``; None where nothing had come yet."""
        spans = self._words[base]
        for number in range(spans - 1, max(-1, spans - 1 - _SPANS), -1):
            place = _place(base, number)
            if self._words[place] <= moment:
                return place
        return _place(base, spans) if spans > _SPANS else None


def _place(base: int, number: int) -> int:
    return base + 1 + 3 * (number % _SPANS)
