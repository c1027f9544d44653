"""What every tier promises, on the real servers. Redis keeps sessions like the others; its catalogue is a cache."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from hmacfs.errors import StateUnavailable
from hmacfs.state.base import MAX_PAGE, Tier
from tests.state.facts import FACTS, LONGEST, all_right_rows, in_every_order, right_row, row_of
from tests.state.tiers import NAMES, NOW, STORED_US, file_row, session_end, session_key, session_row, tier_maker
from tests.support.polling import until

LISTING = [name for name in NAMES if name != "redis"]
AWKWARD = [
    "plain",
    "a",
    "a/b",
    "a/b/c",
    "a/B",
    "A/b",
    "a/b ",
    "a/b  ",
    " a/b",
    "ab",
    "a-b",
    "100%",
    "100_",
    "it's",
    'say "so"',
    "back\\slash",
    "semi;colon -- comment",
    "%s %(path)s :path {x} ?",
    "ä/straße.txt",
    "ae",
    "\u00e9",
    "e\u0301",
    "Z",
    "z",
    "\uffff",
    "\U0001f600/\U0001f468.png",
    "\U0010ffff",
    "/".join(["x" * 255] * 4)[:1024],
    "/".join(["x" * 255] * 4)[:1023] + "y",
    "\U0001f600" * 256,
]
"""Paths that some server would confuse, reorder or refuse."""


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest) -> Callable[[], Tier]:
    return tier_maker(request.param, request)


@pytest.fixture
def tier(make: Callable[[], Tier]) -> Iterator[Tier]:
    made = make()
    made.ping()
    yield made
    made.close()


@pytest.fixture(params=LISTING)
def catalog(request: pytest.FixtureRequest) -> Iterator[Tier]:
    made = tier_maker(request.param, request)()
    made.ping()
    yield made
    made.close()


# --- the catalogue ---


def test_a_recorded_file_is_found_with_all_it_says(tier: Tier) -> None:
    row = file_row("jid/a.png", (1 << 62) + 1, uploader="romeo@example.org/\U0001f600", expires_at=NOW + (1 << 40))
    bare = file_row("b", 0, content_type="", digest="", stored_us=0)

    tier.record_files([row, bare])

    assert tier.find_file("jid/a.png") == row
    assert tier.find_file("b") == bare


def test_an_unknown_file_is_none(tier: Tier) -> None:
    assert tier.find_file("nothing") is None


def test_a_file_recorded_again_is_replaced(tier: Tier) -> None:
    tier.record_files([file_row("a", 1), file_row("b", 1)])
    newer = file_row("a", 2, content_type="text/plain", digest="", stored_us=STORED_US + 1)

    tier.record_files([newer])

    assert tier.find_file("a") == newer
    assert tier.find_file("b") == file_row("b", 1)


def test_of_two_rows_of_one_moment_in_one_batch_the_last_counts(tier: Tier) -> None:
    tier.record_files([file_row("a", 1), file_row("b", 1), file_row("a", 2)])

    assert tier.find_file("a") == file_row("a", 2)


def test_of_two_rows_for_a_path_in_one_batch_one_that_is_older_does_not_count(tier: Tier) -> None:
    newer, older = file_row("a", 2, stored_us=1001), file_row("a", 1, stored_us=1000)

    tier.record_files([newer, older])

    assert tier.find_file("a") == newer


def test_every_order_of_the_rows_of_files_that_followed_each_other_leaves_the_last_files(tier: Tier) -> None:
    told = [file_row("a", size, stored_us=STORED_US + moment) for moment, size in enumerate([5, 2, 9, 1])]
    orders = list(itertools.permutations(told))

    for step in zip(*orders, strict=True):
        tier.record_files([replace(row, path=f"{number}") for number, row in enumerate(step)])

    assert [tier.find_file(f"{number}") for number in range(len(orders))] == [
        replace(told[-1], path=f"{number}") for number in range(len(orders))
    ]


def test_a_row_that_is_as_new_as_the_one_that_is_there_replaces_it(tier: Tier) -> None:
    tier.record_files([file_row("a", 1)])

    tier.record_files([file_row("a", 2)])

    assert tier.find_file("a") == file_row("a", 2)


def test_forgotten_files_are_gone_and_the_others_stay(tier: Tier) -> None:
    tier.record_files([file_row(path) for path in ("a", "b", "c")])

    tier.forget_files(["a", "c", "never there"])

    assert [tier.find_file(path) for path in ("a", "b", "c")] == [None, file_row("b"), None]


def test_a_forgotten_file_may_be_recorded_again(tier: Tier) -> None:
    tier.record_files([file_row("a", 1)])
    tier.forget_files(["a"])
    older = file_row("a", 2, stored_us=1)

    tier.record_files([older])

    assert tier.find_file("a") == older


def test_nothing_to_record_or_forget_is_no_error(tier: Tier) -> None:
    tier.record_files([])
    tier.forget_files([])
    tier.save_sessions([])


def test_paths_are_told_apart_by_their_bytes(tier: Tier) -> None:
    rows = [file_row(path, number) for number, path in enumerate(AWKWARD)]

    tier.record_files(rows)

    assert [tier.find_file(path) for path in AWKWARD] == rows
    tier.forget_files([path for path in AWKWARD if path != "a/b"])
    assert [tier.find_file(path) for path in AWKWARD if tier.find_file(path)] == [rows[AWKWARD.index("a/b")]]


def test_a_batch_of_thousands_is_recorded_and_forgotten(tier: Tier) -> None:
    rows = [file_row(f"batch/{number}", number, uploader="u" * 200) for number in range(2500)]

    tier.record_files(rows)
    tier.record_files(rows)

    assert [tier.find_file(f"batch/{number}") for number in (0, 999, 1000, 2499)] == [
        rows[number] for number in (0, 999, 1000, 2499)
    ]
    tier.forget_files([row.path for row in rows[1:]])
    assert [tier.find_file(f"batch/{number}") for number in (0, 1, 999, 2499)] == [rows[0], None, None, None]


def test_files_are_listed_by_the_bytes_of_their_paths(catalog: Tier) -> None:
    catalog.record_files([file_row(path) for path in AWKWARD])

    listed = [row.path for row in catalog.list_files("", 1000)]

    assert listed == sorted(AWKWARD, key=str.encode)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pages_follow_each_other_without_gap_or_repetition(catalog: Tier, size: int) -> None:
    rows = [file_row(path, number) for number, path in enumerate(AWKWARD)]
    catalog.record_files(rows)

    seen, after = [], ""
    while found := catalog.list_files(after, size):
        assert len(found) <= size
        seen += found
        after = found[-1].path

    assert seen == sorted(rows, key=lambda row: row.path.encode())


def test_a_page_is_bounded(catalog: Tier) -> None:
    catalog.record_files([file_row(f"{number:05}") for number in range(MAX_PAGE + 5)])

    assert len(catalog.list_files("", 10 * MAX_PAGE)) == MAX_PAGE
    assert catalog.list_files("", 0) == []
    assert catalog.list_files("", -1) == []


# --- sessions ---


def test_a_saved_session_is_found_with_all_it_says(tier: Tier) -> None:
    row = replace(session_row(1, path=AWKWARD[-1], offset=(1 << 39) + 1), content_type="", face="draft")

    tier.save_sessions([row, session_row(2)])

    assert tier.find_session(session_key(1), NOW) == row
    assert tier.find_session(session_key(2), NOW) == session_row(2)
    assert tier.find_session(session_key(3), NOW) is None


def test_a_session_saved_again_is_replaced(tier: Tier) -> None:
    tier.save_sessions([session_row(1, NOW + 100)])

    tier.save_sessions([session_row(1, NOW + 50, offset=7)])
    tier.save_sessions([session_row(1, NOW + 500, offset=8), session_row(1, NOW + 500, offset=9)])

    assert tier.find_session(session_key(1), NOW + 400) == session_row(1, NOW + 500, offset=9)
    assert tier.list_sessions(NOW, 10) == [session_row(1, NOW + 500, offset=9)]


def test_a_session_lives_until_it_expires(tier: Tier) -> None:
    tier.save_sessions([session_row(1, NOW + 100)])

    assert tier.find_session(session_key(1), NOW + 99) is not None
    assert tier.find_session(session_key(1), NOW + 100) is None
    assert len(tier.list_sessions(NOW + 99, 10)) == 1
    assert tier.list_sessions(NOW + 100, 10) == []


def test_a_session_that_expired_already_is_never_seen(tier: Tier) -> None:
    tier.save_sessions([session_row(1, NOW + 100)])

    tier.save_sessions([session_row(1, NOW - 100, offset=1)])

    assert tier.find_session(session_key(1), NOW) is None
    assert tier.list_sessions(NOW, 10) == []


def test_sessions_that_are_over_are_gone(tier: Tier) -> None:
    tier.save_sessions([session_row(number) for number in (1, 2, 3)])

    tier.save_sessions([session_end(number) for number in (1, 3, 4)])

    assert [row.key for row in tier.list_sessions(NOW, 10)] == [session_key(2)]
    assert [tier.find_session(session_key(number), NOW) for number in (1, 4)] == [None, None]


def test_sessions_are_listed_as_they_expire(tier: Tier) -> None:
    expiries = {1: 300, 2: 100, 3: 200, 4: 100, 5: 50}
    tier.save_sessions([session_row(number, NOW + after) for number, after in expiries.items()])

    assert [row.key for row in tier.list_sessions(NOW + 50, 10)] == [session_key(n) for n in (2, 4, 3, 1)]
    assert [row.key for row in tier.list_sessions(NOW, 2)] == [session_key(n) for n in (5, 2)]
    assert tier.list_sessions(NOW, 0) == []
    assert tier.list_sessions(NOW, -5) == []


def test_a_thousand_sessions_go_in_one_batch(tier: Tier) -> None:
    rows = [session_row(number, NOW + 1000 + number) for number in range(MAX_PAGE + 5)]

    tier.save_sessions(rows)

    assert tier.list_sessions(NOW, 2 * MAX_PAGE) == rows[:MAX_PAGE]
    tier.save_sessions([session_end(number) for number in range(MAX_PAGE + 5)])
    assert tier.list_sessions(NOW, 10) == []


# --- which of two facts is newer ---


def test_every_order_of_the_facts_of_two_workers_leaves_the_same_rows(tier: Tier) -> None:
    for number, facts in enumerate(FACTS):
        first = 1000 * number
        orders = in_every_order(facts, first)
        for step in zip(*orders, strict=True):
            tier.save_sessions(step)  # one fact of each order: all orders of a set in as many calls as it has facts

        right = [right_row(facts, first + place) for place in range(len(orders))]
        assert [tier.find_session(order[0].key, NOW) for order in orders] == right
    listed = tier.list_sessions(NOW, MAX_PAGE)
    assert sorted(listed, key=lambda row: row.key) == [row for row in all_right_rows() if row is not None]


def test_every_order_in_one_batch_leaves_the_same_rows(tier: Tier) -> None:
    tier.save_sessions(
        [fact for n, facts in enumerate(FACTS) for order in in_every_order(facts, 1000 * n) for fact in order]
    )

    listed = tier.list_sessions(NOW, MAX_PAGE)

    assert sorted(listed, key=lambda row: row.key) == [row for row in all_right_rows() if row is not None]


def test_two_uploads_under_one_key_within_a_second_are_told_apart(tier: Tier) -> None:
    second = session_row(1, NOW + 500, offset=1, path="the/second", later=1)
    tier.save_sessions([session_row(1, NOW + 1000, offset=900)])
    tier.save_sessions([second])

    tier.save_sessions([session_end(1), session_row(1, NOW + 2000, offset=1000)])

    assert tier.find_session(session_key(1), NOW) == second
    assert tier.list_sessions(NOW, 10) == [second]


def test_a_row_is_replaced_as_a_whole_or_not_at_all(tier: Tier) -> None:
    first = session_row(1, NOW + 1000, offset=900, path="the/first")
    second = replace(session_row(1, NOW + 500, path="the/second", later=1), total=7, content_type="", face="draft")
    tier.save_sessions([first])

    tier.save_sessions([second])
    tier.save_sessions([first])

    assert tier.find_session(session_key(1), NOW) == second


def test_at_the_same_offset_the_later_expiry_counts(tier: Tier) -> None:
    tier.save_sessions([session_row(1, NOW + 200, offset=5)])

    tier.save_sessions([session_row(1, NOW + 100, offset=5)])

    assert tier.find_session(session_key(1), NOW) == session_row(1, NOW + 200, offset=5)


def test_an_upload_whose_end_is_known_first_is_never_seen(tier: Tier) -> None:
    tier.save_sessions([session_end(1), session_end(2)])

    tier.save_sessions([session_row(1, offset=1 << 40), session_row(2)])

    assert tier.list_sessions(NOW, 10) == []
    assert tier.find_session(session_key(1), NOW) is None


def test_an_upload_that_begins_under_the_key_of_one_that_is_over_is_seen(tier: Tier) -> None:
    tier.save_sessions([session_row(1, offset=9), session_end(1)])

    tier.save_sessions([session_row(1, later=1)])

    assert tier.list_sessions(NOW, 10) == [session_row(1, later=1)]


# --- leases ---


def test_a_lease_belongs_to_one_holder_until_it_is_over(tier: Tier) -> None:
    assert tier.lease("sweep", "here", 60, NOW)

    assert not tier.lease("sweep", "there", 60, NOW)
    assert tier.lease("other", "there", 60, NOW)
    assert tier.lease("sweep", "here", 60, NOW)


def test_a_lease_that_was_given_back_is_free(tier: Tier) -> None:
    tier.lease("sweep", "here", 60, NOW)
    tier.lease("sweep", "here", 0, NOW)

    assert tier.lease("sweep", "there", 60, NOW)
    assert not tier.lease("sweep", "here", 60, NOW)


def test_who_does_not_hold_a_lease_cannot_give_it_back(tier: Tier) -> None:
    tier.lease("sweep", "here", 60, NOW)
    tier.lease("sweep", "there", 0, NOW)

    assert not tier.lease("sweep", "there", 60, NOW)


def test_a_lease_whose_time_is_over_may_be_taken(tier: Tier) -> None:
    if tier.name == "redis":  # it has a clock of its own
        tier.lease("sweep", "here", 1, NOW)
        until(lambda: tier.lease("sweep", "there", 60, NOW), "the lease is over")
        return
    tier.lease("sweep", "here", 60, NOW)

    assert not tier.lease("sweep", "there", 60, NOW + 59)
    assert tier.lease("sweep", "there", 60, NOW + 60)
    assert not tier.lease("sweep", "here", 60, NOW + 60)


def test_of_many_that_ask_at_once_one_gets_the_lease(make: Callable[[], Tier]) -> None:
    make().ping()
    start = threading.Barrier(8)

    def ask(number: int) -> list[bool]:
        tier = make()
        start.wait()
        got = [tier.lease(f"round-{turn}", f"holder-{number}", 60, NOW) for turn in range(10)]
        tier.close()
        return got

    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(ask, range(8)))

    assert [sum(answer[turn] for answer in answers) for turn in range(10)] == [1] * 10


# --- what is over ---


def test_expired_sessions_are_purged_and_the_others_stay(tier: Tier) -> None:
    tier.save_sessions([session_row(1, NOW + 100), session_row(2, NOW + 300)])

    tier.purge(NOW + 200)

    assert tier.list_sessions(NOW + 200, 10) == [session_row(2, NOW + 300)]
    assert len(tier.list_sessions(NOW, 10)) == (2 if tier.name == "redis" else 1)  # Redis waits for its own clock


# --- several at once ---


def test_several_writers_of_the_same_rows_leave_one_of_theirs(make: Callable[[], Tier]) -> None:
    paths = [f"shared/{number}" for number in range(40)]
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        tier = make()
        mine = paths if writer % 2 else paths[::-1]
        start.wait()
        for turn in range(5):
            tier.record_files([file_row(path, writer, stored_us=turn) for path in mine])
            tier.record_files([file_row(mine[turn], writer, stored_us=turn)])
        tier.close()

    make().ping()
    with ThreadPoolExecutor(4) as executor:
        for done in [executor.submit(write, writer) for writer in range(4)]:
            done.result()

    reader = make()
    found = [reader.find_file(path) for path in paths]
    assert all(row is not None and row.size in range(4) for row in found)
    reader.close()


def test_several_writers_of_facts_in_different_orders_agree(make: Callable[[], Tier]) -> None:
    orders = list(itertools.permutations(LONGEST))
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        tier = make()
        start.wait()
        for fact in orders[writer * 31]:
            rows = [row_of(fact, number) for number in range(40)]
            tier.save_sessions(rows if writer % 2 else rows[::-1])
        tier.close()

    reader = make()
    reader.ping()
    with ThreadPoolExecutor(4) as executor:
        for done in [executor.submit(write, writer) for writer in range(4)]:
            done.result()

    assert reader.list_sessions(NOW, 100) == [right_row(LONGEST, number) for number in range(40)]
    reader.close()


def test_what_one_process_writes_another_reads(make: Callable[[], Tier]) -> None:
    writer, reader = make(), make()

    writer.record_files([file_row("a", 1)])
    writer.save_sessions([session_row(1)])

    assert reader.find_file("a") == file_row("a", 1)
    assert reader.find_session(session_key(1), NOW) == session_row(1)
    writer.close()
    reader.close()


def test_a_closed_tier_may_be_used_again(tier: Tier) -> None:
    tier.record_files([file_row("a")])
    tier.close()

    tier.close()

    assert tier.find_file("a") == file_row("a") or tier.name == "redis"


# --- Redis, whose catalogue is a cache ---


def test_a_cache_has_no_list_of_files(redis_server: object, request: pytest.FixtureRequest) -> None:
    tier = tier_maker("redis", request)()
    tier.record_files([file_row("a")])

    with pytest.raises(StateUnavailable):
        tier.list_files("", 10)
    tier.close()
