"""Content-Range of a request: a piece of a file, a question, or an error (protocol, section 5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import contentrange
from hmacfs.core.contentrange import Ask, Piece
from hmacfs.errors import BadContentRange

LARGEST = 10**18 - 1

totals = st.integers(1, LARGEST)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-4/5", Piece(0, 4, 5)),
        ("bytes 42-1233/1234", Piece(42, 1233, 1234)),  # RFC 9110 section 14.4
        ("bytes 3-3/5", Piece(3, 3, 5)),
        ("bytes 007-008/0010", Piece(7, 8, 10)),
        (f"bytes 0-{LARGEST - 1}/{LARGEST}", Piece(0, LARGEST - 1, LARGEST)),
        ("bytes */1234", Ask(1234)),
        ("bytes */0", Ask(0)),
        (f"bytes */{LARGEST}", Ask(LARGEST)),
    ],
)
def test_a_piece_and_a_question_are_told_apart(header: str, expected: Piece | Ask) -> None:
    assert contentrange.parse(header) == expected


@pytest.mark.parametrize("header", ["BYTES 0-4/5", "Bytes 0-4/5", "  bytes 0-4/5", "bytes 0-4/5\t ", "\tbytes 0-4/5"])
def test_the_case_of_the_unit_and_white_space_around_do_not_matter(header: str) -> None:
    assert contentrange.parse(header) == Piece(0, 4, 5)


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("", "malformed"),
        ("bytes", "malformed"),
        ("bytes ", "malformed"),
        ("bytes=0-4/5", "malformed"),
        ("0-4/5", "malformed"),
        ("bytes 0-4", "malformed"),
        ("bytes -4/5", "malformed"),
        ("bytes 0-/5", "malformed"),
        ("bytes 0-4/", "malformed"),
        ("bytes +0-4/5", "malformed"),
        ("bytes 0--4/5", "malformed"),
        ("bytes 0-4/-5", "malformed"),
        ("bytes 0-4/5.0", "malformed"),
        ("bytes 0x0-0x4/0x5", "malformed"),
        ("bytes 1_0-1_4/20", "malformed"),
        ("bytes  0-4/5", "malformed"),
        ("bytes\t0-4/5", "malformed"),
        ("bytes 0 -4/5", "malformed"),
        ("bytes 0- 4/5", "malformed"),
        ("bytes 0-4 /5", "malformed"),
        ("bytes 0-4/ 5", "malformed"),
        ("bytes 0-4/5\n", "malformed"),
        ("bytes 0-1/5, bytes 2-4/5", "malformed"),
        ("bytes 0-1,2-4/5", "malformed"),
        ("bytes ٠-٤/٥", "malformed"),
        ("bytes 0-\u00b2/5", "malformed"),
        ("byte\u017f 0-4/5", "malformed"),  # lower case of this s is not s, its upper case is
        ("items 0-4/5", "unit"),
        ("byte 0-4/5", "unit"),
        ("items */5", "unit"),
        ("bytes 0-4/*", "total"),
        ("bytes */*", "total"),
        ("bytes 4-3/5", "before it begins"),
        ("bytes 0-5/5", "beyond"),
        ("bytes 0-0/0", "beyond"),
        ("bytes 5-5/5", "beyond"),
        ("bytes 0-4/1000000000000000000", "18 digits"),
        ("bytes */0000000000000000001", "18 digits"),
        (f"bytes {'9' * 5000}-{'9' * 5000}/{'9' * 5000}", "18 digits"),
    ],
)
def test_anything_else_is_refused_and_the_log_learns_why(header: str, detail: str) -> None:
    with pytest.raises(BadContentRange) as caught:
        contentrange.parse(header)

    assert detail in caught.value.detail
    assert caught.value.status == 400


@given(totals, st.data())
def test_every_piece_within_a_file_is_read_as_it_was_written(total: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first, total - 1))

    piece = contentrange.parse(f"bytes {first}-{last}/{total}")

    assert piece == Piece(first, last, total)
    assert isinstance(piece, Piece)
    assert piece.length == len(range(first, last + 1))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_piece_is_accepted_exactly_when_it_lies_within_its_file(first: int, last: int, total: int) -> None:
    fits = first <= last < total

    try:
        accepted = bool(contentrange.parse(f"bytes {first}-{last}/{total}"))
    except BadContentRange:
        accepted = False

    assert accepted is fits


@given(st.text(max_size=60) | st.from_regex(r"\s?[Bb]ytes\s[\d*-]+/[\d*]+"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read = contentrange.parse(text)
    except BadContentRange:
        return

    assert text.strip().isascii()
    assert 0 <= read.total <= LARGEST
