"""When to try again: delays that double up to a bound, spread by chance, and an end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core.retry import LONGEST_SECONDS, Schedule, retry_after


def delays(schedule: Schedule, chance: float) -> list[float]:
    """Every delay until there is none left."""
    found = []
    while (delay := schedule.delay(len(found), chance)) is not None:
        found.append(delay)
    return found


def test_delays_double_from_the_first_one() -> None:
    assert delays(Schedule(5, 2), 0.0) == [2, 4, 8, 16, 32]


def test_chance_shortens_a_delay_to_half_at_most() -> None:
    assert delays(Schedule(3, 2), 1.0) == [1, 2, 4]
    assert delays(Schedule(3, 2), 0.5) == [1.5, 3, 6]


def test_no_delay_is_longer_than_a_minute() -> None:
    assert delays(Schedule(8, 2), 0.0) == [2, 4, 8, 16, 32, 60, 60, 60]
    assert LONGEST_SECONDS == 60


def test_a_first_delay_over_the_bound_is_cut_to_it() -> None:
    assert delays(Schedule(2, 3600), 0.0) == [60, 60]


def test_a_schedule_may_have_a_bound_of_its_own() -> None:
    assert delays(Schedule(3, 2, longest=3), 0.0) == [2, 3, 3]


def test_no_retries_means_no_delay_at_all() -> None:
    assert Schedule(0, 2).delay(0, 0.0) is None


def test_a_first_delay_of_nothing_stays_nothing() -> None:
    assert delays(Schedule(3, 0), 0.3) == [0, 0, 0]


@pytest.mark.parametrize("done", [100, 10_000])
def test_very_many_retries_do_not_overflow(done: int) -> None:
    assert Schedule(done + 1, 86400).delay(done, 0.0) == 60


@given(st.integers(0, 100), st.integers(0, 10**9), st.floats(0, 1))
def test_every_delay_is_between_half_and_the_whole_of_what_doubling_says(done: int, first: int, chance: float) -> None:
    delay = Schedule(101, first).delay(done, chance)

    whole = min(60, first * 2**done)
    assert delay is not None
    assert whole / 2 <= delay <= whole


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("", 0),
        ("-1", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣", 0),
        ("9" * 30, 0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("Tue, 14 Nov", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after(value, 1_700_000_000) == seconds
