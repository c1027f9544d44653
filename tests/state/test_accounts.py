"""How many bytes uploaders have: what every tier promises, on the real servers, and through a failover."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from hmacfs.errors import StateUnavailable
from hmacfs.state.base import MOST_RESERVATIONS, Accounts, Grant, Kind, Reservation, Tier
from hmacfs.state.failover import SharedState
from hmacfs.state.memory import MemoryTier
from hmacfs.state.sql import SqlTier
from tests.state.tiers import NAMES, NOW, embedded_tier, file_row, postgres_tier, redis_tier, tier_maker
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer

Make = Callable[[], Tier]
AnyTier = TypeVar("AnyTier", bound=Accounts)
ALICE, BOB = "a" * 64, "b" * 64
LATER = NOW + 900


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest) -> Make:
    return tier_maker(request.param, request)


@pytest.fixture
def tier(make: Make) -> Iterator[Tier]:
    made = make()
    made.ping()
    yield made
    made.close()


def wish(number: int, size: int, *, account: str = ALICE, owner: str = "", expires_at: int = NOW + 100) -> Reservation:
    return Reservation(account, f"{number:064x}", size, owner or f"owner{number}", expires_at)


def asked(tier: Accounts, number: int, size: int, quota: int = 100, now: int = NOW, **more: object) -> Grant:
    return tier.reserve(wish(number, size, **more), quota, now)  # type: ignore[arg-type]


def counted(tier: AnyTier, stored: int = 0, account: str = ALICE) -> AnyTier:
    assert tier.count(account, stored, tier.begin_count(account, NOW), NOW, LATER)
    return tier


def test_nothing_is_granted_before_it_was_counted(tier: Tier) -> None:
    assert asked(tier, 1, 10) is Grant.UNCOUNTED
    assert tier.used(ALICE, NOW) is None
    assert asked(counted(tier), 1, 10) is Grant.GRANTED


def test_what_is_stored_and_reserved_must_fit_together(tier: Tier) -> None:
    counted(tier, 50)

    said = [asked(tier, number, size) for number, size in enumerate((30, 21, 20, 1, 0))]

    assert said == [Grant.GRANTED, Grant.FULL, Grant.GRANTED, Grant.FULL, Grant.GRANTED]
    assert tier.used(ALICE, NOW) == 100


def test_an_account_over_its_quota_gets_nothing_not_even_an_empty_file(tier: Tier) -> None:
    counted(tier, 101)

    assert asked(tier, 1, 0) is Grant.FULL


def test_accounts_do_not_share_a_quota(tier: Tier) -> None:
    counted(counted(tier, 100), 0, BOB)

    assert asked(tier, 1, 100, account=BOB) is Grant.GRANTED
    assert [tier.used(account, NOW) for account in (ALICE, BOB)] == [100, 100]


def test_the_same_upload_is_reserved_once(tier: Tier) -> None:
    counted(tier)

    said = [asked(tier, 1, 60, owner=owner) for owner in ("first", "second", "third")]

    assert said == [Grant.GRANTED] * 3
    assert tier.used(ALICE, NOW) == 60


def test_the_later_of_two_expiries_counts(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60, expires_at=NOW + 500)
    asked(tier, 1, 60, expires_at=NOW + 50)

    assert tier.used(ALICE, NOW + 499) == 60
    assert tier.used(ALICE, NOW + 500) == 0


def test_an_expired_reservation_counts_for_nothing(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60, expires_at=NOW + 50)

    assert asked(tier, 2, 60, now=NOW + 49) is Grant.FULL
    assert asked(tier, 2, 60, now=NOW + 50) is Grant.GRANTED
    assert tier.used(ALICE, NOW + 50) == 60


def test_what_is_given_back_may_be_reserved_again(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60)
    asked(tier, 2, 40)

    tier.give_back([wish(1, 60), wish(3, 7)])

    assert tier.used(ALICE, NOW) == 40
    assert asked(tier, 4, 60) is Grant.GRANTED


def test_nobody_gives_back_what_another_has_taken_over(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60, owner="first")
    asked(tier, 1, 60, owner="second")

    tier.give_back([wish(1, 60, owner="first")])
    assert tier.used(ALICE, NOW) == 60
    tier.give_back([wish(1, 60, owner="second")])
    assert tier.used(ALICE, NOW) == 0


def test_an_empty_owner_gives_back_whosever_it_is(tier: Tier) -> None:
    counted(tier)
    for number in (1, 2):
        asked(tier, number, 30)

    tier.give_back([replace(wish(1, 30), owner=""), wish(2, 30, owner="nobody")])

    assert tier.used(ALICE, NOW) == 30


@pytest.mark.parametrize("giving", ["second", ""])
@pytest.mark.parametrize("steps", [["run:first", "second"], ["run:first", "run:between", "second"]])
def test_what_was_taken_over_from_somebody_at_work_stays_for_as_long_as_a_renewal_may_take(
    tier: Tier, steps: list[str], giving: str
) -> None:
    counted(tier)
    for owner in steps:
        asked(tier, 1, 60, owner=owner, expires_at=NOW + 300)

    given = replace(wish(1, 60), owner=giving, expires_at=NOW + 120)
    tier.give_back([given])
    tier.give_back([replace(given, expires_at=NOW + 200)])

    assert [tier.used(ALICE, NOW + after) for after in (0, 119, 120)] == [60, 60, 0]
    tier.renew([wish(1, 60, owner="run:first", expires_at=NOW + 400)], NOW + 100)
    assert tier.used(ALICE, NOW + 399) == 60
    tier.settle([wish(1, 60)])
    assert tier.used(ALICE, NOW + 500) == 60


def test_what_somebody_at_work_holds_is_given_back_whosever_it_is_for_as_long_as_a_renewal_may_take(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60, owner="first", expires_at=NOW + 300)
    asked(tier, 1, 60, owner="run:second", expires_at=NOW + 300)

    given = replace(wish(1, 60), owner="", expires_at=NOW + 120)
    tier.give_back([given])
    tier.give_back([replace(given, expires_at=NOW + 200)])

    assert [tier.used(ALICE, NOW + after) for after in (0, 119, 120)] == [60, 60, 0]
    tier.renew([wish(1, 60, owner="run:second", expires_at=NOW + 400)], NOW + 100)
    assert tier.used(ALICE, NOW + 399) == 60
    tier.give_back([wish(1, 60, owner="run:second")])
    assert tier.used(ALICE, NOW) == 0


def test_what_was_taken_over_from_somebody_whose_time_was_over_is_given_back_at_once(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60, owner="run:first", expires_at=NOW + 10)
    asked(tier, 1, 60, owner="second", now=NOW + 10)

    tier.give_back([wish(1, 60, owner="second")])

    assert tier.used(ALICE, NOW + 10) == 0


def test_what_is_settled_counts_as_stored_once(tier: Tier) -> None:
    counted(tier, 10)
    asked(tier, 1, 60)
    asked(tier, 2, 20)

    tier.settle([wish(1, 60, owner="whoever")])
    tier.settle([wish(1, 60), wish(3, 7)])

    assert tier.used(ALICE, NOW) == 90
    assert tier.used(ALICE, NOW + 100) == 70  # the other has expired, and what is stored stays
    assert asked(tier, 4, 31, now=NOW + 100) is Grant.FULL


def test_settling_for_several_accounts_at_once_counts_for_each(tier: Tier) -> None:
    counted(counted(tier), 0, BOB)
    wishes = [wish(number, number, account=(ALICE, BOB)[number % 2]) for number in range(1, 9)]
    for each in wishes:
        tier.reserve(each, 100, NOW)

    tier.settle(wishes)

    assert [tier.used(account, NOW + 100) for account in (ALICE, BOB)] == [2 + 4 + 6 + 8, 1 + 3 + 5 + 7]


def test_a_reservation_may_be_renewed_and_one_that_was_lost_comes_back(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60, owner="second")

    tier.renew([wish(1, 60, owner="first", expires_at=NOW + 300), wish(2, 20, expires_at=NOW + 200)], NOW)
    tier.renew([wish(1, 60, expires_at=NOW + 250)], NOW)

    assert [tier.used(ALICE, NOW + after) for after in (0, 199, 200, 299, 300)] == [80, 80, 60, 60, 0]
    tier.give_back([wish(1, 60, owner="first")])
    assert tier.used(ALICE, NOW) == 80


def test_a_count_holds_for_its_time(tier: Tier) -> None:
    counted(tier, 10)

    assert tier.used(ALICE, LATER - 1) == 10
    assert tier.used(ALICE, LATER) is None
    assert asked(tier, 1, 10, now=LATER, expires_at=LATER + 10) is Grant.UNCOUNTED


def test_a_new_count_replaces_the_old_one_and_reservations_stay(tier: Tier) -> None:
    counted(tier, 90)
    asked(tier, 1, 10)

    counted(tier, 20)

    assert tier.used(ALICE, NOW) == 30


def test_forgotten_counts_are_made_anew_and_reservations_stay(tier: Tier) -> None:
    counted(counted(tier, 50), 7, BOB)
    asked(tier, 1, 10)

    tier.forget_counts()

    assert [tier.used(account, NOW) for account in (ALICE, BOB)] == [None, None]
    assert asked(tier, 2, 10) is Grant.UNCOUNTED
    assert counted(tier, 20).used(ALICE, NOW) == 30


@pytest.mark.parametrize("was_counted", [True, False])
def test_a_count_during_which_something_was_settled_is_not_taken(tier: Tier, was_counted: bool) -> None:
    counted(tier)
    asked(tier, 1, 60)
    if not was_counted:
        tier.forget_counts()
    mark = tier.begin_count(ALICE, NOW)
    tier.settle([wish(1, 60)])

    assert not tier.count(ALICE, 0, mark, NOW, LATER)  # the catalogue was asked before the file was in it
    assert tier.used(ALICE, NOW) == (60 if was_counted else None)
    assert tier.count(ALICE, 60, tier.begin_count(ALICE, NOW), NOW, LATER)
    assert tier.used(ALICE, NOW) == 60


def test_settling_without_a_count_only_ends_the_reservation(tier: Tier) -> None:
    counted(tier)
    asked(tier, 1, 60)
    tier.forget_counts()

    tier.settle([wish(1, 60)])

    assert tier.used(ALICE, NOW) is None
    assert counted(tier, 60).used(ALICE, NOW) == 60


def test_nothing_to_renew_settle_or_give_back_is_no_error(tier: Tier) -> None:
    tier.renew([], NOW)
    tier.settle([])
    tier.give_back([])
    tier.give_back([wish(1, 1)])


def test_terabytes_are_counted_to_the_byte(tier: Tier) -> None:
    counted(tier, (1 << 50) + 1)
    asked(tier, 1, (1 << 50) + 2, quota=1 << 52)

    tier.settle([wish(1, 1)])

    assert tier.used(ALICE, NOW) == (1 << 51) + 3


def test_reservations_of_an_account_are_bounded(tier: Tier) -> None:
    counted(tier)
    tier.renew([wish(number, 0) for number in range(MOST_RESERVATIONS)], NOW)

    assert asked(tier, MOST_RESERVATIONS, 0) is Grant.FULL
    assert asked(tier, 1, 1) is Grant.GRANTED


@pytest.mark.parametrize("repeats", [3])
def test_of_eight_who_ask_at_once_no_more_are_granted_than_fit(make: Make, repeats: int) -> None:
    reader = make()
    reader.ping()
    for turn in range(repeats):
        start = threading.Barrier(8)
        counted(reader, 20)

        def ask(asker: int, turn: int = turn, start: threading.Barrier = start) -> int:
            tier = make()
            tier.used(ALICE, NOW)  # connected before the race
            start.wait()
            mine = [turn * 1000 + asker * 10 + number for number in range(5)]
            granted = [number for number in mine if asked(tier, number, 7) is Grant.GRANTED]
            tier.close()
            return len(granted)

        with ThreadPoolExecutor(8) as executor:
            number = sum(executor.map(ask, range(8)))

        assert number == (100 - 20) // 7
        assert reader.used(ALICE, NOW) == 20 + 7 * number
        reader.give_back([wish(turn * 1000 + each, 7) for each in range(100)])
    reader.close()


def test_racing_requests_that_end_in_every_way_leave_what_was_settled(make: Make) -> None:
    counted(make())
    start = threading.Barrier(8)

    def work(worker: int) -> int:
        tier = make()
        tier.used(ALICE, NOW)
        start.wait()
        settled = 0
        for turn in range(12):
            mine = wish(worker * 100 + turn, 10)
            if tier.reserve(mine, 60, NOW) is Grant.GRANTED:
                used = tier.used(ALICE, NOW)
                assert used is not None
                assert used <= 60
                if turn == 3 * worker and settled == 0:
                    tier.settle([mine])
                    settled = 10
                else:
                    tier.give_back([mine])
        tier.close()
        return settled

    with ThreadPoolExecutor(8) as executor:
        stored = sum(executor.map(work, range(8)))

    reader = make()
    assert reader.used(ALICE, NOW) == stored
    reader.close()


# --- against a model ---

_numbers = itertools.count()
STEP = st.tuples(
    st.sampled_from(["reserve", "renew", "settle", "give back", "count", "forget"]),
    st.integers(0, 3),
    st.integers(0, 60),
    st.sampled_from(["x", "run:y", "run:z"]),
    st.integers(0, 4),
)


class Model(MemoryTier):
    def lives(self, mine: Reservation, now: int) -> bool:
        known = self._reservations.get(mine.key)
        return known is not None and known.expires_at > now


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=25))
def test_every_tier_answers_as_memory_does(tier: Tier, steps: list[tuple[str, int, int, str, int]]) -> None:
    account = f"{next(_numbers):064x}"
    model = Model()
    tier.forget_counts()  # those of earlier examples
    now = NOW
    for verb, number, size, owner, passes in steps:
        mine = Reservation(account, f"{account[-60:]}{number:04}", size, owner, now + 3)
        if verb == "settle" and not model.lives(mine, now):
            continue  # what has expired may have been removed, and then it is settled by the next count
        said = [_done(each, verb, mine, now) for each in (model, tier)]
        assert said[0] == said[1], (verb, mine)
        assert model.used(account, now) == tier.used(account, now)
        now += passes


def _done(tier: Tier, verb: str, mine: Reservation, now: int) -> object:
    match verb:
        case "reserve":
            return tier.reserve(mine, 100, now)
        case "renew":
            return tier.renew([mine], now)  # type: ignore[func-returns-value]
        case "settle":
            return tier.settle([mine])  # type: ignore[func-returns-value]
        case "give back":
            return tier.give_back([mine])  # type: ignore[func-returns-value]
        case "count":
            return tier.count(mine.account, mine.size, tier.begin_count(mine.account, now), now, now + 5)
    return tier.forget_counts()  # type: ignore[func-returns-value]


# --- what the catalogue says ---


@pytest.mark.parametrize("name", [name for name in NAMES if name != "redis"])
def test_the_catalogue_knows_the_bytes_of_an_uploader(name: str, request: pytest.FixtureRequest) -> None:
    tier = tier_maker(name, request)()
    long = "\U0001f600" * 1000
    rows = [file_row(f"a/{size}", size, uploader=uploader) for size, uploader in ((1, "romeo"), (2, "romeo"), (4, ""))]
    tier.record_files([*rows, file_row("b", 1 << 61, uploader=long), file_row("c", 1 << 61, uploader=long)])

    assert [tier.stored_bytes(uploader) for uploader in ("romeo", "Romeo", "romeo ", long)] == [3, 0, 0, 1 << 62]
    tier.forget_files(["a/1"])
    assert tier.stored_bytes("romeo") == 2
    tier.close()


def test_a_cache_does_not_know_the_bytes_of_an_uploader(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)

    with pytest.raises(StateUnavailable):
        tier.stored_bytes("romeo")
    tier.close()


@pytest.mark.parametrize("name", ["embedded", "postgres", "mysql"])
def test_a_catalogue_from_before_quotas_gets_its_index(name: str, request: pytest.FixtureRequest) -> None:
    make = tier_maker(name, request)
    tier = make()
    assert isinstance(tier, SqlTier)
    tier.ping()
    on = " ON hmacfs_files" if name == "mysql" else ""
    for statement in (f"DROP INDEX hmacfs_files_uploader{on}", "DROP TABLE hmacfs_counts"):
        tier.run(lambda connection, statement=statement: connection.execute(text(statement)))  # type: ignore[misc]

    tier.ping()

    indexes = tier.run(lambda connection: inspect(connection).get_indexes("hmacfs_files"))
    assert "hmacfs_files_uploader" in [index["name"] for index in indexes]
    assert counted(tier).used(ALICE, NOW) == 0
    tier.close()


def test_what_is_over_is_removed_when_an_account_is_counted(tmp_path: Path) -> None:
    tier = embedded_tier(tmp_path)
    counted(counted(tier), 0, BOB)
    asked(tier, 1, 10, expires_at=NOW + 5)
    asked(tier, 2, 10, expires_at=NOW + 10**6)

    tier.count(ALICE, 0, 0, NOW + 10**5, NOW + 10**6)

    for table, left in (("hmacfs_reservations", 1), ("hmacfs_counts", 1)):
        query = text(f"SELECT count(*) FROM {table}")
        assert tier.run(lambda connection, query=query: connection.execute(query).scalar()) == left  # type: ignore[misc]
    tier.close()


def test_redis_keeps_nothing_of_an_account_for_ever(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    counted(tier)
    asked(tier, 1, 10, expires_at=NOW + 5000)
    tier.renew([wish(2, 10, account=BOB, expires_at=NOW + 600)], NOW)
    client = tier._client()

    lives = [client.ttl(f"{tier._account}{account}") for account in (ALICE, BOB)]

    assert 4900 < lives[0] <= 5000
    assert 500 < lives[1] <= 600
    assert client.ttl(tier._counted) > 0
    tier.close()


# --- through a failover ---


@pytest.fixture
def state(tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer) -> Iterator[SharedState]:
    made = SharedState(
        embedded_tier(tmp_path),
        str(tmp_path / "state.lock"),
        server=postgres_tier(postgres),
        cache=redis_tier(redis_server),
    )
    made.probe()
    yield made
    made.stop()


def test_the_next_tier_must_count_for_itself_when_redis_dies(state: SharedState, redis_server: RedisServer) -> None:
    counted(state, 50)
    assert asked(state, 1, 50) is Grant.GRANTED

    redis_server.kill()

    assert asked(state, 2, 10) is Grant.UNCOUNTED
    state.renew([wish(1, 50)], NOW)
    counted(state, 50)
    assert asked(state, 2, 10) is Grant.FULL


def test_counts_from_before_an_outage_hold_nowhere_after_it(state: SharedState, redis_server: RedisServer) -> None:
    counted(state, 50)
    redis_server.pause()
    counted(state, 60)
    redis_server.resume()

    state.probe()

    assert state.serving().sessions == "redis"
    assert state.used(ALICE, NOW) is None
    assert state._chains[Kind.SESSIONS][1].tier.used(ALICE, NOW) is None


def test_only_the_highest_catalogue_says_what_is_stored(state: SharedState, postgres: PostgresServer) -> None:
    state.record_files([file_row("a", 7, uploader="romeo")])
    assert state.stored_bytes("romeo") == 7

    postgres.kill()

    with pytest.raises(StateUnavailable):
        state.stored_bytes("romeo")
    with pytest.raises(StateUnavailable):  # the embedded tier serves now, and does not know all
        state.stored_bytes("romeo")


def test_a_wish_is_refused_as_unavailable_when_no_tier_answers(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    state = SharedState(embedded_tier(tmp_path), str(tmp_path / "state.lock"))

    for verb in (lambda: state.reserve(wish(1, 1), 100, NOW), lambda: state.used(ALICE, NOW)):
        with pytest.raises(StateUnavailable):
            verb()
    state.stop()


def test_a_replaced_wish_has_the_new_size(tier: Tier) -> None:
    counted(tier)
    first = wish(1, 60)
    tier.reserve(first, 100, NOW)

    tier.reserve(replace(first, size=30), 100, NOW)

    assert tier.used(ALICE, NOW) == 30
