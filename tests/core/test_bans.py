"""Who is banned and for how long: every rule as a table, with the time as an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import bans
from hmacfs.core.bans import DAY, FOREVER, Ban, FailCounts, Rules
from hmacfs.core.clientaddr import counted

NOW = 1_800_000_000
ADDRESS = "192.0.2.1"
RULES = Rules(after_fails=3, first=300, later=600)


def ban(since: int = NOW, seconds: int = 300, times: int = 1, address: str = ADDRESS) -> Ban:
    return Ban(address, since, since + seconds, times)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_client_is_counted_by_its_address_and_ipv6_by_its_network(address: str, key: str) -> None:
    assert counted(address) == key


def test_the_key_of_a_network_is_its_own_key() -> None:
    assert counted("2001:db8:1:2::9") != counted("2001:db8:1:3::9")


# --- how long ---


def test_a_first_offence_is_blocked_for_block_duration() -> None:
    assert bans.next_ban(ADDRESS, None, RULES, NOW) == ban(seconds=300, times=1)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [(1, 600), (2, 1200), (3, 2400), (7, 38400), (8, 76800), (9, DAY), (10, DAY), (1_000_000, DAY)],
)
def test_a_repeated_offence_doubles_up_to_a_day(times: int, seconds: int) -> None:
    previous = ban(NOW - 1000, 300, times)

    assert bans.next_ban(ADDRESS, previous, RULES, NOW) == ban(NOW, seconds, times + 1)


def test_an_auto_ban_time_above_a_day_is_taken_as_it_is() -> None:
    rules = Rules(later=3 * DAY)

    assert bans.next_ban(ADDRESS, ban(NOW - 1000), rules, NOW).until == NOW + 3 * DAY
    assert bans.next_ban(ADDRESS, ban(NOW - 1000, times=5), rules, NOW).until == NOW + 3 * DAY


@pytest.mark.parametrize(("ended_ago", "times"), [(0, 2), (1, 2), (DAY - 1, 2), (DAY, 1), (30 * DAY, 1)])
def test_an_offence_is_repeated_within_a_day_of_the_end_of_the_last_block(ended_ago: int, times: int) -> None:
    previous = ban(NOW - ended_ago - 300)

    assert bans.next_ban(ADDRESS, previous, RULES, NOW).times == times


def test_without_auto_unban_the_second_block_stays() -> None:
    rules = Rules(ends=False)

    first = bans.next_ban(ADDRESS, None, rules, NOW)
    second = bans.next_ban(ADDRESS, ban(NOW - 1000), rules, NOW)

    assert (first.is_endless, first.until) == (False, NOW + 300)
    assert second.is_endless
    assert second.is_active(NOW + 50 * 365 * DAY)


def test_a_ban_of_an_operator_is_no_offence_before() -> None:
    assert bans.next_ban(ADDRESS, ban(NOW - 400, times=0), RULES, NOW).times == 1


@pytest.mark.parametrize(("after", "active"), [(0, True), (299, True), (299.5, True), (300, False), (301, False)])
def test_a_ban_runs_until_its_end(after: float, active: bool) -> None:
    assert ban().is_active(NOW + after) is active


@pytest.mark.parametrize(("after", "remembered"), [(0, True), (300, True), (300 + DAY - 1, True), (300 + DAY, False)])
def test_a_ban_is_remembered_for_a_day_after_its_end(after: int, remembered: bool) -> None:
    assert ban().is_remembered(NOW + after) is remembered


@pytest.mark.parametrize(("after", "left"), [(0, 300), (0.1, 300), (1, 299), (299, 1), (299.9, 1)])
def test_retry_after_is_what_is_left_rounded_up(after: float, left: int) -> None:
    assert bans.seconds_left(ban(), NOW + after) == left


def test_retry_after_of_an_endless_ban_is_a_day() -> None:
    assert bans.seconds_left(Ban(ADDRESS, NOW, FOREVER, 2), NOW) == DAY


# --- lifts ---


@pytest.mark.parametrize("known", [ban(), Ban(ADDRESS, NOW, FOREVER, 2), ban(NOW + 3)])
def test_a_lift_ends_a_ban_at_once_and_is_newer_than_it(known: Ban) -> None:
    lift = bans.lifted(known, NOW)

    assert lift.is_lift
    assert bans.is_newer(lift, known)
    assert not bans.is_newer(known, lift)
    assert not any(lift.is_active(NOW + after) for after in (-10, 0, 0.5, 10))


def test_a_lifted_address_begins_anew_and_a_later_ban_is_newer_than_the_lift() -> None:
    lift = bans.lifted(ban(times=5), NOW + 1)

    again = bans.next_ban(ADDRESS, lift, RULES, NOW + 2)

    assert again == ban(NOW + 2, 300, 1)
    assert bans.is_newer(again, lift)


def test_a_lift_is_known_for_90_days() -> None:
    lift = bans.lifted(ban(), NOW + 1)

    assert lift.is_remembered(NOW + 89 * DAY)
    assert not lift.is_remembered(NOW + 90 * DAY + 1)


def test_a_lift_is_unheard_where_something_older_is_known() -> None:
    older, newer, lift = ban(), ban(NOW + 100), bans.lifted(ban(), NOW + 50)

    assert bans.unheard({ADDRESS: older}, [lift, bans.lifted(older, NOW + 40)]) == [lift]
    assert bans.unheard({ADDRESS: newer}, [lift]) == []
    assert bans.unheard({ADDRESS: lift}, [lift]) == []
    assert bans.unheard({}, [lift]) == []


# --- what counts ---


def test_failures_count_for_ten_minutes() -> None:
    counts = FailCounts()

    found = [counts.add(ADDRESS, 1, NOW + after) for after in (0, 1, 300, 589, 611, 900, 5000)]

    assert found == [1, 2, 3, 4, 3, 3, 1]


def test_failures_spread_over_the_border_of_a_window_count_together() -> None:
    counts = FailCounts()
    counts.add(ADDRESS, 1, NOW)

    found = [counts.add(ADDRESS, 1, NOW + after) for after in (595, 596, 605, 606)]

    assert found[-1] >= 4


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 3)), min_size=1, max_size=60))
def test_a_count_is_that_of_ten_minutes_to_within_a_slice(events: list[tuple[int, int]]) -> None:
    counts, events = FailCounts(), sorted(events)

    for place, (at, count) in enumerate(events):
        found = counts.add(ADDRESS, count, NOW + at)

        least = sum(n for t, n in events[: place + 1] if at - t < bans.WINDOW_SECONDS - bans.SLICE_SECONDS)
        most = sum(n for t, n in events[: place + 1] if at - t < bans.WINDOW_SECONDS)
        assert least <= found <= most


def test_each_address_counts_for_itself() -> None:
    counts = FailCounts()

    counts.add("a", 5, NOW)

    assert counts.add("b", 1, NOW) == 1


def test_a_forgotten_address_begins_anew() -> None:
    counts = FailCounts()
    counts.add(ADDRESS, 5, NOW)

    counts.forget(ADDRESS)

    assert counts.add(ADDRESS, 1, NOW) == 1


def test_memory_for_failures_is_bounded() -> None:
    counts = FailCounts(most=3)

    for number in range(10):
        counts.add(f"address {number}", 1, NOW)

    assert counts.add("address 9", 1, NOW) == 2
    assert counts.add("address 0", 1, NOW) == 1


@pytest.mark.parametrize(
    ("failing", "succeeded", "suspects"),
    [(0, False, False), (2, False, False), (3, False, True), (100, False, True), (3, True, False), (100, True, False)],
)
def test_three_addresses_that_fail_and_none_that_succeeds_speak_against_the_secret(
    failing: int, succeeded: bool, suspects: bool
) -> None:
    assert bans.suspects_secret(failing, succeeded=succeeded) is suspects


# --- another book ---


def book(*rows: Ban) -> dict[str, Ban]:
    return {row.address: row for row in rows}


def test_what_we_know_is_written_into_a_new_book() -> None:
    ours, theirs = ban(address="a"), ban(address="b")

    merge = bans.merged(book(ours), book(theirs), NOW)

    assert merge == bans.Merge(book(theirs, ours), [ours])


def test_what_nobody_needs_any_more_is_not_written() -> None:
    merge = bans.merged(book(ban(NOW - 3 * DAY)), {}, NOW)

    assert merge == bans.Merge({}, [])


def test_of_two_bans_of_an_address_the_newer_counts() -> None:
    old, new = ban(NOW - 100), ban(NOW - 50, times=2)

    assert bans.merged(book(old), book(new), NOW) == bans.Merge(book(new), [])
    assert bans.merged(book(new), book(old), NOW) == bans.Merge(book(new), [new])


def test_what_was_lifted_while_another_book_counted_is_lifted_in_the_old_one() -> None:
    fresh, other = ban(NOW - 1, DAY), ban(NOW - 60, DAY, address="other")
    lift = bans.lifted(fresh, NOW)

    merge = bans.merged(book(lift), book(fresh, other), NOW)

    assert merge == bans.Merge(book(lift, other), [lift])
