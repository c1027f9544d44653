"""Shared state of a running server: which tier its settings choose, and that no transfer depends on one."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from hmacfs import tiers
from hmacfs.settings import Settings
from hmacfs.state.base import FileRow
from hmacfs.state.redis import PREFIX
from tests.support import mariadb, postgres, redis
from tests.support.http import get, put
from tests.support.mariadb import MariadbServer
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer
from tests.support.server import ROOT, Server


@pytest.fixture(scope="module")
def started_redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        assert isinstance(running, RedisServer)
        yield running


@pytest.fixture
def redis_server(started_redis: RedisServer) -> RedisServer:
    started_redis.recover()
    return started_redis


def redis_keys(server: RedisServer, **more: Any) -> dict[str, Any]:
    return {"RedisAddr": f"127.0.0.1:{server.port}", "RedisPassword": redis.PASSWORD, **more}


def embedded_row(server: Server, path: str) -> FileRow | None:
    """What the file in StateDir knows of a path."""
    state = tiers.shared_state(Settings(state_dir=str(server.state_dir)))
    try:
        return state.find_file(path)
    finally:
        state.stop()


def tier_lines(server: Server) -> list[str]:
    """What the log says of tiers, without time and pid."""
    return [line.partition("] ")[2].partition(" pid=")[0] for line in server.lines("State tier:")]


def until_told(server: Server, *words: str) -> None:
    """Until the last line of tiers has all ``words``. A tier may be missed at first where the machine is busy."""
    until(lambda: all(word in "".join(tier_lines(server)[-1:]) for word in words), f"the log says {words}")


# --- the file in StateDir ---


def test_a_stored_file_is_in_the_catalogue_soon(server: Server) -> None:
    put(server, "id/ä b.txt", b"hello", "text/plain")

    row = until(lambda: embedded_row(server, "id/ä b.txt"), "the row is written")

    assert (row.size, row.content_type, row.uploader, row.expires_at) == (5, "text/plain", "", 0)
    assert abs(row.stored_us - 1_000_000 * (server.store_dir / "id/ä b.txt").stat().st_mtime) < 5_000_000


def test_the_tier_is_named_at_start(server: Server) -> None:
    until(lambda: tier_lines(server), "the line is there")

    assert tier_lines(server) == ["State tier: embedded serves"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_what_was_stored_just_before_a_stop_is_in_the_catalogue(number: int, tmp_path: Path) -> None:
    with Server(tmp_path, constants={"hmacfs.services.recorder:FLUSH_SECONDS": 3600.0}) as server:
        until(lambda: tier_lines(server), "the tiers were looked at")
        for name in range(20):
            assert put(server, f"id/{name}", b"hello").status == 201
        server.signal(number)
        server.wait()

    assert [name for name in range(20) if embedded_row(server, f"id/{name}") is None] == []


def test_the_master_opens_no_state(server: Server) -> None:
    until(lambda: tier_lines(server), "the tiers were looked at")

    held = os.listdir(f"/proc/{server.pid}/fd")
    targets = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in held]

    assert [target for target in targets if str(server.state_dir) in target] == []


def test_a_state_that_cannot_be_kept_keeps_nobody_from_uploading(tmp_path: Path) -> None:
    (tmp_path / "state" / tiers.EMBEDDED_FILE).mkdir(parents=True)

    with Server(tmp_path) as server:
        assert put(server, "id/cat.jpg", b"hello").status == 201
        assert get(server, "id/cat.jpg").body == b"hello"
        (line,) = until(lambda: tier_lines(server), "the line is there")

    assert "embedded is down" in line
    assert "none serves" in line


# --- what is tried again ---


def test_max_retries_and_retry_delay_hold_facts_until_a_tier_is_back(tmp_path: Path) -> None:
    blocked = tmp_path / "state" / tiers.EMBEDDED_FILE
    blocked.mkdir(parents=True)

    with Server(tmp_path, MaxRetries=100, RetryDelay=1) as server:
        until(lambda: tier_lines(server), "the tier is down")
        put(server, "id/cat.jpg", b"hello")
        blocked.rmdir()
        until(lambda: embedded_row(server, "id/cat.jpg"), "the row is written")

        assert server.lines("are lost") == []


def test_max_retries_of_0_gives_facts_up_at_once_and_says_how_to_get_them_back(tmp_path: Path) -> None:
    (tmp_path / "state" / tiers.EMBEDDED_FILE).mkdir(parents=True)

    with Server(tmp_path, MaxRetries=0, RetryDelay=3600) as server:
        for name in range(3):
            put(server, f"id/{name}", b"hello")
        (line,) = until(lambda: server.lines("are lost"), "the loss is told")

    assert line.startswith("WARN")
    assert "`hmacfs reindex` rebuilds the catalogue" in line


# --- Redis ---


def test_redis_addr_and_redis_password_put_redis_before_the_file(redis_server: RedisServer, tmp_path: Path) -> None:
    with Server(tmp_path, **redis_keys(redis_server)) as server, redis_server.client() as client:
        put(server, "id/cat.jpg", b"hello")

        until(lambda: client.exists(f"{PREFIX}file:id/cat.jpg"), "the row is in Redis")
        until_told(server, "State tier: redis serves unfinished uploads, embedded the catalogue")


def test_redis_addr_may_be_a_url_with_password_and_database(redis_server: RedisServer, tmp_path: Path) -> None:
    url = f"redis://:{redis.PASSWORD}@127.0.0.1:{redis_server.port}/2"

    with Server(tmp_path, RedisAddr=url) as server, redis_server.client() as client:
        put(server, "id/cat.jpg", b"hello")
        until(lambda: embedded_row(server, "id/cat.jpg"), "the row is written")
        client.select(2)

        until(lambda: client.exists(f"{PREFIX}file:id/cat.jpg"), "the row is in database 2")
        assert redis.PASSWORD not in server.output()


def test_redis_db_names_the_database(redis_server: RedisServer, tmp_path: Path) -> None:
    with Server(tmp_path, **redis_keys(redis_server, RedisDB=3)) as server, redis_server.client() as client:
        put(server, "id/cat.jpg", b"hello")
        client.select(3)

        until(lambda: client.exists(f"{PREFIX}file:id/cat.jpg"), "the row is in database 3")


def test_a_wrong_redis_password_is_told_without_it(redis_server: RedisServer, tmp_path: Path) -> None:
    with Server(tmp_path, **redis_keys(redis_server, RedisPassword="not-the-password")) as server:
        put(server, "id/cat.jpg", b"hello")
        (line,) = until(lambda: tier_lines(server), "the line is there")

        assert line.startswith("State tier: redis is down (")
        assert line.endswith("embedded serves")
        assert "not-the-password" not in server.output()


def test_a_change_of_the_serving_tier_is_one_line_and_no_error_for_anybody(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Server(tmp_path, **redis_keys(redis_server)) as server:
        until_told(server, "redis serves")

        redis_server.kill()
        assert [put(server, f"id/{name}", b"hello").status for name in range(5)] == [201] * 5
        until_told(server, "State tier: redis is down (", "embedded serves")
        redis_server.start()
        until_told(server, "State tier: redis serves unfinished uploads, embedded the catalogue")

        told = tier_lines(server)
        assert all(one != next_one for one, next_one in pairwise(told))
        until(lambda: embedded_row(server, "id/4"), "nothing is lost")


# --- SQL servers ---


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_fallback_enabled_and_fallback_db_type_put_an_sql_server_before_the_file(kind: str, tmp_path: Path) -> None:
    made, names, driver = {
        "postgres": (PostgresServer, postgres, "postgresql+psycopg2"),
        "mysql": (MariadbServer, mariadb, "mysql+mysqldb"),
    }[kind]
    with made() as database:
        place = f"127.0.0.1:{database.port}"
        keys = {
            "FallbackEnabled": True,
            "FallbackDBType": kind,
            "FallbackDBHost": place,
            "FallbackDBUser": names.USER,
            "FallbackDBPassword": names.PASSWORD,
            "FallbackDBName": names.DATABASE,
        }
        engine = create_engine(f"{driver}://{names.USER}:{names.PASSWORD}@{place}/{names.DATABASE}")
        with Server(tmp_path, **keys) as server:
            until_told(server, f"{kind} serves")
            put(server, "id/cat.jpg", b"hello")

            until(lambda: rows_in(engine) == 1, "the row is there")
            until_told(server, f"State tier: {kind} serves")
            assert names.PASSWORD not in server.output()


@pytest.fixture(scope="module")
def started_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        assert isinstance(running, PostgresServer)
        yield running


@pytest.fixture
def postgres_server(started_postgres: PostgresServer) -> PostgresServer:
    started_postgres.recover()
    return started_postgres


def postgres_keys(database: PostgresServer, **more: Any) -> dict[str, Any]:
    """Leads to it through its socket."""
    return {
        "FallbackEnabled": True,
        "FallbackDBType": "postgres",
        "FallbackDBHost": f"{database.folder}/.s.PGSQL.{database.port}",
        "FallbackDBUser": postgres.USER,
        "FallbackDBPassword": postgres.PASSWORD,
        "FallbackDBName": postgres.DATABASE,
        **more,
    }


def test_fallback_db_host_may_be_the_path_of_a_socket(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with Server(tmp_path, **postgres_keys(postgres_server)) as server:
        until_told(server, "State tier: postgres serves")
        put(server, "id/cat.jpg", b"hello")

        until(lambda: rows_in(postgres_server.engine()) == 1, "the row is there")


def test_fallback_db_name_and_fallback_db_user_say_where_the_tables_are_and_whose(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    engine = postgres_server.engine()
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE clerk LOGIN PASSWORD 'of-the-clerk'")
        connection.exec_driver_sql("CREATE DATABASE cabinet OWNER clerk")
    engine.dispose()
    keys = {"FallbackDBName": "cabinet", "FallbackDBUser": "clerk", "FallbackDBPassword": "of-the-clerk"}

    with Server(tmp_path, **postgres_keys(postgres_server, **keys)) as server:
        until_told(server, "State tier: postgres serves")
        put(server, "id/cat.jpg", b"hello")

        cabinet = engine.url.set(database="cabinet")
        until(lambda: rows_in(create_engine(cabinet)) == 1, "the row is there")
        assert owners_in(create_engine(cabinet)) == {"clerk"}
        assert owners_in(engine) == set()


def test_a_wrong_fallback_db_password_is_told_without_it(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with Server(tmp_path, **postgres_keys(postgres_server, FallbackDBPassword="not-the-password")) as server:
        put(server, "id/cat.jpg", b"hello")
        (line,) = until(lambda: tier_lines(server), "the line is there")

        assert line.startswith("State tier: postgres is down (")
        assert line.endswith("embedded serves")
        assert "not-the-password" not in server.output()


def owners_in(engine: Engine) -> set[str]:
    """Whose tables of ours a PostgreSQL database has."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT tableowner FROM pg_tables WHERE tablename LIKE 'hmacfs%'")).scalars()
        owners = {str(owner) for owner in found}
    engine.dispose()
    return owners


def rows_in(engine: Engine) -> int:
    """Rows of the catalogue."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM hmacfs_files")).scalar_one()
    engine.dispose()
    return int(found)


def test_fallback_enabled_false_asks_nobody(tmp_path: Path) -> None:
    with Server(tmp_path, FallbackDBHost=f"127.0.0.1:{free_port()}") as server:
        until(lambda: tier_lines(server), "the line is there")

        assert tier_lines(server) == ["State tier: embedded serves"]


# --- on whose time ---

SCRIPT = """
    from gevent import monkey
    monkey.patch_all()

    import hashlib, hmac, io, sys
    import gevent
    from hmacfs.app import create_app
    from hmacfs.settings import Settings
    from hmacfs.state.base import Catalog, Sessions

    folder, secret = sys.argv[1:]
    app = create_app(Settings(secret=secret, store_dir=folder + "/store", state_dir=folder + "/state"))
    callers = []

    def counted(name):
        verb = getattr(app.state, name)
        def call(*args):
            callers.append(gevent.getcurrent())
            return verb(*args)
        setattr(app.state, name, call)

    for port in (Catalog, Sessions):
        for name in vars(port):
            if not name.startswith("_"):
                counted(name)

    def answer(number):
        path = f"id/{number}"
        mac = hmac.new(secret.encode(), f"{path} 5".encode(), hashlib.sha256).hexdigest()
        environ = {
            "REQUEST_METHOD": "PUT", "PATH_INFO": f"/upload/{path}", "QUERY_STRING": f"v={mac}",
            "CONTENT_LENGTH": "5", "wsgi.input": io.BytesIO(b"hello"), "REMOTE_ADDR": "192.0.2.1",
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
        }
        told = []
        app(environ, lambda status, headers, exc_info=None: told.append(status))
        return gevent.getcurrent(), told[0]

    app.start()
    jobs = [gevent.spawn(answer, number) for number in range(600)]
    gevent.joinall(jobs, raise_error=True)
    assert {job.value[1] for job in jobs} == {"201 Created"}, jobs[0].value
    app.stop()
    assert callers, "nothing was recorded"
    assert not set(callers) & {job.value[0] for job in jobs}, "a request called a tier"
    assert app.state.find_file("id/599") is not None
    print("on the time of", len(set(callers)) - 1, "other greenlet")
"""


def test_no_upload_calls_a_tier_in_a_worker_of_greenlets(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), "a-secret-for-tests-0123456789abcdef"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "on the time of 1 other greenlet"
