"""What only SQL servers have: tables that several processes make at once, few statements, errors without values."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from hmacfs.errors import StateUnavailable
from hmacfs.state import engines, schema
from hmacfs.state.addresses import ServerAddress
from hmacfs.state.base import Kind
from hmacfs.state.sql import SqlTier
from tests.state.tiers import NOW, file_row, session_key, session_row, tier_maker
from tests.support import mariadb as maria
from tests.support.mariadb import MariadbServer

Make = Callable[[], SqlTier]
PROCESSES = 4


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
            tier.record_files([file_row(f"shared/{place}", number, stored_at=turn) for place in range(50)])
        tier.record_files([file_row(f"own/{number}", number)])
    except Exception as error:  # noqa: BLE001 - told to the test
        failures.put(repr(error))
    tier.close()


def test_processes_that_make_the_tables_at_once_do_not_disturb_each_other(make: Make) -> None:
    fork = multiprocessing.get_context("fork")  # as our workers come to be; nothing is connected before
    start, failures = fork.Barrier(PROCESSES), fork.Queue()
    processes = [fork.Process(target=_first_use, args=(make, start, number, failures)) for number in range(PROCESSES)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert failures.empty(), failures.get()
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


def test_tables_of_an_earlier_version_get_what_they_lack_and_keep_their_rows(tier: SqlTier, make: Make) -> None:
    tier.record_files([file_row("a")])
    tier.run(lambda connection: connection.exec_driver_sql("DROP TABLE hmacfs_leases"))
    tier.run(lambda connection: connection.execute(update(schema.schema).values(version=1)))

    later = make()

    assert later.lease("sweep", "here", 60, NOW)
    assert later.find_file("a") == file_row("a")
    assert tier.run(lambda connection: connection.execute(select(schema.schema.c.version)).scalar()) == schema.VERSION
    later.close()


def test_tables_of_another_version_are_not_touched(tier: SqlTier, make: Make) -> None:
    tier.record_files([file_row("a")])
    tier.run(lambda connection: connection.execute(update(schema.schema).values(version=schema.VERSION + 1)))

    other = make()
    with pytest.raises(StateUnavailable) as caught:
        other.record_files([file_row("b")])

    assert f"version {schema.VERSION + 1}" in caught.value.detail
    assert tier.find_file("b") is None
    other.close()


def test_expired_sessions_are_deleted_now_and_then(make: Make) -> None:
    tier = make()
    now = [float(NOW)]
    tier._clock = lambda: now[0]
    tier._purge_at = NOW + 60
    tier.save_sessions([session_row(1, NOW + 10), session_row(2, NOW + 500)])
    now[0] = NOW + 59
    tier.save_sessions([session_row(3, NOW + 500)])
    before = [row for row in tier.held(Kind.SESSIONS, 10).rows]  # noqa: C416

    now[0] = NOW + 60
    tier.save_sessions([session_row(4, NOW + 500)])

    left = [row.key for row in tier.held(Kind.SESSIONS, 10).rows]  # type: ignore[union-attr]
    assert len(before) == 3
    assert left == [session_key(number) for number in (2, 3, 4)]
    tier.close()


def test_a_batch_is_one_statement(tier: SqlTier) -> None:
    tier.ping()
    sent: list[tuple[str, bool]] = []
    engine = tier._connections._engine
    assert engine is not None
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append((args[2].split()[0], args[5])))

    tier.record_files([file_row(f"{number}", uploader="u" * 200) for number in range(1000)])

    # psycopg2 would send a list of rows one by one. SQLite is no server, and what MySQL gets is counted below.
    repeated = engine.dialect.name != "postgresql"
    assert [found for found in sent if found[0] == "INSERT"] == [("INSERT", repeated)]


def test_mysql_gets_a_batch_in_one_piece(mariadb: MariadbServer, request: pytest.FixtureRequest) -> None:
    tier: SqlTier = tier_maker("mysql", request)()  # type: ignore[assignment]
    tier.ping()

    def inserts() -> int:
        with mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_insert'")
            return int(cursor.fetchone()[1])

    before = inserts()
    tier.record_files([file_row(f"{number}", uploader="u" * 200) for number in range(1000)])

    assert inserts() - before == 1
    tier.close()


def test_rows_written_again_are_not_released(tier: SqlTier) -> None:
    tier.record_files([file_row("a", 1), file_row("b", 1)])
    held = tier.held(Kind.FILES, 10)
    tier.record_files([file_row("a", 2)])

    tier.release(held)

    assert tier.held(Kind.FILES, 10).rows == [file_row("a", 2)]


def test_no_value_reaches_a_log_or_an_error(tier: SqlTier, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tier.record_files([file_row("secret-path")])
    tier.run(lambda connection: connection.execute(text("DROP TABLE hmacfs_files")))

    with pytest.raises(StateUnavailable) as caught:
        tier.record_files([file_row("secret-path", uploader="secret-uploader")])

    cause: BaseException | None = caught.value
    while cause is not None:
        assert "secret" not in f"{cause} {cause!r}"
        cause = cause.__cause__
    assert "secret" not in caplog.text


def test_a_lost_table_is_made_again_at_the_next_ping(tier: SqlTier) -> None:
    tier.record_files([file_row("a")])
    tier.run(lambda connection: connection.execute(text("DROP TABLE hmacfs_schema")))
    tier.run(lambda connection: connection.execute(text("DROP TABLE hmacfs_files")))
    with pytest.raises(StateUnavailable):
        tier.find_file("a")

    tier.ping()

    assert tier.find_file("a") is None


def test_the_password_is_in_no_error(mariadb: MariadbServer) -> None:
    address = ServerAddress("127.0.0.1", mariadb.port)
    tier = SqlTier("mysql", partial(engines.mysql, address, maria.USER, "s3cret-wrong", maria.DATABASE))

    with pytest.raises(StateUnavailable) as caught:
        tier.ping()

    assert caught.value.detail == "OperationalError 1045"
    assert "s3cret" not in repr(caught.value.__cause__)


def test_a_driver_that_is_not_installed_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    hidden: Any = None
    monkeypatch.setitem(sys.modules, "MySQLdb", hidden)
    tier = SqlTier("mysql", partial(engines.mysql, ServerAddress("127.0.0.1", 1), "u", "p", "d"))

    with pytest.raises(StateUnavailable) as caught:
        tier.ping()

    assert "not installed" in caught.value.detail
