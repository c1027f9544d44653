"""The shortest age limit wins, a file's own end before it, and the log says which."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmacfs.core import paths, retention
from hmacfs.core.retention import AgeRule, Held, Policy, age_rules

NOW = 1_800_000_000.0
DAY = 86400
NAMES = ("FileTTL", "DeleteFilesAfterPeriod", "MaxRetentionTime")


def held(age: float = 0.0, expires_at: int = 0) -> Held:
    return Held(paths.parse(b"a/b"), 1, 5, int((NOW - age) * 1_000_000_000), expires_at)


def rules(**given_keys: int | bool) -> tuple[AgeRule, ...]:
    off = {"file_ttl": 0, "delete_files": False, "delete_after": 30 * DAY, "policy_enabled": False, "most_time": 0}
    return age_rules(**{**off, **given_keys})  # type: ignore[arg-type]


# --- which limit counts ---


@pytest.mark.parametrize(
    ("given_keys", "names"),
    [
        ({}, []),
        ({"file_ttl": 5}, ["FileTTL"]),
        ({"delete_files": True}, ["DeleteFilesAfterPeriod"]),
        ({"delete_after": 5}, []),
        ({"policy_enabled": True}, []),
        ({"most_time": 5}, []),
        ({"policy_enabled": True, "most_time": 5}, ["MaxRetentionTime"]),
        ({"file_ttl": 9, "delete_files": True, "policy_enabled": True, "most_time": 5}, list(NAMES)),
    ],
)
def test_a_limit_counts_only_where_its_switch_is_on(given_keys: dict[str, int], names: list[str]) -> None:
    assert [rule.name for rule in rules(**given_keys)] == names


@given(st.lists(st.integers(1, 100), max_size=3))
def test_the_shortest_limit_wins_and_the_first_of_equals(seconds: list[int]) -> None:
    ages = tuple(AgeRule(name, value) for name, value in zip(NAMES, seconds, strict=False))

    winner = Policy(ages).age

    if not ages:
        assert winner is None
    else:
        assert winner == ages[seconds.index(min(seconds))]


def test_the_log_says_which_limit_wins_over_which() -> None:
    ages = rules(file_ttl=7 * DAY, delete_files=True, policy_enabled=True, most_time=60 * DAY)

    assert retention.told(Policy(ages, 10 * 1024**3)) == [
        "Retention: files are deleted 7d after they were stored (FileTTL, shorter than DeleteFilesAfterPeriod = 30d "
        "and MaxRetentionTime = 60d)",
        "Retention: the oldest files are deleted while the store holds more than 10.0 GiB (MaxRetentionSize)",
    ]
    assert retention.told(Policy(rules(file_ttl=90))) == [
        "Retention: files are deleted 1m30s after they were stored (FileTTL)"
    ]
    assert retention.told(Policy()) == []


# --- when a file's time is over ---


@example(age=0, limit=None, claim=0)
@example(age=50, limit=50, claim=None)
@given(
    age=st.integers(-100, 100),
    limit=st.none() | st.integers(1, 100),
    claim=st.none() | st.integers(-100, 100),
)
def test_a_file_goes_when_the_earlier_of_its_ends_has_come(age: int, limit: int | None, claim: int | None) -> None:
    rule = None if limit is None else AgeRule("FileTTL", limit)
    end = int(NOW) + claim if claim is not None else 0

    reason = retention.reason_to_go(held(age, end), rule, NOW)
    life = retention.end_of_life(NOW - age, end, rule)

    by_claim, by_age = claim is not None and claim <= 0, limit is not None and age >= limit
    assert reason == ("claim" if by_claim else "FileTTL" if by_age else "")
    assert (life is not None and life <= NOW) == bool(reason)


def test_without_a_limit_and_a_claim_a_file_stays_for_ever() -> None:
    assert retention.end_of_life(0.0, 0, None) is None
    assert retention.reason_to_go(held(age=1e9), None, NOW) == ""


def test_a_limit_is_reached_to_the_nanosecond() -> None:
    rule = AgeRule("FileTTL", 10)
    young = Held(paths.parse(b"a"), 1, 1, int(NOW - 10) * 10**9 + 1000)

    assert retention.reason_to_go(young, rule, NOW) == ""
    assert retention.reason_to_go(held(age=10), rule, NOW) == "FileTTL"


@pytest.mark.parametrize(("age", "spared"), [(3599, True), (3600, False), (-1e9, True), (1e9, False)])
def test_files_of_the_last_hour_and_of_the_future_are_spared(age: float, spared: bool) -> None:
    assert retention.is_spared(held(age), NOW) is spared
