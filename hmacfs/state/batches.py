"""Long sequences in pieces, because servers bound what one statement or script may hold."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH = 1000
"""Rows of one statement at most; SQLite takes 32766 values, and a script should not keep Redis busy for long."""


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces of up to BATCH items; nothing for nothing."""
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
