"""Tiers as one on the real servers: killed, silent, restarted empty, refused; and what comes back when they do."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from hmacfs.core.bans import Ban, lifted
from hmacfs.errors import StateUnavailable
from hmacfs.state import engines
from hmacfs.state.addresses import RedisAddress, ServerAddress
from hmacfs.state.base import FileRow, Kind
from hmacfs.state.failover import SharedState
from hmacfs.state.members import Serving
from hmacfs.state.redis import RedisTier
from hmacfs.state.sql import SqlTier
from tests.state.tiers import (
    NOW,
    embedded_tier,
    file_row,
    mariadb_tier,
    postgres_tier,
    redis_tier,
    session_end,
    session_key,
    session_row,
)
from tests.support.polling import until
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer
from tests.support.servers import StateServer

SOON = 2.0
"""Seconds. A tier counts as dead within one; the rest is for a busy machine."""
AT_ONCE = 0.4
"""Seconds for a verb that must not ask a dead tier again."""

Make = Callable[..., SharedState]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """States as several workers of one server have them: they share StateDir."""
    made: list[SharedState] = []

    def one(**tiers: object) -> SharedState:
        state = SharedState(embedded_tier(tmp_path), str(tmp_path / "handover.lock"), **tiers)  # type: ignore[arg-type]
        made.append(state)
        return state

    yield one
    for state in made:
        state.stop()


@pytest.fixture(params=["postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> StateServer:
    server: StateServer = request.getfixturevalue(request.param)
    return server


def sql_tier(server: StateServer) -> SqlTier:
    return postgres_tier(server) if isinstance(server, PostgresServer) else mariadb_tier(server)  # type: ignore[arg-type]


def seconds(deed: Callable[[], object]) -> float:
    begun = time.monotonic()
    deed()
    return time.monotonic() - begun


FAULTS: dict[str, Callable[[StateServer], None]] = {"killed": StateServer.kill, "hung": StateServer.pause}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Callable[[StateServer], None]:
    return FAULTS[request.param]


def revive(server: StateServer) -> None:
    if server.is_running:
        server.resume()
    else:
        server.restart()


# --- who serves ---


def test_without_servers_the_embedded_tier_serves(make: Make) -> None:
    state = make()

    state.record_files([file_row("a")])
    state.save_sessions([session_row(1)])

    assert state.find_file("a") == file_row("a")
    assert state.list_sessions(NOW, 10) == [session_row(1)]
    assert state.serving() == Serving("embedded", "embedded", {})


def test_a_lift_is_written_below_too_and_one_from_an_outage_is_found_there(
    make: Make, redis_server: RedisServer, tmp_path: Path
) -> None:
    now = int(time.time())
    state, below = make(cache=redis_tier(redis_server)), embedded_tier(tmp_path)
    first, second = (lifted(Ban(address, now, now + 300, 1), now) for address in ("192.0.2.1", "192.0.2.2"))

    state.bans.lift([first])
    in_both = (state.bans.read("").bans, below.bans.read("").bans)
    redis_server.kill()
    state.bans.lift([second])
    below_the_lowest = state.bans.lifts_below()
    redis_server.restart()
    until(lambda: state.probe() or state.serving().sessions == "redis", "it serves again")

    assert in_both == ([first], [first])
    assert below_the_lowest == []
    assert sorted(state.bans.lifts_below(), key=lambda row: row.address) == [first, second]
    below.close()


def test_a_lease_is_of_the_highest_tier_and_of_the_next_one_while_that_is_away(
    make: Make, redis_server: RedisServer, tmp_path: Path
) -> None:
    here, there = make(cache=redis_tier(redis_server)), make(cache=redis_tier(redis_server))
    assert here.lease("sweep", "here", 60, NOW)
    assert not there.lease("sweep", "there", 60, NOW)
    assert embedded_tier(tmp_path).lease("sweep", "nobody", 0, NOW)
    redis_server.kill()

    assert here.lease("sweep", "here", 60, NOW)

    assert not there.lease("sweep", "there", 60, NOW)
    assert not embedded_tier(tmp_path).lease("sweep", "nobody", 60, NOW)


def test_without_any_tier_a_lease_is_nobodys(make: Make, tmp_path: Path) -> None:
    state = make()
    (tmp_path / "state.db").mkdir()

    with pytest.raises(StateUnavailable):
        state.lease("sweep", "here", 60, NOW)


def test_every_tier_that_answers_is_purged(make: Make, redis_server: RedisServer, tmp_path: Path) -> None:
    state = make(cache=redis_tier(redis_server))
    below = embedded_tier(tmp_path)
    state.serving()
    state.list_sessions(NOW, 1)
    below.save_sessions([session_row(1, NOW + 100)])

    state.purge(NOW + 200)

    assert below.list_sessions(NOW, 10) == []


def test_the_highest_tier_serves_and_nothing_stays_below(
    make: Make, redis_server: RedisServer, database: StateServer, tmp_path: Path
) -> None:
    server = sql_tier(database)
    state = make(cache=redis_tier(redis_server), server=server)

    state.record_files([file_row("a")])
    state.save_sessions([session_row(1)])

    assert state.serving() == Serving("redis", server.name, {})
    assert server.find_file("a") == file_row("a")
    assert redis_tier(redis_server).find_session(session_key(1), NOW) == session_row(1)
    below = embedded_tier(tmp_path)
    assert (below.held(Kind.FILES, 10).rows, below.held(Kind.SESSIONS, 10).rows) == ([], [])


def test_a_row_that_no_tier_could_keep_is_refused_and_a_long_text_is_cut(make: Make) -> None:
    state = make()

    for path in ("", "a" * 1025, "nul\0"):
        with pytest.raises(ValueError, match="path"):
            state.record_files([file_row(path)])
    state.record_files([file_row("a", uploader="u" * 5000)])

    found = state.find_file("a")
    assert found is not None
    assert found.uploader == "u" * 1024


# --- a dead SQL server ---


def test_a_dead_database_is_left_within_a_second_and_not_asked_again(
    make: Make, database: StateServer, fault: Callable[[StateServer], None]
) -> None:
    state = make(server=sql_tier(database))
    state.record_files([file_row("before")])
    fault(database)

    first = seconds(lambda: state.record_files([file_row("a")]))
    second = seconds(lambda: state.record_files([file_row("b")]))

    assert first < SOON
    assert second < AT_ONCE
    assert state.find_file("a") == file_row("a")
    assert state.serving().catalog == "embedded"
    assert list(state.serving().down) == [sql_tier(database).name]


def test_what_was_taken_and_forgotten_meanwhile_is_handed_back(
    make: Make, database: StateServer, fault: Callable[[StateServer], None], tmp_path: Path
) -> None:
    state = make(server=sql_tier(database))
    state.record_files([file_row(path, 1) for path in ("kept", "changed", "forgotten", "forgotten and new")])
    state.save_sessions([session_row(number) for number in (1, 2)])
    fault(database)
    state.record_files([file_row("changed", 2), file_row("new", 2), file_row("new and forgotten", 2)])
    state.forget_files(["forgotten", "forgotten and new", "new and forgotten"])
    state.record_files([file_row("forgotten and new", 2)])
    state.save_sessions([session_row(3)])
    state.save_sessions([session_end(1)])
    revive(database)

    state.probe()

    assert state.serving() == Serving(*[sql_tier(database).name] * 2, {})
    seen = {row.path: row.size for row in sql_tier(database).list_files("", 10)}
    assert seen == {"kept": 1, "changed": 2, "forgotten and new": 2, "new": 2}
    assert sorted(row.key for row in state.list_sessions(NOW, 10)) == [session_key(2), session_key(3)]
    below = embedded_tier(tmp_path)
    assert (below.held(Kind.FILES, 10).rows, below.held(Kind.SESSIONS, 10).rows) == ([], [])


def test_it_is_handed_back_after_a_restart_of_ours_too(make: Make, database: StateServer) -> None:
    before = make(server=sql_tier(database))
    before.record_files([file_row("forgotten")])
    database.kill()
    before.record_files([file_row(f"many/{number}") for number in range(2500)])
    before.forget_files(["forgotten"])
    before.stop()
    database.restart()

    after = make(server=sql_tier(database))

    assert after.find_file("many/2499") == file_row("many/2499")
    assert after.find_file("forgotten") is None
    assert after.serving().catalog == sql_tier(database).name


def test_rows_from_before_there_was_a_database_are_handed_up(make: Make, postgres: PostgresServer) -> None:
    alone = make()
    alone.record_files([file_row("a")])
    alone.save_sessions([session_row(1)])
    alone.stop()

    state = make(server=postgres_tier(postgres))

    assert state.find_file("a") == file_row("a")
    assert postgres_tier(postgres).find_file("a") == file_row("a")
    assert postgres_tier(postgres).find_session(session_key(1), NOW) == session_row(1)


def test_a_row_that_a_database_does_not_take_ends_neither_its_service_nor_a_handover(
    make: Make, postgres: PostgresServer
) -> None:
    tier = postgres_tier(postgres)
    tier.ping()
    refusal = text("ALTER TABLE hmacfs_files ADD CHECK (path NOT LIKE 'bad%')")
    tier.run(lambda connection: connection.execute(refusal))
    alone = make()
    alone.record_files([file_row("bad/1"), file_row("good/1")])
    alone.stop()

    state = make(server=tier)
    state.record_files([file_row("bad/2"), file_row("good/2")])

    assert [row.path for row in state.list_files("", 10)] == ["good/1", "good/2"]
    assert state.serving() == Serving("postgres", "postgres", {})


def test_rows_handed_up_do_not_come_back_as_ghosts(make: Make, postgres: PostgresServer) -> None:
    state = make(server=postgres_tier(postgres))
    state.probe()
    postgres.kill()
    state.record_files([file_row("a")])
    postgres.restart()
    state.probe()
    state.forget_files(["a"])
    postgres.kill()

    seen_below = state.find_file("a")
    postgres.restart()
    state.probe()

    assert seen_below is None
    assert state.find_file("a") is None
    assert state.list_files("", 10) == []


def test_a_database_that_restarted_empty_gets_its_tables_again(make: Make, database: StateServer) -> None:
    state = make(server=sql_tier(database))
    state.record_files([file_row("a")])
    database.restart(empty=True)

    state.record_files([file_row("b")])
    state.probe()

    assert state.find_file("a") is None
    assert state.find_file("b") == file_row("b")
    assert state.serving().catalog == sql_tier(database).name


def test_a_restarted_database_is_no_reason_to_leave_it(make: Make, database: StateServer) -> None:
    state = make(server=sql_tier(database))
    state.record_files([file_row("a")])
    idle = time.monotonic() + 1.1  # after a second without use a connection is looked at first
    database.restart()
    until(lambda: time.monotonic() > idle, "the connection is idle")

    assert state.find_file("a") == file_row("a")
    assert state.serving().catalog == sql_tier(database).name


def test_a_listener_that_says_nothing_is_a_dead_tier(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ServerAddress("127.0.0.1", listener.getsockname()[1])
        for name, engine in (("postgres", engines.postgres), ("mysql", engines.mysql)):
            state = make(server=SqlTier(name, partial(engine, address, "user", "password", "database")))

            took = seconds(lambda state=state: state.record_files([file_row("a")]))  # type: ignore[misc]

            assert took < SOON
            assert state.serving().down == {name: state.serving().down[name]}
            assert state.serving().catalog == "embedded"


def test_a_wrong_password_is_a_reason_without_the_password(make: Make, postgres: PostgresServer) -> None:
    address = ServerAddress("127.0.0.1", postgres.port)
    state = make(server=SqlTier("postgres", partial(engines.postgres, address, "hmacfs", "s3cret-wrong", "postgres")))

    state.probe()

    assert state.serving().catalog == "embedded"
    assert "s3cret" not in repr(state.serving())


# --- a dead Redis ---


def test_a_dead_redis_is_left_within_a_second_and_not_asked_again(
    make: Make, redis_server: RedisServer, fault: Callable[[StateServer], None]
) -> None:
    state = make(cache=redis_tier(redis_server))
    state.save_sessions([session_row(1)])
    fault(redis_server)

    first = seconds(lambda: state.save_sessions([session_row(2)]))
    second = seconds(lambda: state.save_sessions([session_row(3)]))

    assert first < SOON
    assert second < AT_ONCE
    assert state.find_session(session_key(2), NOW) == session_row(2)
    assert state.serving().sessions == "embedded"


def test_a_redis_whose_clients_are_paused_is_a_dead_one(make: Make, redis_server: RedisServer) -> None:
    state = make(cache=redis_tier(redis_server))
    state.probe()
    with redis_server.client() as client:
        client.client_pause(1500)

        took = seconds(lambda: state.save_sessions([session_row(1)]))

        assert took < SOON
        assert state.serving().sessions == "embedded"
    until(redis_server.answers, "the pause is over")
    state.probe()
    assert state.find_session(session_key(1), NOW) == session_row(1)
    assert state.serving().sessions == "redis"


def test_sessions_are_handed_back_to_redis(
    make: Make, redis_server: RedisServer, fault: Callable[[StateServer], None]
) -> None:
    state = make(cache=redis_tier(redis_server))
    state.save_sessions([session_row(number, offset=1) for number in (1, 2)])
    fault(redis_server)
    state.save_sessions([session_row(2, offset=2), session_row(3, offset=2)])
    state.save_sessions([session_end(1)])
    revive(redis_server)

    state.probe()

    assert state.serving().sessions == "redis"
    assert sorted((row.key, row.offset) for row in redis_tier(redis_server).list_sessions(NOW, 10)) == [
        (session_key(2), 2),
        (session_key(3), 2),
    ]


def test_sessions_go_to_the_database_and_back(make: Make, redis_server: RedisServer, postgres: PostgresServer) -> None:
    state = make(cache=redis_tier(redis_server), server=postgres_tier(postgres))
    state.probe()
    redis_server.kill()
    state.save_sessions([session_row(1, offset=1)])
    assert state.serving().sessions == "postgres"
    postgres.kill()
    state.save_sessions([session_row(1, offset=2), session_row(2, offset=2)])
    assert state.serving().sessions == "embedded"
    redis_server.restart()
    state.probe()
    state.save_sessions([session_row(1, offset=3)])
    state.save_sessions([session_end(2)])
    postgres.restart()

    state.probe()

    assert state.serving() == Serving("redis", "postgres", {})
    assert state.list_sessions(NOW, 10) == [session_row(1, offset=3)]
    assert postgres_tier(postgres).list_sessions(NOW, 10) == []


def test_the_catalogue_works_without_its_cache(
    make: Make, redis_server: RedisServer, postgres: PostgresServer, fault: Callable[[StateServer], None]
) -> None:
    state = make(cache=redis_tier(redis_server), server=postgres_tier(postgres))
    state.record_files([file_row("a", 1), file_row("b", 1)])
    fault(redis_server)

    took = seconds(lambda: state.record_files([file_row("a", 2)]))
    state.forget_files(["b"])
    revive(redis_server)
    state.probe()

    assert took < SOON
    assert state.serving() == Serving("redis", "postgres", {})
    assert state.find_file("a") == file_row("a", 2)
    assert state.find_file("b") is None


def test_a_found_file_is_remembered(make: Make, redis_server: RedisServer, postgres: PostgresServer) -> None:
    state = make(cache=redis_tier(redis_server), server=postgres_tier(postgres))
    state.probe()
    postgres_tier(postgres).record_files([file_row("a")])

    state.find_file("a")
    postgres.kill()

    assert state.find_file("a") == file_row("a")


def test_a_late_reader_does_not_bring_back_a_forgotten_file(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    tier.record_files([file_row("a", 1)])
    read_by_somebody = tier.find_file("a")
    tier.forget_files(["a"])
    tier.record_files([file_row("b", 2)])

    assert read_by_somebody is not None
    tier.fill_file(read_by_somebody)
    tier.fill_file(file_row("b", 1))

    assert tier.cached_file("a") == (True, None)
    assert tier.find_file("b") == file_row("b", 2)
    tier.close()


# --- several processes, and all of it dead ---


def test_one_process_hands_over_and_the_others_wait_for_it(
    make: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    state = make(server=postgres_tier(postgres))
    descriptor = os.open(tmp_path / "handover.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    state.probe()
    held_by_another = state.serving()
    os.close(descriptor)

    state.probe()

    assert held_by_another.catalog == "embedded"
    assert held_by_another.down["postgres"] == "another process hands over"
    assert state.serving() == Serving("postgres", "postgres", {})


class Slow(SqlTier):
    """An embedded tier whose next write begins and then takes as long as the test wants."""

    def __init__(self, folder: Path) -> None:
        super().__init__("embedded", partial(engines.embedded, str(folder / "state.db")))
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def record_files(self, rows: Sequence[FileRow]) -> None:
        self.begun.set()
        assert self.may_end.wait(20)
        super().record_files(rows)


def test_a_write_that_began_below_is_handed_up_before_the_database_serves(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    embedded = Slow(tmp_path)
    state = SharedState(embedded, str(tmp_path / "handover.lock"), server=postgres_tier(postgres))
    state.probe()
    postgres.kill()
    state.record_files([file_row("a")])
    embedded.begun.clear()
    embedded.may_end.clear()
    with ThreadPoolExecutor(2) as executor:
        writing = executor.submit(state.record_files, [file_row("late")])
        assert embedded.begun.wait(20)
        postgres.restart()
        probing = executor.submit(state.probe)
        until(lambda: embedded.held(Kind.FILES, 10).rows == [], "what was there before is handed up")
        before = state.serving().catalog
        embedded.may_end.set()
        writing.result()
        probing.result()
    until(lambda: state.probe() or state.serving().catalog == "postgres", "postgres serves")

    assert before == "embedded"
    assert state.find_file("late") == file_row("late")
    assert embedded.held(Kind.FILES, 10).rows == []
    state.stop()


def test_nothing_is_lost_while_a_database_comes_and_goes(make: Make, database: StateServer) -> None:
    workers = [make(server=sql_tier(database)) for _ in range(2)]
    ended = threading.Event()

    def write(worker: int) -> list[str]:
        done = []
        while not ended.is_set():
            path = f"{worker}/{len(done)}"
            workers[worker].record_files([file_row(path)])
            done.append(path)
        return done

    with ThreadPoolExecutor(2) as executor:
        writing = [executor.submit(write, worker) for worker in range(2)]
        for deed in (database.kill, database.restart, database.pause, database.resume):
            deed()
            for worker in workers:
                worker.probe()
        ended.set()
        written = [path for job in writing for path in job.result()]
    for worker in workers:
        until(lambda worker=worker: worker.probe() or not worker.serving().down, "all serve")  # type: ignore[misc]

    found, after = set(), ""
    while rows := workers[0].list_files(after, 1000):
        found |= {row.path for row in rows}
        after = rows[-1].path
    assert found == set(written)
    assert len(written) > 10


def test_when_no_tier_answers_the_state_is_unavailable(make: Make, tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    state = make()

    with pytest.raises(StateUnavailable):
        state.record_files([file_row("a")])
    with pytest.raises(StateUnavailable):
        state.find_session(session_key(1), NOW)

    assert state.serving().catalog == "none"
    (tmp_path / "state.db").rmdir()
    state.probe()
    state.record_files([file_row("a")])
    assert state.serving() == Serving("embedded", "embedded", {})


def test_a_change_of_the_serving_tier_is_told_once(make: Make, redis_server: RedisServer) -> None:
    told: list[Serving] = []
    state = make(cache=redis_tier(redis_server), on_change=told.append)
    state.probe()
    redis_server.kill()
    for number in range(3):
        state.save_sessions([session_row(number)])
        state.probe()
    redis_server.restart()
    state.probe()

    assert [serving.sessions for serving in told] == ["redis", "embedded", "redis"]
    assert told[1].down == {"redis": "connection refused"}


def test_a_dead_tier_comes_back_by_itself(make: Make, redis_server: RedisServer) -> None:
    state = make(cache=redis_tier(redis_server))
    state.start()
    until(lambda: state.serving().sessions == "redis", "redis serves")
    redis_server.kill()
    state.save_sessions([session_row(1)])
    redis_server.restart()

    until(lambda: state.serving().sessions == "redis", "redis serves again")

    assert state.find_session(session_key(1), NOW) == session_row(1)


def test_the_embedded_file_is_nobody_elses_business(make: Make, tmp_path: Path) -> None:
    state = make()
    state.record_files([file_row("a")])

    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("state.db", "state.db-wal")}

    assert modes == {"state.db": 0o600, "state.db-wal": 0o600}


def test_nothing_is_connected_before_it_is_used(tmp_path: Path) -> None:
    SharedState(
        embedded_tier(tmp_path),
        str(tmp_path / "handover.lock"),
        server=SqlTier("mysql", partial(engines.mysql, ServerAddress("127.0.0.1", 1), "u", "p", "d")),
        cache=RedisTier(RedisAddress(ServerAddress("127.0.0.1", 1))),
    )

    assert list(tmp_path.iterdir()) == []
