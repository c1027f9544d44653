"""What two workers may know of the uploads under one key, and what is right whatever order they tell it in."""

import itertools
from dataclasses import dataclass
from math import factorial

from hmacfs.state.base import SessionRow
from tests.state.tiers import NOW, session_end, session_row

END = -1


@dataclass(frozen=True)
class Fact:
    """Attributes:
    upload: 0 for the first one under a key, 1 for the one that began a millisecond later.
    offset: END when it is over.
    """

    upload: int
    offset: int


LONGEST = [Fact(0, 0), Fact(0, 9), Fact(0, END), Fact(1, 0), Fact(1, 3)]

FACTS = [
    [Fact(0, 0), Fact(0, 5)],
    [Fact(0, 0), Fact(0, 5), Fact(0, END)],
    [Fact(0, 9), Fact(1, 3), Fact(1, END)],
    [Fact(0, 0), Fact(0, 9), Fact(1, 3), Fact(1, END)],
    LONGEST,
]
"""Each in the order in which things happened: the last one is right."""


def row_of(fact: Fact, number: int) -> SessionRow:
    """The fact under the key ``number``. The further an upload gets, the later it expires."""
    if fact.offset == END:
        return session_end(number, later=fact.upload)
    return session_row(number, NOW + 1000 + fact.offset, offset=fact.offset, later=fact.upload)


def in_every_order(facts: list[Fact], first: int) -> list[list[SessionRow]]:
    """Each permutation of the facts under a key of its own, counted from ``first``."""
    orders = itertools.permutations(facts)
    return [[row_of(fact, first + place) for fact in order] for place, order in enumerate(orders)]


def right_row(facts: list[Fact], number: int) -> SessionRow | None:
    """What is to be found under the key ``number`` once all is told."""
    return None if facts[-1].offset == END else row_of(facts[-1], number)


def all_right_rows() -> list[SessionRow | None]:
    """Of all of FACTS in every order, where the keys of each set are counted from the next thousand."""
    return [
        right_row(facts, 1000 * number + place)
        for number, facts in enumerate(FACTS)
        for place in range(factorial(len(facts)))
    ]
