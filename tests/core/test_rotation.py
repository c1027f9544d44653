"""Which secrets verify when: current, previous, and replaced within their grace."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import rotation
from hmacfs.core.rotation import MOST_REPLACED, Kind, Ring, Secrets

GRACE = 100.0


def verifying(ring: Ring, now: float, kind: Kind = Kind.SECRET) -> tuple[str, ...]:
    return ring.values(kind, now)


def after(*steps: tuple[float, str]) -> Ring:
    """A ring after the secret was read at these times."""
    ring: Ring | None = None
    for now, secret in steps:
        ring = rotation.rotated(ring, Secrets(secret), now, GRACE)
    assert ring is not None
    return ring


def test_the_first_secret_stands_alone() -> None:
    assert verifying(after((0, "one")), 0) == ("one",)


def test_a_replaced_secret_verifies_until_its_grace_ends() -> None:
    ring = after((0, "one"), (1000, "two"))

    assert verifying(ring, 1000) == ("two", "one")
    assert verifying(ring, 1099.9) == ("two", "one")
    assert verifying(ring, 1100) == ("two",)


def test_reading_the_same_secret_again_prolongs_no_grace() -> None:
    ring = after((0, "one"), (1000, "two"), (1050, "two"))

    assert verifying(ring, 1100) == ("two",)


def test_each_of_several_replaced_secrets_has_its_own_grace() -> None:
    ring = after((0, "one"), (1000, "two"), (1050, "three"))

    assert verifying(ring, 1060) == ("three", "two", "one")
    assert verifying(ring, 1120) == ("three", "two")
    assert verifying(ring, 1150) == ("three",)


def test_a_secret_that_comes_back_is_current_once() -> None:
    ring = after((0, "one"), (1000, "two"), (1010, "one"))

    assert verifying(ring, 1020) == ("one", "two")
    assert verifying(ring, 1200) == ("one",)
    assert [each.value for each in ring.replaced] == ["two"]


def test_without_grace_a_replaced_secret_ends_at_once() -> None:
    ring = rotation.rotated(Ring(Secrets("one")), Secrets("two"), 1000, 0)

    assert verifying(ring, 1000) == ("two",)
    assert ring.replaced == ()


def test_a_shorter_grace_counts_for_secrets_that_were_replaced_before() -> None:
    ring = rotation.rotated(after((0, "one"), (1000, "two")), Secrets("two"), 1010, 5)

    assert verifying(ring, 1014) == ("two", "one")
    assert verifying(ring, 1016) == ("two",)


def test_a_clock_that_is_set_back_prolongs_no_grace_beyond_its_length() -> None:
    ring = rotation.rotated(after((0, "one"), (10_000, "two")), Secrets("two"), 500, GRACE)

    assert verifying(ring, 599) == ("two", "one")
    assert verifying(ring, 601) == ("two",)


def test_previous_secrets_verify_for_ever_and_come_behind_the_current_one() -> None:
    ring = rotation.rotated(None, Secrets("now", previous=("older", "oldest")), 0, GRACE)

    assert verifying(ring, 10**9) == ("now", "older", "oldest")


def test_a_value_verifies_once_wherever_it_stands() -> None:
    ring = rotation.rotated(after((0, "one")), Secrets("two", previous=("one", "two")), 10, GRACE)

    assert verifying(ring, 20) == ("two", "one")


@pytest.mark.parametrize(("kind", "name"), [(Kind.JWT, "jwt"), (Kind.DELETE, "delete")])
def test_the_other_secrets_have_the_same_grace(kind: Kind, name: str) -> None:
    first = rotation.rotated(None, Secrets("s", **{name: "one"}), 0, GRACE)  # type: ignore[arg-type]
    second = rotation.rotated(first, Secrets("s", **{name: "two"}), 1000, GRACE)  # type: ignore[arg-type]
    off = rotation.rotated(second, Secrets("s"), 1010, GRACE)

    assert verifying(second, 1050, kind) == ("two", "one")
    assert verifying(second, 1050) == ("s",)
    assert verifying(off, 1050, kind) == ("two", "one")
    assert verifying(off, 1110, kind) == ()


def test_what_is_off_verifies_nothing() -> None:
    ring = after((0, "one"))

    assert verifying(ring, 0, Kind.JWT) == verifying(ring, 0, Kind.DELETE) == ()


def test_a_source_that_always_says_something_else_does_not_fill_the_ring() -> None:
    ring = after(*((float(n), f"secret {n}") for n in range(60)))

    assert verifying(ring, 59) == tuple(f"secret {n}" for n in range(59, 59 - MOST_REPLACED - 1, -1))


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abcd")), min_size=1, max_size=20))
def test_what_verifies_is_what_was_current_within_the_grace(steps: list[tuple[int, str]]) -> None:
    moments, now = [], 0.0
    for wait, secret in steps:
        now += wait
        moments.append((now, secret))

    ring = after(*moments)

    ends = [(secret, until) for (_, secret), (until, _) in pairwise(moments)]
    expected = {secret for secret, until in ends if until + GRACE > now} | {moments[-1][1]}
    assert set(verifying(ring, now)) == expected
    assert verifying(ring, now)[0] == moments[-1][1]


def test_a_failed_reading_changes_no_secret_and_is_told() -> None:
    ring = rotation.failed(after((0, "one"), (1000, "two")), "the file is gone", 1050)

    assert verifying(ring, 1060) == ("two", "one")
    assert (ring.asked_at, ring.trouble) == (1050, "the file is gone")


@pytest.mark.parametrize(("now", "due"), [(1000, False), (1059, False), (1060, True), (999, True)])
def test_the_sources_are_asked_after_the_interval_and_when_the_clock_was_set_back(now: float, due: bool) -> None:
    assert rotation.is_due(after((1000, "one")), now, 60) is due


def test_the_next_end_is_that_of_the_first_secret_to_go() -> None:
    ring = after((0, "one"), (1000, "two"), (1050, "three"))

    assert ring.next_end(1060) == 1100
    assert ring.next_end(1120) == 1150
    assert ring.next_end(1200) == float("inf")


def test_no_repr_shows_a_secret() -> None:
    ring = rotation.rotated(Ring(Secrets("alpha-1", "beta-2", "gamma-3", ("delta-4",))), Secrets("epsilon-5"), 0, GRACE)

    for shown in (repr(ring), f"{ring}", repr(ring.current), repr(ring.replaced), str(ring.replaced[0])):
        assert not any(word in shown for word in ("alpha", "beta", "gamma", "delta", "epsilon"))
