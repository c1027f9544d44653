"""Bans in every tier, on the real servers: counted, kept, lifted, read, and of which secret."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from hmacfs.core import bans
from hmacfs.core.bans import DAY, FOREVER, Ban
from hmacfs.state import schema
from hmacfs.state.base import BanStore, Tier
from hmacfs.state.sql import SqlTier
from hmacfs.state.sqlbans import SqlBans
from tests.state.tiers import NAMES, tier_maker

NOW = int(time.time())
ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest) -> Callable[[], Tier]:
    return tier_maker(request.param, request)


@pytest.fixture
def tier(make: Callable[[], Tier]) -> Iterator[Tier]:
    made = make()
    made.ping()
    yield made
    made.close()


@pytest.fixture
def store(tier: Tier) -> BanStore:
    return tier.bans


def ban(address: str, since: int = NOW, seconds: int = 300, times: int = 1) -> Ban:
    return Ban(address, since, since + seconds, times)


def kept(store: BanStore) -> dict[str, Ban]:
    found = store.read("").bans
    assert found is not None
    return {row.address: row for row in found}


def test_failures_of_an_address_add_up(store: BanStore) -> None:
    assert store.count({"a": 2, "b": 1}, NOW) == {"a": 2, "b": 1}
    assert store.count({"a": 1, "c": 4}, NOW + 60) == {"a": 3, "c": 4}
    assert store.count({}, NOW) == {}


def test_failures_count_for_ten_minutes(store: BanStore) -> None:
    start = NOW // 10 * 10

    found = [store.count({"a": 1}, start + after)["a"] for after in (0, 300, 599, 600, 901)]

    assert found == [1, 2, 3, 3, 3]


def test_a_thousand_addresses_are_counted_at_once(store: BanStore) -> None:
    fails = {f"10.0.{number // 250}.{number % 250}": number for number in range(1, 1001)}

    store.count(fails, NOW)

    assert store.count(fails, NOW + 1) == {address: 2 * count for address, count in fails.items()}


def test_a_saved_ban_is_read_with_all_it_says(store: BanStore) -> None:
    rows = [ban("192.0.2.1"), ban("2001:db8:1:2::/64", times=7), Ban("192.0.2.2", NOW, FOREVER, 2)]

    store.save(rows)

    assert kept(store) == {row.address: row for row in rows}


def test_a_newer_ban_replaces_an_older_one_and_no_other_way(store: BanStore) -> None:
    old, new, longer = ban("a"), ban("a", NOW + 5, times=2), ban("a", NOW + 5, 900, 2)

    found = []
    for row in (old, new, old, longer, new):
        store.save([row])
        found.append(kept(store)["a"])

    assert found == [old, new, new, longer, longer]


def test_a_ban_is_new_to_one_of_those_who_save_it(store: BanStore) -> None:
    first, same = store.save([ban("a"), ban("b")]), store.save([ban("a"), ban("b"), ban("c")])
    earlier, later = store.save([ban("a", NOW - 2)]), store.save([ban("a", NOW + 299)])

    assert (first, same, earlier, later) == ({"a", "b"}, {"c"}, set(), set())


def test_a_ban_behind_the_end_of_another_is_new(store: BanStore) -> None:
    lift = bans.lifted(ban("lifted"), NOW)
    store.save([ban("ended"), ban("lifted")])

    ended, lifted = store.save([ban("ended", NOW + 300)]), store.save([lift])
    before, behind = store.save([ban("lifted")]), store.save([ban("lifted", lift.since)])

    assert (ended, lifted, before, behind) == ({"ended"}, set(), set(), {"lifted"})


def test_a_ban_takes_the_failures_that_brought_it(store: BanStore) -> None:
    store.count({"a": 9, "b": 9}, NOW)

    store.save([ban("a")])

    assert store.count({"a": 1, "b": 1}, NOW + 300) == {"a": 1, "b": 10}


def test_failures_that_are_told_of_during_a_ban_do_not_count_behind_it(store: BanStore) -> None:
    store.save([ban("a"), ban("ended", NOW - 300)])

    found = store.count({"a": 9, "b": 9, "ended": 9}, NOW)

    assert found == {"a": 0, "b": 9, "ended": 9}
    assert store.count({"a": 1, "b": 1}, NOW + 300) == {"a": 1, "b": 10}


def test_a_lift_replaces_a_ban_whatever_is_written_later_of_it(store: BanStore) -> None:
    old = ban("a")
    lift = bans.lifted(old, NOW)
    store.save([old, ban("b")])

    store.save([lift])
    store.save([old])

    assert kept(store) == {"a": lift, "b": ban("b")}
    assert store.count({"a": 1}, NOW + 2) == {"a": 1}


def test_a_lift_takes_the_failures_of_before(store: BanStore) -> None:
    store.count({"a": 9}, NOW)

    store.save([bans.lifted(ban("a"), NOW)])

    assert store.count({"a": 1}, NOW + 2) == {"a": 1}


def test_a_lift_is_known_for_90_days(store: BanStore) -> None:
    known, forgotten = bans.lifted(ban("a", 0), NOW - 89 * DAY), bans.lifted(ban("b", 0), NOW - 91 * DAY)

    store.save([known, forgotten])
    store.save([ban("c")])

    assert kept(store) == {"a": known, "c": ban("c")}


def test_of_too_many_rows_lifts_go_before_bans(store: BanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "MOST_BANS", 3)
    lifts = [bans.lifted(ban(address, NOW - 60), NOW + place) for place, address in enumerate(("old", "new"))]

    store.save([*lifts, ban("a", seconds=30), ban("b")])

    assert set(kept(store)) == {"new", "a", "b"}


def test_nothing_to_save_is_no_error(store: BanStore) -> None:
    store.save([])

    assert kept(store) == {}


def test_a_book_is_read_again_only_when_it_has_changed(store: BanStore) -> None:
    first = store.read("")

    same = store.read(first.mark)
    store.save([ban("a")])
    saved = store.read(first.mark)
    lift = bans.lifted(ban("a"), NOW)
    store.save([lift])
    lifted = store.read(saved.mark)

    assert (first.bans, same.bans, saved.bans, lifted.bans) == ([], None, [ban("a")], [lift])
    assert {first.book, same.book, saved.book, lifted.book} == {first.book}
    assert len({first.mark, saved.mark, lifted.mark}) == 3


def test_an_ended_ban_is_remembered_for_a_day(store: BanStore) -> None:
    ended, forgotten = ban("a", NOW - DAY, 60), ban("b", NOW - 2 * DAY, 60)

    store.save([ended, forgotten, ban("c")])

    assert "c" in kept(store)
    assert "b" not in kept(store)
    store.save([ban("d", NOW - DAY, 7200)])
    assert "d" in kept(store)


def test_too_many_bans_lose_those_that_end_first(store: BanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "MOST_BANS", 3)

    store.save([ban(str(number), seconds=300 + number) for number in (4, 1, 5, 2, 3)])

    assert set(kept(store)) == {"3", "4", "5"}


def test_another_secret_lifts_all_bans_once(store: BanStore) -> None:
    store.save([ban("a")])

    found = []
    for fingerprint in (ONE, ONE, OTHER, OTHER):
        found.append((store.agree(fingerprint), list(kept(store))))

    assert found == [(False, ["a"]), (False, ["a"]), (True, []), (False, [])]


def test_a_change_of_the_secret_is_a_change_of_the_book(store: BanStore) -> None:
    store.agree(ONE)
    store.save([ban("a")])
    known = store.read("").mark

    store.agree(OTHER)

    assert store.read(known).bans == []


def test_what_one_process_bans_another_reads(make: Callable[[], Tier]) -> None:
    writer, reader = make(), make()

    writer.bans.save([ban("a")])
    writer.bans.count({"b": 3}, NOW)

    assert kept(reader.bans) == {"a": ban("a")}
    assert reader.bans.count({"b": 1}, NOW) == {"b": 4}
    assert reader.bans.read("").book == writer.bans.read("").book
    writer.close()
    reader.close()


def test_failures_counted_at_once_are_all_counted(make: Callable[[], Tier]) -> None:
    make().ping()
    start = threading.Barrier(4)
    found: list[int] = []

    def fail(worker: int) -> None:
        tier = make()
        start.wait()
        for _ in range(10):
            addresses = ["a", "b", "c"] if worker % 2 else ["c", "b", "a"]
            found.append(tier.bans.count(dict.fromkeys(addresses, 1), NOW)["a"])
        tier.close()

    with ThreadPoolExecutor(4) as executor:
        for done in [executor.submit(fail, worker) for worker in range(4)]:
            done.result()

    assert max(found) == 40


def test_of_those_who_save_a_ban_at_once_one_hears_that_it_is_new(make: Callable[[], Tier]) -> None:
    make().ping()
    start = threading.Barrier(4)

    def save(worker: int) -> list[str]:
        tier, new = make(), []
        start.wait()
        for number in range(10):
            rows = [ban(f"{letter}{number}", NOW + worker % 2) for letter in ("abc" if worker % 2 else "cba")]
            new += tier.bans.save(rows)
        tier.close()
        return new

    with ThreadPoolExecutor(4) as executor:
        found = [address for new in executor.map(save, range(4)) for address in new]

    assert sorted(found) == sorted(f"{letter}{number}" for letter in "abc" for number in range(10))


@pytest.mark.parametrize("name", ["embedded", "postgres", "mysql"])
def test_failures_that_count_no_more_are_removed(name: str, request: pytest.FixtureRequest) -> None:
    moment = [float(NOW)]
    tier = tier_maker(name, request)()
    assert isinstance(tier, SqlTier)
    store = SqlBans(tier.run, lambda: moment[0])

    for _ in range(100):
        store.count({"a": 1}, moment[0])
        moment[0] += 10

    left = tier.run(lambda connection: connection.execute(select(func.count()).select_from(schema.fails)).scalar())
    assert left is not None
    assert left <= 65
    tier.close()
