"""Which bytes of an upload are there, what may happen to it next, and what a piece may do (protocol, section 5)."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import upload
from hmacfs.core.upload import MAX_GAPS, Event, Extents, Piece, Span, State, Verdict
from hmacfs.errors import BodyTooLong, TooManyGaps, UploadComplete, UploadGone, WrongOffset

LENGTH = 40

spans = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH))
"""Backwards ones too: they are empty."""
span_lists = st.lists(spans, max_size=12)


def bytes_of(all_spans: list[Span]) -> set[int]:
    """The model: the set of all byte numbers that are there."""
    return {byte for first, end in all_spans for byte in range(first, end)}


def prefix_of(there: set[int]) -> int:
    return next(byte for byte in range(LENGTH + 1) if byte not in there)


def gaps_of(there: set[int]) -> int:
    """Holes, each counted at the byte behind it."""
    return sum(1 for byte in there if byte and byte - 1 not in there)


def torn(gaps: int) -> Extents:
    """Every second byte from the second on: so many gaps of one byte."""
    return Extents((2 * number + 1, 2 * number + 2) for number in range(gaps))


# --- extents against a set of integers ---


@given(span_lists)
def test_extents_hold_the_bytes_of_their_spans_and_no_others(given_spans: list[Span]) -> None:
    extents, there = Extents(given_spans), bytes_of(given_spans)

    assert bytes_of(extents.spans) == there
    assert extents.recorded == len(there)
    assert extents.prefix == prefix_of(there)
    assert extents.gaps == gaps_of(there)


@given(span_lists)
def test_spans_are_in_order_and_none_touches_the_next(given_spans: list[Span]) -> None:
    found = Extents(given_spans).spans

    assert all(first < end for first, end in found)
    assert all(left[1] < right[0] for left, right in pairwise(found))


@given(span_lists, spans)
def test_what_is_missing_is_exactly_what_is_not_there(given_spans: list[Span], asked: Span) -> None:
    first, end = asked

    holes = Extents(given_spans).missing(first, end)

    assert bytes_of(holes) == set(range(first, end)) - bytes_of(given_spans)
    assert all(low < high for low, high in holes)
    assert all(left[1] < right[0] for left, right in pairwise(holes))


@given(span_lists, spans)
def test_adding_a_span_adds_its_bytes_and_changes_nothing_else(given_spans: list[Span], more: Span) -> None:
    before = Extents(given_spans)
    kept = before.spans

    after = before.plus(*more)

    assert bytes_of(after.spans) == bytes_of([*given_spans, more])
    assert before.spans == kept


@given(span_lists, st.randoms(use_true_random=False))
def test_the_order_of_arrival_makes_no_difference(given_spans: list[Span], chance: object) -> None:
    shuffled = list(given_spans)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    one, other = Extents(given_spans), Extents(shuffled)

    assert one == other
    assert hash(one) == hash(other)
    assert one != one.plus(LENGTH + 1, LENGTH + 2)
    assert one != given_spans


@given(span_lists)
def test_filling_all_that_is_missing_makes_one_gap_free_file(given_spans: list[Span]) -> None:
    extents = Extents(given_spans)

    for hole in extents.missing(0, LENGTH):
        extents = extents.plus(*hole)

    assert extents.spans == [(0, LENGTH)]
    assert (extents.prefix, extents.gaps, extents.recorded) == (LENGTH, 0, LENGTH)


def test_offsets_as_large_as_a_header_may_say_are_exact() -> None:
    extents = Extents([(0, 10**18 - 2), (10**18 - 1, 10**18)])

    assert extents.prefix == 10**18 - 2
    assert extents.missing(0, 10**18) == [(10**18 - 2, 10**18 - 1)]
    assert repr(extents) == "Extents([(0, 999999999999999998), (999999999999999999, 1000000000000000000)])"


# --- the states ---


GO, DONE, COMPLETE, GONE = Verdict.GO, Verdict.DONE, Verdict.REFUSE_COMPLETE, Verdict.REFUSE_GONE
RULES = {
    State.OPEN: {
        Event.ASK: (GO, State.OPEN),
        Event.WRITE: (GO, State.OPEN),
        Event.PUBLISH: (GO, State.PUBLISHED),
        Event.TERMINATE: (GO, State.GONE),
        Event.EXPIRE: (GO, State.GONE),
    },
    State.PUBLISHED: {
        Event.ASK: (GO, State.PUBLISHED),
        Event.WRITE: (COMPLETE, State.PUBLISHED),
        Event.PUBLISH: (DONE, State.PUBLISHED),
        Event.TERMINATE: (GONE, State.PUBLISHED),
        Event.EXPIRE: (GO, State.GONE),
    },
    State.GONE: {
        Event.ASK: (GONE, State.GONE),
        Event.WRITE: (GONE, State.GONE),
        Event.PUBLISH: (GONE, State.GONE),
        Event.TERMINATE: (GONE, State.GONE),
        Event.EXPIRE: (DONE, State.GONE),
    },
}
"""Protocol, sections 5 and 5.2: after publication PATCH is refused and DELETE is 410 without touching the file."""


def test_every_state_has_an_answer_to_every_event() -> None:
    assert set(upload.TRANSITIONS) == set(product(State, Event))


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda value: value.name)
def test_an_event_leads_where_the_protocol_says(state: State, event: Event) -> None:
    verdict, after = RULES[state][event]

    assert upload.TRANSITIONS[state, event] == (verdict, after)
    if verdict is Verdict.REFUSE_COMPLETE:
        with pytest.raises(UploadComplete):
            upload.move(state, event)
    elif verdict is Verdict.REFUSE_GONE:
        with pytest.raises(UploadGone):
            upload.move(state, event)
    else:
        assert upload.move(state, event) is after


def test_nothing_leads_back_to_open_and_nothing_out_of_gone() -> None:
    for (before, _), (_, after) in upload.TRANSITIONS.items():
        assert after is State.OPEN or before is not State.OPEN or after in (State.PUBLISHED, State.GONE)
        assert before is State.OPEN or after is not State.OPEN
        assert before is not State.GONE or after is State.GONE


# --- pieces ---


@pytest.mark.parametrize("first", [0, 9, 11, 40])
def test_an_append_elsewhere_is_refused_with_the_right_offset(first: int) -> None:
    have = Extents([(0, 10), (20, 30)])

    with pytest.raises(WrongOffset) as caught:
        upload.check_append(have, 40, Piece(first, 40))

    assert (caught.value.offset, caught.value.provided) == (10, first)


@pytest.mark.parametrize("end", [10, 11, 40, None])
def test_an_append_at_the_offset_within_the_total_is_welcome(end: int | None) -> None:
    upload.check_append(Extents([(0, 10), (20, 30)]), 40, Piece(10, end))


def test_an_append_beyond_the_total_is_refused_but_a_wrong_offset_is_told_first() -> None:
    have = Extents([(0, 10)])

    with pytest.raises(BodyTooLong):
        upload.check_append(have, 40, Piece(10, 41))
    with pytest.raises(WrongOffset):
        upload.check_append(have, 40, Piece(11, 41))


def test_1024_gaps_are_allowed_and_the_piece_that_makes_one_more_is_refused_with_the_offset() -> None:
    have = torn(MAX_GAPS - 1)
    beyond = 2 * MAX_GAPS + 1

    upload.check_gaps(have, Piece(beyond, beyond + 1))
    have = have.plus(beyond, beyond + 1)
    assert have.gaps == MAX_GAPS == 1024
    with pytest.raises(TooManyGaps) as caught:
        upload.check_gaps(have, Piece(beyond + 2, beyond + 3))

    assert (caught.value.status, caught.value.offset) == (409, 0)


def test_the_offset_of_a_refused_piece_is_the_gap_free_prefix() -> None:
    have = Extents([(0, 7), *((2 * number, 2 * number + 1) for number in range(4, 4 + MAX_GAPS))])
    assert have.gaps == MAX_GAPS

    with pytest.raises(TooManyGaps) as caught:
        upload.check_gaps(have, Piece(5000, 5001))

    assert caught.value.offset == 7


@pytest.mark.parametrize(
    "piece",
    [Piece(0, 1), Piece(2, 3), Piece(2047, 2048), Piece(2048, 2050), Piece(0, 5000), Piece(1, 2), Piece(9, None)],
    ids=["first gap", "inner gap", "a part of the last span", "touching the end", "all", "repeated", "no length"],
)
def test_a_piece_that_makes_no_new_gap_is_always_welcome(piece: Piece) -> None:
    upload.check_gaps(torn(MAX_GAPS), piece)


def test_a_piece_that_splits_a_gap_is_one_gap_more() -> None:
    have = torn(MAX_GAPS - 1).plus(3000, 3001)
    assert have.gaps == MAX_GAPS

    with pytest.raises(TooManyGaps):
        upload.check_gaps(have, Piece(2500, 2501))


def test_an_upload_that_has_too_many_gaps_already_may_still_be_filled() -> None:
    have = torn(MAX_GAPS + 5)

    upload.check_gaps(have, Piece(0, 1))
    upload.check_gaps(have, Piece(2, 3))
    with pytest.raises(TooManyGaps):
        upload.check_gaps(have, Piece(9000, 9001))


@given(st.lists(spans, max_size=20), spans, st.integers(0, 5))
def test_a_piece_is_refused_exactly_where_it_leaves_more_gaps_than_may_be(
    given_spans: list[Span], asked: Span, most: int
) -> None:
    have = Extents(given_spans)
    after = gaps_of(bytes_of([*given_spans, asked]))
    expected = after > most and after > have.gaps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload, "MAX_GAPS", most)
        try:
            upload.check_gaps(have, Piece(*asked))
        except TooManyGaps as error:
            refused, offset = True, error.offset
        else:
            refused, offset = False, have.prefix

    assert refused == expected
    assert offset == have.prefix


# --- replacing, expiry ---


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([(0, 10)], [], True),
        ([(0, 10)], [(0, 9)], True),
        ([(0, 10)], [(0, 10)], False),
        ([(0, 9)], [(0, 10)], False),
        ([], [], False),
        ([(0, 10)], [(0, 9), (20, 30)], False),
        ([(0, 10)], [(0, 5), (20, 24)], True),
        ([(0, 10)], [(20, 40)], False),
        ([(0, 5), (10, 50)], [(0, 10)], False),
    ],
    ids=[
        "nothing", "shorter", "equal", "longer", "both nothing", "more in all", "less in all", "only a later part",
        "more, but a smaller offset",
    ],
)  # fmt: skip
def test_what_a_broken_off_put_replaces(ours: list[Span], theirs: list[Span], expected: bool) -> None:
    assert upload.replaces(Extents(ours), Extents(theirs)) is expected


@given(span_lists, span_lists)
def test_replacing_never_lowers_the_offset_nor_loses_bytes_in_all(ours: list[Span], theirs: list[Span]) -> None:
    mine, known = Extents(ours), Extents(theirs)

    if upload.replaces(mine, known):
        assert mine.prefix >= known.prefix
        assert mine.recorded > known.recorded
        assert not upload.replaces(known, mine)


def test_an_upload_expires_after_its_time_and_not_at_it() -> None:
    assert not upload.is_expired(100.0, 50.0, 149.9)
    assert not upload.is_expired(100.0, 50.0, 150.0)
    assert upload.is_expired(100.0, 50.0, 150.1)
    assert not upload.is_expired(200.0, 50.0, 150.0)  # the clock was set back
