"""What only SQL servers have: few statements, rows that are removed one day, errors without values."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text

from hmacfs.errors import StateUnavailable
from hmacfs.state import engines
from hmacfs.state.addresses import ServerAddress
from hmacfs.state.base import END_SECONDS, Kind
from hmacfs.state.batches import BATCH
from hmacfs.state.sql import _PURGE_SECONDS, SqlTier
from tests.state.tiers import NOW, file_row, session_end, session_key, session_row, tier_maker
from tests.support import mariadb as maria
from tests.support import postgres as pg
from tests.support.mariadb import MariadbServer
from tests.support.postgres import PostgresServer

Make = Callable[[], SqlTier]


@pytest.fixture(params=["embedded", "postgres", "mysql"])
def make(request: pytest.FixtureRequest) -> Make:
    return tier_maker(request.param, request)  # type: ignore[return-value]


@pytest.fixture
def tier(make: Make) -> Iterator[SqlTier]:
    made = make()
    yield made
    made.close()


def test_the_end_of_an_upload_goes_with_the_purge(make: Make) -> None:
    tier = make()
    now = [float(NOW)]
    tier._clock = lambda: now[0]
    tier._purge_at = NOW
    tier.save_sessions([session_end(1)])
    now[0] = NOW + END_SECONDS - 1
    tier.save_sessions([session_row(2, NOW + 5000)])
    before = [row.key for row in tier.held(Kind.SESSIONS, 10).rows]  # type: ignore[union-attr]

    now[0] += _PURGE_SECONDS
    tier.save_sessions([session_row(3, NOW + 5000)])

    assert before == [session_key(1), session_key(2)]
    assert [row.key for row in tier.held(Kind.SESSIONS, 10).rows] == [  # type: ignore[union-attr]
        session_key(2),
        session_key(3),
    ]
    tier.close()


def test_a_purge_that_was_not_all_goes_on_with_the_next_write(make: Make) -> None:
    tier = make()
    now = [float(NOW)]
    tier._clock = lambda: now[0]
    tier._purge_at = NOW + END_SECONDS + 100
    for start in range(0, 2 * BATCH + 500, 500):
        tier.save_sessions([session_end(number) for number in range(start, start + 500)])
    now[0] = tier._purge_at

    left = []
    for _ in range(3):
        tier.save_sessions([session_row(1, NOW + 5000, later=1)])
        left.append(len(tier.held(Kind.SESSIONS, 1000).rows))

    assert left == [1000, 500, 1]
    assert tier._purge_at == now[0] + _PURGE_SECONDS
    tier.close()


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


def refusing_long_types(tier: SqlTier) -> None:
    """The servers' columns have bounds; SQLite has none of its own."""
    tier.ping()
    if tier.name == "embedded":
        refusal = "WHEN length(NEW.content_type) > 255 BEGIN SELECT RAISE(ABORT, 'too long'); END"
        tier.run(
            lambda connection: connection.execute(text(f"CREATE TRIGGER t BEFORE INSERT ON hmacfs_files {refusal}"))
        )


def test_a_row_that_the_server_does_not_take_is_left_out_and_told_without_its_path(
    tier: SqlTier, caplog: pytest.LogCaptureFixture
) -> None:
    refusing_long_types(tier)
    rows = [file_row(f"ri/{number}", content_type="x" * 300 if number in (3, 11) else "a/b") for number in range(20)]

    tier.record_files(rows)

    assert {row.path for row in tier.list_files("", 100)} == {row.path for row in rows if row.content_type == "a/b"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"State tier: {tier.name} does not take 2 rows"


def test_rows_that_are_not_taken_are_told_once_in_a_minute(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    tier = make()
    now = [float(NOW)]
    tier._clock = lambda: now[0]
    refusing_long_types(tier)
    for _ in range(3):
        tier.record_files([file_row("a/b", content_type="x" * 300)])
    before = len(caplog.records)

    now[0] += 60
    tier.record_files([file_row("a/b", content_type="x" * 300)])

    assert (before, len(caplog.records)) == (1, 2)
    tier.close()


def test_a_postgresql_database_that_is_not_utf_8_is_refused_with_the_remedy(postgres: PostgresServer) -> None:
    with postgres.engine().connect() as connection:
        more = "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(text("DROP DATABASE IF EXISTS latin"))
        connection.execute(text(f"CREATE DATABASE latin ENCODING 'LATIN1' {more}"))
    address = ServerAddress("127.0.0.1", postgres.port)
    tier = SqlTier("postgres", partial(engines.postgres, address, pg.USER, pg.PASSWORD, "latin"))

    with pytest.raises(StateUnavailable) as refused:
        tier.ping()

    assert refused.value.detail == "its encoding is LATIN1: make the database with ENCODING 'UTF8'"
    tier.close()
