"""Content-Range of a request (RFC 9110 sections 14.4 and 14.5; protocol, section 5.1).

It says which piece of a file a PUT carries, or asks how much of the file is here. Whether the piece fits the body, the
signature and what has arrived before is judged by others. A value that is not understood is an error: a server that
ignored it would store a piece as if it were the file.
"""

import re
from dataclasses import dataclass

from hmacfs.errors import BadContentRange

MAX_DIGITS = 18
"""Of each number: enough for any file, and every sum of two still fits 63 bits."""

# One space and no other: "range-unit SP ( range-resp / unsatisfied-range )". ASCII digits only.
_FORM = re.compile(r"([\w!#$%&'*+.^`|~-]+) (?:(\d+)-(\d+)|\*)/(\d+|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Piece:
    """The body is the bytes ``first`` to ``last``, both included, of a file of ``total`` bytes."""

    first: int
    last: int
    total: int

    @property
    def length(self) -> int:
        """Bytes that the body must have; at least 1."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Ask:
    """How much is here of a file of ``total`` bytes? There is no body."""

    total: int


def parse(header: str) -> Piece | Ask:
    """What the field value ``header`` says.

    Raises:
        BadContentRange: not of this form, another unit than bytes, no total, a piece that is empty or reaches beyond
            the total, or a number of more than 18 digits.
    """
    match = _FORM.fullmatch(header.strip(" \t"))
    if match is None:
        raise BadContentRange("Content-Range is malformed")
    unit, first, last, total = match.groups()
    if unit.lower() != "bytes":  # RFC 9110 section 14.1: names of units are case-insensitive
        raise BadContentRange("the unit of Content-Range is not bytes")
    if total == "*":
        raise BadContentRange("Content-Range does not tell the total")
    if first is None:
        return Ask(_number(total))
    return _within(Piece(_number(first), _number(last), _number(total)))


def _within(piece: Piece) -> Piece:
    if piece.first > piece.last:
        raise BadContentRange("Content-Range ends before it begins")
    if piece.last >= piece.total:
        raise BadContentRange("Content-Range reaches beyond its total")
    return piece


def _number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadContentRange(f"Content-Range has a number of more than {MAX_DIGITS} digits")
    return int(digits)
