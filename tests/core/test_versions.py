"""Numbers, surplus and the limit of a day of old versions (protocol, section 5.5)."""

from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core.versions import DAY, Ledger, next_number, replaced, seconds_to_wait, surplus

NOW = 1_700_000_000.0
moments = st.lists(st.integers(int(NOW) - 3 * DAY, int(NOW) + 3 * DAY), max_size=30).map(tuple)


def test_the_first_version_is_one_and_the_newest_is_the_highest() -> None:
    assert next_number(Ledger(), []) == 1
    assert next_number(Ledger(4), [3, 4]) == 5


def test_a_number_is_not_given_twice_though_its_version_or_the_ledger_is_gone() -> None:
    assert next_number(Ledger(7), []) == 8
    assert next_number(Ledger(), [2, 9]) == 10


def test_the_oldest_versions_are_the_surplus() -> None:
    assert surplus([7, 5, 6], 2) == [5]
    assert surplus([7, 5, 6], 0) == [5, 6, 7]
    assert surplus([7, 5, 6], 3) == []


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
