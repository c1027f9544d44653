"""The tables of an SQL server: made by several processes at once, mended, and brought from one version to the next."""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.synchronize import Barrier

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
    update,
)

from hmacfs.core.bans import Ban
from hmacfs.errors import StateUnavailable
from hmacfs.state import schema
from hmacfs.state.sql import SqlTier
from tests.state.tiers import NOW, file_row, session_end, session_key, session_row, tier_maker

Make = Callable[[], SqlTier]
PROCESSES = 4

UPGRADES = {
    "whole": [],
    "without sessions": ["DROP TABLE hmacfs_sessions"],
    "half way": ["ALTER TABLE hmacfs_outdated ADD COLUMN started_ms BIGINT NOT NULL DEFAULT 0"],
    "without a version": ["DELETE FROM hmacfs_schema"],
}
"""Tables of version 1, and how a killed process may have left them."""


@pytest.fixture(params=["embedded", "postgres", "mysql"])
def make(request: pytest.FixtureRequest) -> Make:
    return tier_maker(request.param, request)  # type: ignore[return-value]


@pytest.fixture
def tier(make: Make) -> Iterator[SqlTier]:
    made = make()
    yield made
    made.close()


def _first_use(make: Make, start: Barrier, number: int, failures: "multiprocessing.Queue[str]") -> None:
    tier = make()
    start.wait(20)
    try:
        tier.ping()
        for turn in range(5):
            tier.record_files([file_row(f"shared/{place}", number, stored_us=turn) for place in range(50)])
        tier.record_files([file_row(f"own/{number}", number)])
        tier.save_sessions([session_row(number)])
    except Exception as error:  # noqa: BLE001 - told to the test
        failures.put(repr(error))
    tier.close()


def used_at_once(make: Make) -> list[str]:
    """What went wrong when several processes used the tier for the first time at the same moment."""
    fork = multiprocessing.get_context("fork")  # as our workers come to be; nothing is connected before
    start, failures = fork.Barrier(PROCESSES), fork.Queue()
    processes = [fork.Process(target=_first_use, args=(make, start, number, failures)) for number in range(PROCESSES)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return [] if failures.empty() else [failures.get()]


def test_processes_that_make_the_tables_at_once_do_not_disturb_each_other(make: Make) -> None:
    assert used_at_once(make) == []

    reader = make()
    assert len(reader.list_files("shared/", 1000)) == 50
    assert [row.size for row in reader.list_files("own/", PROCESSES)] == list(range(PROCESSES))
    reader.close()


def test_tables_that_are_there_are_left_alone(tier: SqlTier, make: Make) -> None:
    tier.record_files([file_row("a")])

    again = make()
    again.ping()
    again.ping()

    assert again.find_file("a") == file_row("a")
    again.close()


def test_tables_of_another_version_are_not_touched(tier: SqlTier, make: Make) -> None:
    tier.record_files([file_row("a")])
    tier.run(lambda connection: connection.execute(update(schema.schema).values(version=schema.VERSION + 1)))

    other = make()
    with pytest.raises(StateUnavailable) as caught:
        other.record_files([file_row("b")])

    assert f"version {schema.VERSION + 1}" in caught.value.detail
    assert tier.find_file("b") is None
    other.close()


def test_a_lost_table_is_made_again_at_the_next_ping(tier: SqlTier) -> None:
    tier.record_files([file_row("a")])
    tier.run(lambda connection: connection.execute(text("DROP TABLE hmacfs_schema")))
    tier.run(lambda connection: connection.execute(text("DROP TABLE hmacfs_files")))
    with pytest.raises(StateUnavailable):
        tier.find_file("a")

    tier.ping()

    assert tier.find_file("a") is None


@pytest.mark.parametrize("table", [table.name for table in schema.metadata.sorted_tables])
def test_whichever_table_is_lost_is_made_again_at_the_next_ping(tier: SqlTier, table: str) -> None:
    tier.record_files([file_row("a")])
    tier.save_sessions([session_row(1)])
    tier.run(lambda connection: connection.execute(text(f"DROP TABLE {table}")))

    tier.ping()

    tier.record_files([file_row("b")])
    tier.save_sessions([session_row(2)])
    assert tier.run(lambda connection: inspect(connection).has_table(table))
    assert tier.find_file("b") == file_row("b")
    assert tier.find_session(session_key(2), NOW) == session_row(2)


def test_tables_whose_maker_was_killed_before_it_wrote_the_version_are_finished(tier: SqlTier, make: Make) -> None:
    tier.record_files([file_row("a")])
    tier.run(lambda connection: connection.execute(delete(schema.schema)))

    other = make()
    other.ping()

    assert other.find_file("a") == file_row("a")
    assert other.run(lambda connection: connection.execute(select(schema.schema.c.version)).scalar()) == schema.VERSION
    other.close()


def make_version_1(make: Make, *statements: str) -> None:
    """The tables as version 1 had them, with a row in each."""
    metadata = MetaData()
    schema.schema.to_metadata(metadata)
    old = {"files": {"stored_us"}, "sessions": {"is_over", "started_ms"}, "outdated": {"started_ms"}}
    for name, newer in old.items():
        table = schema.metadata.tables[f"hmacfs_{name}"]
        columns = [Column(c.name, c.type, primary_key=c.primary_key) for c in table.columns if c.name not in newer]
        Table(table.name, metadata, *columns)
    files, sessions, outdated = (metadata.tables[f"hmacfs_{name}"] for name in old)
    files.append_column(Column("stored_at", BigInteger, nullable=False))
    sessions.append_column(Column("started_at", BigInteger, nullable=False))
    tier = make()

    def work(connection: Connection) -> None:
        metadata.create_all(connection)
        values = asdict(session_row(1)) | {"started_at": NOW, "revision": 1}
        row = {name: value for name, value in values.items() if name in sessions.columns}
        connection.execute(insert(sessions), row)
        connection.execute(insert(outdated), {"tier": "redis", "kind": "files", "key": "a", "revision": 1})
        values = asdict(file_row("a")) | {"stored_at": NOW, "revision": 1}
        connection.execute(insert(files), {name: value for name, value in values.items() if name in files.columns})
        connection.execute(insert(schema.schema), {"id": 1, "version": 1})
        for statement in statements:
            connection.execute(text(statement))

    tier._connections.run(work)
    tier.close()


def make_version_3(make: Make, *statements: str) -> None:
    """The tables as version 3 had them, with a file."""
    tier = make()
    tier.record_files([file_row("a", stored_us=1_700_000_000)])
    tier.run(
        lambda connection: connection.execute(text("ALTER TABLE hmacfs_files RENAME COLUMN stored_us TO stored_at"))
    )
    tier.run(lambda connection: connection.execute(update(schema.schema).values(version=3)))
    for statement in statements:
        tier.run(lambda connection, statement=statement: connection.execute(text(statement)))  # type: ignore[misc]
    tier.close()


@pytest.mark.parametrize("done", [[], ["UPDATE hmacfs_files SET stored_at = stored_at * 1000000"]])
def test_tables_of_version_3_say_when_files_were_stored_in_microseconds(make: Make, done: list[str]) -> None:
    make_version_3(make, *done)
    tier = make()

    tier.ping()
    tier.record_files([file_row("a", 2, stored_us=1_700_000_000_000_000 - 1)])

    assert tier.find_file("a") == file_row("a", stored_us=1_700_000_000_000_000)
    assert tier.run(lambda connection: connection.execute(select(schema.schema.c.version)).scalar()) == schema.VERSION
    tier.close()


@pytest.mark.parametrize("state", UPGRADES)
def test_tables_of_version_1_become_those_of_now(make: Make, state: str) -> None:
    make_version_1(make, *UPGRADES[state])
    tier = make()

    tier.ping()
    tier.save_sessions([session_row(1), session_end(2)])
    tier.upsert(schema.outdated, [{"tier": "redis", "kind": "sessions", "key": session_key(1), "started_ms": 7}])

    assert tier.run(lambda connection: connection.execute(select(schema.schema.c.version)).scalar()) == schema.VERSION
    assert tier.find_file("a") == file_row("a")
    assert tier.list_sessions(NOW, 10) == [session_row(1)]
    book = select(schema.outdated.c.key, schema.outdated.c.started_ms).order_by(schema.outdated.c.started_ms)
    assert tier.run(lambda connection: [tuple(row) for row in connection.execute(book)]) == [
        ("a", 0),
        (session_key(1), 7),
    ]
    tier.close()


def test_processes_that_meet_tables_of_version_1_at_once_do_not_disturb_each_other(make: Make) -> None:
    make_version_1(make)

    assert used_at_once(make) == []

    reader = make()
    assert reader.find_file("a") == file_row("a")
    assert [row.size for row in reader.list_files("own/", PROCESSES)] == list(range(PROCESSES))
    assert len(reader.list_sessions(NOW, 100)) == PROCESSES
    reader.close()


def test_sessions_that_were_made_anew_are_not_made_anew_again(tier: SqlTier, make: Make) -> None:
    tier.save_sessions([session_row(1)])
    tier.run(lambda connection: connection.execute(delete(schema.schema)))

    other = make()
    other.ping()

    assert other.find_session(session_key(1), NOW) == session_row(1)
    other.close()


def test_tables_of_version_2_keep_their_rows_and_get_bans(make: Make) -> None:
    old = make()
    old.record_files([file_row("a")])
    old.save_sessions([session_row(1)])
    for table in (schema.bans, schema.fails, schema.marks):
        old.run(lambda connection, table=table: connection.execute(text(f"DROP TABLE {table.name}")))
    old.run(lambda connection: connection.execute(update(schema.schema).values(version=2)))
    old.close()

    tier = make()
    for _ in range(2):
        tier.ping()
        tier.bans.save([Ban("192.0.2.1", NOW, NOW + 300, 1)])

    assert tier.find_file("a") == file_row("a")
    assert tier.find_session(session_key(1), NOW) == session_row(1)
    assert tier.bans.read("").bans == [Ban("192.0.2.1", NOW, NOW + 300, 1)]
    assert tier.run(lambda connection: connection.execute(select(schema.schema.c.version)).scalar()) == schema.VERSION
    tier.close()
