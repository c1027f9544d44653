"""Rates: an upload stays within 5 % of its limit over ten seconds, and only a body that is really slow is called so."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hmacfs.core.throttle import WINDOW_SECONDS, RateWatch, TokenBucket

START = 5000.0
SECONDS = 10.0

Log = list[tuple[float, int]]


def held(rate: int, block: int, seconds: float = SECONDS) -> Log:
    """When how much of an endless body passes, in blocks of at most ``block``, if every pause is kept exactly."""
    bucket = TokenBucket(rate, START)
    now, passed = START, []
    while now < START + seconds:
        count = min(block, bucket.piece)
        passed.append((now - START, count))
        now += bucket.spend(count, now)
    return passed


def total(log: Log, first: float = 0.0, last: float = float("inf")) -> int:
    return sum(count for moment, count in log if first <= moment < last)


rates = st.integers(16 * 1024, 2**30)
blocks = st.integers(4096, 16 * 2**20)


# --- the largest rate ---


@given(rates, blocks)
def test_over_ten_seconds_the_rate_is_kept_within_five_per_cent(rate: int, block: int) -> None:
    if rate // block > 4_000:  # so many blocks take long to count and show nothing else
        block = rate // 4_000

    assert total(held(rate, block)) == pytest.approx(rate * SECONDS, rel=0.05)


@given(rates, blocks)
def test_the_flow_is_even_from_second_to_second(rate: int, block: int) -> None:
    if rate // block > 4_000:
        block = rate // 4_000

    flow = [0] * int(SECONDS)
    for moment, count in held(rate, block):
        flow[int(moment)] += count

    for bytes_of_a_second in flow:
        assert abs(bytes_of_a_second - rate) <= max(4096, rate // 4)


@given(rates)
def test_a_piece_is_a_quarter_of_a_second_and_one_pause_no_longer(rate: int) -> None:
    bucket = TokenBucket(rate, START)

    assert bucket.piece <= rate / 4 or bucket.piece == 4096
    assert bucket.spend(bucket.piece, START) <= 0.25 + 1e-9


@given(st.integers(1, 2**20), st.integers(1, 2**20))
def test_what_is_spent_is_paid_back_at_the_rate(rate: int, count: int) -> None:
    assert TokenBucket(rate, START).spend(count, START) == pytest.approx(count / rate)


@given(st.integers(1, 2**20), st.lists(st.integers(1, 2**20), min_size=1, max_size=10))
def test_what_is_not_waited_for_is_remembered(rate: int, counts: list[int]) -> None:
    bucket = TokenBucket(rate, START)

    pauses = [bucket.spend(count, START) for count in counts]

    assert pauses[-1] == pytest.approx(sum(counts) / rate)


def test_a_slow_sender_is_not_slowed_down_further() -> None:
    bucket = TokenBucket(1000, START)

    pauses = [bucket.spend(100, START + second) for second in range(1, 60)]

    assert max(pauses) <= 0.1 + 1e-9


def test_a_long_silence_earns_no_burst() -> None:
    bucket = TokenBucket(1000, START)
    bucket.spend(1000, START)

    pauses = [bucket.spend(1000, START + 3600.0) for _ in range(3)]

    assert pauses[-1] >= 2.5


@given(st.lists(st.integers(16 * 1024, 2**20), min_size=2, max_size=5))
def test_one_bucket_knows_nothing_of_another(rates: list[int]) -> None:
    buckets = [TokenBucket(rate, START) for rate in rates]

    pauses = [bucket.spend(4096, START) for bucket in buckets]

    assert pauses == [pytest.approx(4096 / rate) for rate in rates]


# --- the least rate ---


def flow(watch: RateWatch, count: int, every: float, seconds: float, begin: float = 0.0) -> float:
    """``count`` bytes arrive ``every`` so many seconds; the moment at which they end."""
    now = START + begin
    for step in range(1, int(seconds / every) + 1):
        now = START + begin + step * every
        watch.take(count, now)
    return now


def test_nobody_is_judged_before_a_whole_window_has_passed() -> None:
    watch = RateWatch(1000, START)

    assert not watch.is_too_slow(START)
    assert not watch.is_too_slow(START + WINDOW_SECONDS - 0.001)
    assert watch.is_too_slow(START + WINDOW_SECONDS)


@given(st.integers(100, 2**20), st.floats(0.01, 5.0), st.floats(30.0, 200.0))
def test_a_body_clearly_above_the_least_rate_is_never_too_slow(least: int, every: float, seconds: float) -> None:
    watch = RateWatch(least, START)

    now = flow(watch, int(least * every * 1.25) + 1, every, seconds)

    assert not watch.is_too_slow(now)


@given(st.integers(100, 2**20), st.floats(0.01, 5.0), st.floats(40.0, 200.0))
def test_a_body_clearly_below_the_least_rate_is_too_slow(least: int, every: float, seconds: float) -> None:
    watch = RateWatch(least, START)

    now = flow(watch, int(least * every * 0.8), every, seconds)

    assert watch.is_too_slow(now)


def test_a_burst_counts_for_one_window_only() -> None:
    watch = RateWatch(10, START)
    watch.take(10_000, START + 1.0)

    assert not watch.is_too_slow(START + 30.5)
    assert watch.is_too_slow(START + 33.0)


def test_a_body_that_gets_faster_again_is_forgiven() -> None:
    watch = RateWatch(10, START)
    flow(watch, 100, 1.0, 30.0)
    assert watch.is_too_slow(START + 70.0)

    now = flow(watch, 100, 1.0, 30.0, begin=70.0)

    assert not watch.is_too_slow(now)


def test_a_silence_shorter_than_the_window_is_forgiven_to_a_fast_body() -> None:
    watch = RateWatch(1000, START)
    now = flow(watch, 10_000, 1.0, 40.0)

    assert not watch.is_too_slow(now + 25.0)


def test_asking_often_changes_nothing() -> None:
    asked, unasked = RateWatch(100, START), RateWatch(100, START)

    for second in range(1, 100):
        now = START + second
        for watch in (asked, unasked):
            watch.take(120, now)
        asked.is_too_slow(now)

    assert asked.is_too_slow(START + 99) == unasked.is_too_slow(START + 99) is False


def test_a_watch_stays_small_however_many_pieces_arrive() -> None:
    watch = RateWatch(1000, START)

    for piece in range(4_000):
        watch.take(1, START + piece * 0.005)
        watch.is_too_slow(START + piece * 0.005)

    assert len(watch._seconds) <= 32


@given(st.integers(1024, 2**30), st.sampled_from([4096, 65536, 2**20]), st.sampled_from([0.0, 0.001, 0.002]))
def test_the_rate_holds_when_it_is_low_and_when_pauses_end_late(rate: int, block: int, late: float) -> None:
    assume(rate // block <= 2000)
    bucket, now, total = TokenBucket(rate, 0.0), 0.0, 0

    while now < 10:
        count = min(block, bucket.piece)
        total += count
        pause = bucket.spend(count, now)
        now += pause + late if pause else 0.0

    assert total == pytest.approx(rate * 10, rel=0.05)


def test_a_body_just_above_the_least_rate_is_never_cut() -> None:
    watch, sent = RateWatch(1000, 0.0), 0

    for step in range(1, 2000):
        now = step * 0.1
        watch.take(int(1010 * now) - sent, now)
        sent = int(1010 * now)

        assert not watch.is_too_slow(now)
