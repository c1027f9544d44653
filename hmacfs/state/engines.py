"""How each SQL server is reached: addresses, time limits, and the drivers' peculiarities.

An engine made here has no connection yet. A driver is imported when its engine is made, so a machine needs only the
one that it uses.
"""

import functools
import socket
import sqlite3
import threading
from typing import Any

from sqlalchemy import URL, Engine, NullPool, create_engine, event

from hmacfs.state import statefile
from hmacfs.state.addresses import ServerAddress
from hmacfs.state.limits import on_gevent, wait_readable, wait_writable

WAIT_SECONDS = 0.8
"""For each single wait for PostgreSQL."""
STATEMENT_MILLISECONDS = 900
"""After which PostgreSQL itself gives up on a statement, so that nothing that we left goes on working there."""
_MYSQL_SECONDS = 1
_SQLITE_SECONDS = 2.0
_INODE = "hmacfs.inode"
IS_CURRENT = "hmacfs.is_current"
IS_NEW = "hmacfs.is_new"


def postgres(server: ServerAddress, user: str, password: str, database: str) -> Engine:
    """PostgreSQL through psycopg2, whose waits let other greenlets run."""
    _limit_waits_of_psycopg2()
    import psycopg2

    def connect() -> Any:
        return psycopg2.connect(
            **_where(server),
            user=user,
            password=password,
            dbname=database,
            application_name="hmacfs",
            client_encoding="utf8",
            gssencmode="disable",  # a round trip and a library more, for nothing
            connect_timeout=2,  # the least that libpq takes; the wait callback is stricter
            tcp_user_timeout=STATEMENT_MILLISECONDS,
            options=f"-c statement_timeout={STATEMENT_MILLISECONDS}",
        )

    return _engine("postgresql+psycopg2://", creator=connect)


def _where(server: ServerAddress) -> dict[str, Any]:
    """libpq's own name resolution would stop the whole process; Python's is cooperative."""
    if server.path:
        folder, _, name = server.path.rpartition("/")
        prefix, _, port = name.rpartition(".")
        if prefix == ".s.PGSQL":  # libpq wants the folder
            return {"host": folder, "port": port}
        return {"host": server.path}
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    return {"host": server.host, "hostaddr": found[0][4][0], "port": server.port}


def _limit_waits_of_psycopg2() -> None:
    """psycopg2 has one wait callback for the whole process. With one in place it ignores connect_timeout, so each
    wait gets a limit. An exception out of the callback closes the connection."""
    from psycopg2 import extensions

    if on_gevent():
        from psycogreen.gevent import gevent_wait_callback

        extensions.set_wait_callback(functools.partial(gevent_wait_callback, timeout=WAIT_SECONDS))
    else:
        extensions.set_wait_callback(_wait_for_psycopg2)


def _wait_for_psycopg2(connection: Any) -> None:
    from psycopg2 import OperationalError, extensions

    while (state := connection.poll()) != extensions.POLL_OK:
        if state == extensions.POLL_READ:
            wait_readable(connection.fileno(), WAIT_SECONDS)
        elif state == extensions.POLL_WRITE:
            wait_writable(connection.fileno(), WAIT_SECONDS)
        else:
            raise OperationalError(f"poll() said {state}")


def mysql(server: ServerAddress, user: str, password: str, database: str) -> Engine:
    """MySQL or MariaDB through mysqlclient, which blocks its thread: only for a pool of threads."""
    import MySQLdb.cursors

    class WideCursor(MySQLdb.cursors.Cursor):  # type: ignore[misc]
        max_stmt_length = 1 << 20  # a page of rows in one statement; the default of 64 KiB would cut it in pieces

    where = {"unix_socket": server.path} if server.path else {"host": server.host, "port": server.port}
    return _engine(
        URL.create("mysql+mysqldb", database=database),
        connect_args={
            **where,
            "user": user,
            "password": password,
            "charset": "utf8mb4",
            "connect_timeout": _MYSQL_SECONDS,
            "read_timeout": _MYSQL_SECONDS,
            "write_timeout": _MYSQL_SECONDS,
            "cursorclass": WideCursor,
        },
    )


def embedded(path: str) -> Engine:
    """SQLite in a local file that nobody else may read; the file and its folder are made when it is first used.

    A damaged file is set aside, and the statement that found it so raises ``statefile.Renewed``. In ``info`` of a
    connection IS_CURRENT says whether the file is still there, and IS_NEW that it may lack our tables.
    """
    engine = _engine(
        URL.create("sqlite", database=path),
        connect_args={"timeout": _SQLITE_SECONDS, "check_same_thread": False},  # lent to one thread at a time
    )
    opened = threading.local()  # which file this thread is connecting to
    known: set[int] = set()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, given: Any, named: Any) -> sqlite3.Connection:
        # Until SQLite has read the file: one that opened a damaged file would take the -wal of that which replaces it
        # for its own, and write into the damaged one what others had written there.
        with statefile.steady(path) as opened.inode:
            connection: sqlite3.Connection = sqlite3.connect(*given, **named)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
            except BaseException:
                connection.close()
                raise
            return connection

    @event.listens_for(engine, "connect")
    def note(_connection: Any, record: Any) -> None:
        inode = opened.inode
        record.info[_INODE] = inode
        record.info[IS_CURRENT] = functools.partial(statefile.is_same, path, inode)
        record.info[IS_NEW] = inode not in known
        known.clear()
        known.add(inode)

    @event.listens_for(engine, "handle_error")
    def renew(context: Any) -> None:
        if statefile.is_damage(context.original_exception):
            connection = context.connection
            statefile.set_aside(path, opened.inode if connection is None else connection.info[_INODE])
            raise statefile.Renewed("the file was damaged")

    return engine


def _engine(url: str | URL, **more: Any) -> Engine:
    """Statements commit by themselves: each verb is one. Connections are kept in ``connections``, not here. Values are
    left out of every message."""
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True, **more)
