"""Conditional requests in the order of RFC 9110 section 13.2.2."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import preconditions
from hmacfs.core.preconditions import Conditions, Outcome

TAG = '"1-2-3"'
OTHER = '"1-2-4"'
MODIFIED = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"


@pytest.fixture(autouse=True)
def _far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An HTTP date is in GMT wherever the server stands."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def outcome(**fields: str) -> Outcome:
    return preconditions.judge(Conditions(**fields), TAG, MODIFIED)


def test_without_conditions_the_request_proceeds() -> None:
    assert outcome() is Outcome.PROCEED


@pytest.mark.parametrize("header", [TAG, "*", f"{OTHER}, {TAG}", f"{OTHER},{TAG}", f"  {TAG}  "])
def test_an_if_match_that_names_the_file_proceeds(header: str) -> None:
    assert outcome(if_match=header) is Outcome.PROCEED


@pytest.mark.parametrize("header", [OTHER, f"W/{TAG}", "1-2-3", "rubbish", f'{OTHER}, W/{TAG}, ""', ","])
def test_an_if_match_that_does_not_name_the_file_fails(header: str) -> None:
    assert outcome(if_match=header) is Outcome.FAILED


@pytest.mark.parametrize("header", [TAG, f"W/{TAG}", "*", f'"x", W/{TAG}', f"{OTHER} ,{TAG}"])
def test_an_if_none_match_that_names_the_file_is_not_modified(header: str) -> None:
    assert outcome(if_none_match=header) is Outcome.NOT_MODIFIED


@pytest.mark.parametrize("header", [OTHER, f"W/{OTHER}", "1-2-3", "rubbish"])
def test_an_if_none_match_that_does_not_name_the_file_proceeds(header: str) -> None:
    assert outcome(if_none_match=header) is Outcome.PROCEED


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (DATE, Outcome.NOT_MODIFIED),
        (AFTER, Outcome.NOT_MODIFIED),
        (BEFORE, Outcome.PROCEED),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Outcome.NOT_MODIFIED),
        ("Sunday, 06-Nov-94 08:49:36 GMT", Outcome.PROCEED),
        ("yesterday", Outcome.PROCEED),
        ("Sun, 99 Nov 1994 08:49:37 GMT", Outcome.PROCEED),
        ("784111777", Outcome.PROCEED),
    ],
)
def test_if_modified_since_compares_whole_seconds_and_ignores_what_is_no_date(header: str, expected: Outcome) -> None:
    assert outcome(if_modified_since=header) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (DATE, Outcome.PROCEED),
        (AFTER, Outcome.PROCEED),
        (BEFORE, Outcome.FAILED),
        ("yesterday", Outcome.PROCEED),
    ],
)
def test_if_unmodified_since_fails_for_a_newer_file_and_ignores_what_is_no_date(header: str, expected: Outcome) -> None:
    assert outcome(if_unmodified_since=header) is expected


def test_if_match_wins_over_if_unmodified_since() -> None:
    assert outcome(if_match=TAG, if_unmodified_since=BEFORE) is Outcome.PROCEED
    assert outcome(if_match=OTHER, if_unmodified_since=AFTER) is Outcome.FAILED


def test_if_none_match_wins_over_if_modified_since() -> None:
    assert outcome(if_none_match=OTHER, if_modified_since=AFTER) is Outcome.PROCEED
    assert outcome(if_none_match=TAG, if_modified_since=BEFORE) is Outcome.NOT_MODIFIED


def test_a_failed_condition_wins_over_not_modified() -> None:
    assert outcome(if_match=OTHER, if_none_match=TAG) is Outcome.FAILED
    assert outcome(if_unmodified_since=BEFORE, if_none_match=TAG) is Outcome.FAILED


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", True),
        (TAG, True),
        (OTHER, False),
        (f"W/{TAG}", False),
        (DATE, True),
        (BEFORE, False),
        (AFTER, False),
        ("rubbish", False),
        ("*", False),
    ],
)
def test_a_range_counts_only_for_the_very_file_that_if_range_names(header: str, expected: bool) -> None:
    assert preconditions.range_applies(Conditions(if_range=header), TAG, MODIFIED) is expected


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = preconditions.http_date(text)

    assert found is None or isinstance(found, int)


@given(st.text(max_size=40))
def test_any_header_gets_an_outcome(text: str) -> None:
    assert outcome(if_match=text, if_none_match=text, if_modified_since=text, if_unmodified_since=text) in Outcome


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_a_date_without_a_zone_is_in_gmt_wherever_the_server_stands(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert preconditions.http_date("Sun Nov  6 08:49:37 1994") == 784111777
    finally:
        monkeypatch.undo()
        time.tzset()
