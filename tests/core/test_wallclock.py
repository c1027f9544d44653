"""When a clock is believed, and when a sweep is due."""

import pytest

from hmacfs.core.wallclock import Moment, has_run_ahead, is_due, would_take_most

DAY = 86400.0
THEN = Moment(1_800_000_000.0, 5000.0, 1)


def later(wall: float, steady: float, boot: int = 1) -> Moment:
    return Moment(THEN.wall + wall, THEN.steady + steady, boot)


@pytest.mark.parametrize(
    ("now", "ahead"),
    [
        (later(0, 0), False),
        (later(400 * DAY, 400 * DAY), False),
        (later(3600 + DAY, 3600), False),
        (later(3601 + DAY, 3600), True),
        (later(-400 * DAY, 3600), False),
        (later(30 * DAY, -4000, boot=2), False),
        (later(30 * DAY + 1, -4000, boot=2), True),
        (later(-30 * DAY, -4000, boot=2), False),
    ],
)
def test_a_clock_runs_ahead_by_a_day_within_a_boot_and_by_thirty_between_two(now: Moment, ahead: bool) -> None:
    assert has_run_ahead(THEN, now) is ahead


def test_before_the_first_sweep_every_clock_is_believed() -> None:
    assert not has_run_ahead(None, later(10_000 * DAY, 0))


@pytest.mark.parametrize(
    ("expired", "files", "most"),
    [(99, 99, False), (50, 100, False), (51, 100, True), (0, 100, False), (0, 0, False), (500_001, 1_000_000, True)],
)
def test_most_is_more_than_half_of_at_least_a_hundred(expired: int, files: int, most: bool) -> None:
    assert would_take_most(expired, files) is most


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (later(59, 59), False),
        (later(60, 60), True),
        (later(10 * DAY, 59), False),  # the wall clock was set within one boot
        (later(-10 * DAY, 60), True),
        (later(59, 0, boot=2), False),
        (later(60, 0, boot=2), True),
        (later(-1, 0, boot=2), True),
    ],
)
def test_a_sweep_is_due_after_its_interval(now: Moment, due: bool) -> None:
    assert is_due(THEN, now, 60.0) is due


def test_a_store_that_was_never_swept_is_due() -> None:
    assert is_due(None, THEN, 60.0)
