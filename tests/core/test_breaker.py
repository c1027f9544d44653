"""When a tier may be asked: one failure closes the way, only a probe opens it again."""

import pytest

from hmacfs.core.breaker import PROBE_SECONDS, Breaker, Phase


def closed() -> Breaker:
    return Breaker(0.0, closed=True)


def opened() -> Breaker:
    breaker = closed()
    breaker.fail("gone", 1.0)
    return breaker


def probing() -> Breaker:
    breaker = opened()
    breaker.begin_probe(2.0)
    return breaker


def test_a_tier_is_not_asked_before_its_first_probe() -> None:
    breaker = Breaker(5.0)

    assert not breaker.is_closed
    assert (breaker.phase, breaker.reason, breaker.since) == (Phase.OPEN, "not asked yet", 5.0)


def test_one_failure_is_enough() -> None:
    breaker = closed()

    news = breaker.fail("gone", 1.0)

    assert news
    assert not breaker.is_closed
    assert (breaker.reason, breaker.since) == ("gone", 1.0)


def test_a_probe_that_answers_closes_it() -> None:
    breaker = opened()

    assert breaker.begin_probe(2.0)
    assert not breaker.is_closed
    assert breaker.probe_answered(3.0)

    assert breaker.is_closed
    assert (breaker.reason, breaker.since) == ("", 3.0)


def test_a_probe_that_fails_leaves_it_open_with_the_newest_reason() -> None:
    breaker = probing()

    breaker.probe_failed("still gone", 3.0)

    assert (breaker.phase, breaker.reason, breaker.since) == (Phase.OPEN, "still gone", 3.0)
    assert breaker.begin_probe(4.0)


def test_there_is_one_probe_at_a_time() -> None:
    breaker = probing()

    assert not breaker.begin_probe(2.0 + PROBE_SECONDS - 0.001)
    assert breaker.begin_probe(2.0 + PROBE_SECONDS)


def test_a_lost_probe_still_counts_when_it_answers_late() -> None:
    breaker = probing()
    breaker.begin_probe(2.0 + PROBE_SECONDS)

    assert breaker.probe_answered(90.0)
    assert not breaker.probe_answered(91.0)


def test_a_tier_that_serves_needs_no_probe() -> None:
    assert not closed().begin_probe(1.0)


@pytest.mark.parametrize("breaker", [opened(), probing()], ids=["open", "probing"])
def test_the_failure_of_a_verb_that_began_earlier_changes_nothing(breaker: Breaker) -> None:
    before = (breaker.phase, breaker.reason, breaker.since)

    assert not breaker.fail("late", 9.0)

    assert (breaker.phase, breaker.reason, breaker.since) == before


@pytest.mark.parametrize("breaker", [closed(), opened()], ids=["closed", "open"])
def test_the_end_of_a_probe_that_nobody_runs_changes_nothing(breaker: Breaker) -> None:
    before = (breaker.phase, breaker.reason, breaker.since)

    assert not breaker.probe_answered(9.0)
    breaker.probe_failed("late", 9.0)

    assert (breaker.phase, breaker.reason, breaker.since) == before
