"""Numbers, surplus and the limit of a day of old versions (protocol, section 5.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core.versions import DAY, Ledger, may_be_unreplaced, next_number, replaced, seconds_to_wait, surplus

NOW = 1_700_000_000.0
moments = st.lists(st.integers(int(NOW) - 3 * DAY, int(NOW) + 3 * DAY), max_size=30).map(tuple)


def test_the_first_version_is_one_and_the_newest_is_the_highest() -> None:
    assert next_number(Ledger(), []) == 1
    assert next_number(Ledger(4), [3, 4]) == 5


def test_a_number_is_not_given_twice_though_its_version_or_the_ledger_is_gone() -> None:
    assert next_number(Ledger(7), []) == 8
    assert next_number(Ledger(), [2, 9]) == 10


def test_a_crash_leaves_the_number_that_was_given_last_or_one_that_the_ledger_has_lost() -> None:
    assert [may_be_unreplaced(Ledger(highest=3), number) for number in (1, 2, 3, 4)] == [False, False, True, True]
    assert may_be_unreplaced(Ledger(), 1)


def of_today(highest: int, count: int) -> Ledger:
    """A ledger whose ``count`` newest versions were made within the last day, and two before that."""
    past = (int(NOW) - 2 * DAY, int(NOW) - DAY)
    return Ledger(highest, (*past, *(int(NOW) - count + number for number in range(count))))


@pytest.mark.parametrize(
    ("numbers", "most", "today", "gone"),
    [
        # none of today: the oldest go
        ([7, 5, 6], 2, 0, [5]),
        ([7, 5, 6], 0, 0, [5, 6, 7]),
        ([7, 5, 6], 3, 0, []),
        ([], 3, 0, []),
        # today has half of the places, the older ones the rest
        ([1, 2, 3, 4, 5, 6], 5, 1, [1]),
        ([2, 3, 4, 5, 6, 7], 5, 2, [2]),
        ([3, 4, 5, 6, 7, 8], 5, 3, [7]),
        ([3, 4, 5, 6, 8, 9], 5, 4, [8]),
        ([1, 2, 3, 4, 5, 6, 7, 8], 4, 4, [1, 2, 6, 7]),
        # and what the older ones leave free
        ([4, 5, 6, 7, 8], 5, 4, []),
        ([4, 5, 6, 7, 8, 9], 5, 5, [6]),
        ([5, 6, 7, 8, 9, 10], 5, 6, [6]),
        # of one place, and of none
        ([4, 5], 1, 1, [4]),
        ([5, 6], 1, 2, [6]),
        ([4, 5, 6], 1, 2, [4, 6]),
        ([4, 5, 6], 0, 2, [4, 5, 6]),
        ([4, 5, 6], 2, 2, [6]),
    ],
)
def test_versions_of_a_day_thin_themselves_out_first(
    numbers: list[int], most: int, today: int, gone: list[int]
) -> None:
    assert surplus(numbers, most, of_today(max(numbers, default=0), today), NOW) == gone


@given(st.integers(0, 12), st.integers(0, 7), st.integers(0, 30))
def test_a_day_of_replacements_leaves_half_of_what_was_kept_and_what_was_current(
    before: int, most: int, replacements: int
) -> None:
    kept = set(range(max(0, before - most) + 1, before + 1))
    genuine = {*kept, before + 1}  # with the current file, which becomes the first version of the day
    for count in range(1, replacements + 1):
        kept.add(before + count)
        kept -= set(surplus(kept, most, of_today(before + count, count), NOW))

    assert len(kept) == min(most, before + replacements)
    if replacements and most:
        older = [number for number in genuine if number <= before]
        assert before + 1 in kept
        assert before + replacements in kept or most < 4
        assert set(sorted(older)[-(most - max(1, most // 2)) :] if most > 1 else []) <= kept


def test_a_path_takes_as_many_replacements_in_a_day_as_allowed() -> None:
    ledger = Ledger()

    for number in range(3):
        assert seconds_to_wait(ledger, 3, NOW + number) == 0
        ledger = replaced(ledger, number + 1, 3, NOW + number)

    assert seconds_to_wait(ledger, 3, NOW + 10) == DAY - 10
    assert seconds_to_wait(ledger, 3, NOW + DAY - 0.5) == 1
    assert seconds_to_wait(ledger, 3, NOW + DAY) == 0


def test_no_limit_remembers_nothing() -> None:
    ledger = replaced(Ledger(4, (1, 2)), 5, 0, NOW)

    assert ledger == Ledger(5, ())
    assert seconds_to_wait(Ledger(1, tuple(int(NOW) for _ in range(50))), 0, NOW) == 0


def test_a_clock_that_was_set_back_blocks_for_a_day_at_most() -> None:
    ahead = Ledger(1, (int(NOW) + 3600,))
    far_ahead = Ledger(1, (int(NOW) + 30 * DAY,))

    assert seconds_to_wait(ahead, 1, NOW) == DAY
    assert seconds_to_wait(far_ahead, 1, NOW) == 0


@given(moments, st.integers(1, 12))
def test_the_wait_is_the_shortest_that_helps(made: tuple[int, ...], per_day: int) -> None:
    past = Ledger(1, tuple(moment for moment in made if moment <= NOW))

    wait = seconds_to_wait(past, per_day, NOW)

    assert 0 <= wait <= DAY
    assert seconds_to_wait(past, per_day, NOW + wait) == 0
    if wait > 1:
        assert seconds_to_wait(past, per_day, NOW + wait - 1) > 0


@given(moments, st.integers(1, 12))
def test_a_ledger_never_grows_beyond_the_limit_of_a_day(made: tuple[int, ...], per_day: int) -> None:
    ledger = replaced(Ledger(3, made), 4, per_day, NOW)

    assert len(ledger.made) <= per_day
    assert int(NOW) in ledger.made or len([moment for moment in made if moment > NOW]) >= per_day
    assert ledger.highest == 4


def test_a_ledger_notes_when_each_version_that_is_kept_had_been_stored() -> None:
    ledger = Ledger(3, (), ((1, 100), (2, 200), (3, 300)))

    changed = replaced(ledger, 4, 0, NOW, stored_ns=400, kept=[2, 3])

    assert changed.stored == ((2, 200), (3, 300), (4, 400))


def test_a_crash_between_noting_and_replacing_does_not_move_the_time_of_a_version() -> None:
    ledger = Ledger(3, (), ((3, 300),))

    changed = replaced(ledger, 3, 0, NOW, stored_ns=900, kept=[3])

    assert changed.stored == ((3, 300),)
