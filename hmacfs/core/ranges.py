"""Byte ranges of a GET (RFC 9110 section 14): one range is honoured, anything else is ignored.

Several ranges at once are allowed to be ignored, which makes amplification by overlapping ranges impossible.
"""

import re

from hmacfs.errors import RangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)
_MAX_DIGITS = 19


def plan(header: str, size: int) -> tuple[int, int] | None:
    """The slice (first byte, length in bytes) that ``header`` asks of ``size`` bytes; None for the whole file.

    Raises:
        RangeNotSatisfiable: a well-formed range that begins behind the end, or a suffix of no bytes.
    """
    match = _ONE_RANGE.fullmatch(header)
    if not match:
        return None
    first_text, last_text = match.group(1), match.group(2)
    if not first_text:
        return _suffix(last_text, size)
    first = _bounded(first_text)
    if last_text and _bounded(last_text) < first:
        return None  # malformed, not unsatisfiable: RFC 9110 section 14.1.1
    if first >= size:
        raise RangeNotSatisfiable(size)
    last = min(_bounded(last_text), size - 1) if last_text else size - 1
    return first, last - first + 1


def _suffix(text: str, size: int) -> tuple[int, int] | None:
    if not text:
        return None
    length = min(_bounded(text), size)
    if _bounded(text) == 0:
        raise RangeNotSatisfiable(size)
    # A suffix of an empty file is satisfiable, yet no Content-Range can say so: the whole (empty) file then.
    return (size - length, length) if length else None


def _bounded(digits: str) -> int:
    """The number, where any number too long to be a file offset is simply very large."""
    stripped = digits.lstrip("0")
    return int(stripped or "0") if len(stripped) <= _MAX_DIGITS else 10**_MAX_DIGITS
