"""Facts of uploads that are told before, during and after an outage, in any order, by workers that notice it at
different times: what is right is found in the end."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hmacfs.state.base import END_SECONDS, Kind, SessionRow, Tier
from hmacfs.state.failover import SharedState
from tests.state.facts import FACTS, right_row, row_of
from tests.state.tiers import (
    NOW,
    embedded_tier,
    mariadb_tier,
    postgres_tier,
    redis_tier,
    session_end,
    session_key,
    session_row,
)
from tests.support.polling import until
from tests.support.postgres import PostgresServer
from tests.support.servers import StateServer

Make = Callable[[], SharedState]

TIERS = {
    "redis": ("redis_server", "cache", redis_tier),
    "postgres": ("postgres", "server", postgres_tier),
    "mariadb": ("mariadb", "server", mariadb_tier),
}


@pytest.fixture(params=TIERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> StateServer:
    found: StateServer = request.getfixturevalue(TIERS[kind][0])
    return found


@pytest.fixture
def make(kind: str, server: StateServer, tmp_path: Path) -> Iterator[Make]:
    """States as several workers of one server have them: they share StateDir."""
    made: list[SharedState] = []
    _, place, tier = TIERS[kind]

    def one() -> SharedState:
        upper = {place: tier(server)}  # type: ignore[operator]
        made.append(SharedState(embedded_tier(tmp_path), str(tmp_path / "handover.lock"), **upper))
        made[-1].probe()
        return made[-1]

    yield one
    for state in made:
        state.stop()


@pytest.fixture
def tier(kind: str, server: StateServer) -> Iterator[Tier]:
    """What everybody finds in the end; and the way by which another host tells it something."""
    made: Tier = TIERS[kind][2](server)  # type: ignore[operator]
    yield made
    made.close()


Phases = tuple[list[SessionRow], list[SessionRow], list[SessionRow]]


def in_phases(facts: list[object], first: int) -> list[Phases]:
    """Every order of the facts, parted in every way in what is told before, during and after an outage; each under a
    key of its own, counted from ``first``."""
    cuts = list(itertools.combinations_with_replacement(range(len(facts) + 1), 2))
    found = []
    for number, (order, (begun, over)) in enumerate(itertools.product(itertools.permutations(facts), cuts), first):
        rows = [row_of(fact, number) for fact in order]  # type: ignore[arg-type]
        found.append((rows[:begun], rows[begun:over], rows[over:]))
    return found


def tell(workers: Sequence[SharedState], orders: Sequence[list[SessionRow]]) -> None:
    """The first fact of every key, then the second of every key, and so on; by turns."""
    for step, rows in enumerate(itertools.zip_longest(*orders)):
        if known := [row for row in rows if row is not None]:
            workers[step % len(workers)].save_sessions(known)


def bring_back(state: SharedState) -> None:
    until(lambda: state.probe() or not state.serving().down, "all tiers serve")


def leave(state: SharedState, server: StateServer) -> None:
    """The server hangs and ``state`` knows it: what finds it hung may be carried out when it goes on."""
    server.pause()
    state.probe()
    assert state.serving().down


def test_in_every_order_around_an_outage_what_is_right_is_found_in_the_end(
    make: Make, server: StateServer, tier: Tier
) -> None:
    sets = [facts for facts in FACTS if len(facts) < 5]
    phases = [in_phases(list(facts), 1000 * number) for number, facts in enumerate(sets)]
    before, during, after = zip(*itertools.chain(*phases), strict=True)
    workers = [make(), make()]

    tell(workers, before)
    server.pause()
    tell(workers, during)
    server.resume()
    bring_back(workers[0])
    tell(workers, after)  # the second worker has not noticed yet, and writes below
    is_late = bool(workers[1].serving().down)
    for worker in workers:
        bring_back(worker)

    assert is_late
    for number, facts in enumerate(sets):
        keys = range(1000 * number, 1000 * number + len(phases[number]))
        assert [tier.find_session(session_key(key), NOW) for key in keys] == [right_row(facts, key) for key in keys]


def test_an_upload_that_ended_early_in_a_long_outage_is_not_unfinished_after_it(
    make: Make, server: StateServer, tier: Tier
) -> None:
    state = make()
    embedded = state._embedded.tier
    state.save_sessions([session_row(1, offset=5), session_row(2, offset=5)])
    leave(state, server)
    state.save_sessions([session_end(1)])
    embedded._clock = lambda: NOW + END_SECONDS + 1.0
    embedded._purge_at = 0
    state.save_sessions([session_row(3)])
    remembered = [row.key for row in embedded.held(Kind.SESSIONS, 10).rows]  # type: ignore[union-attr]
    server.resume()

    bring_back(state)

    assert remembered == [session_key(3)]
    assert sorted(row.key for row in tier.list_sessions(NOW, 10)) == [session_key(2), session_key(3)]
    assert state._outdated.page(tier.name, Kind.SESSIONS) == []


def test_the_end_of_an_upload_leaves_one_that_another_host_began_after_it(
    make: Make, server: StateServer, tier: Tier
) -> None:
    state = make()
    later = session_row(1, offset=2, later=1)
    state.save_sessions([session_row(1, offset=5)])
    leave(state, server)
    state.save_sessions([session_end(1)])
    server.resume()
    tier.save_sessions([later])

    bring_back(state)

    assert tier.list_sessions(NOW, 10) == [later]


def test_of_two_ends_in_one_outage_the_later_one_is_in_the_book(make: Make, server: StateServer, tier: Tier) -> None:
    state = make()
    state.save_sessions([session_row(1, offset=5, later=1)])
    leave(state, server)
    state.save_sessions([session_end(1, later=1)])
    state.save_sessions([session_end(1)])
    state._embedded.tier.run(lambda connection: connection.exec_driver_sql("DELETE FROM hmacfs_sessions"))
    server.resume()

    bring_back(state)

    assert tier.list_sessions(NOW, 10) == []


def test_a_living_upload_is_not_taken_for_over_by_a_database_that_comes_back_under_redis(
    request: pytest.FixtureRequest, postgres: PostgresServer, tmp_path: Path
) -> None:
    redis = redis_tier(request.getfixturevalue("redis_server"))
    below = postgres_tier(postgres)
    below.save_sessions([session_row(1, offset=1)])
    postgres.pause()
    state = SharedState(embedded_tier(tmp_path), str(tmp_path / "handover.lock"), server=below, cache=redis)
    state.save_sessions([session_row(1, offset=7)])
    postgres.resume()

    bring_back(state)

    assert redis.list_sessions(NOW, 10) == [session_row(1, offset=7)]
    assert below.held(Kind.SESSIONS, 10).rows == []
    state.stop()
