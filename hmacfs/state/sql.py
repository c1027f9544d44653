"""State in an SQL server, or in SQLite beside our own files. Each verb is one statement, so it is atomic by itself.

A verb on a file's path or a session's key touches one row by its primary key. Rows of a batch are written in the order
of their keys, so that two batches do not wait for each other crosswise.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, func, select

from hmacfs.errors import StateUnavailable
from hmacfs.offload import InlinePool, Pool
from hmacfs.state import base, creation, schema
from hmacfs.state.accounts import SqlAccounts
from hmacfs.state.base import BanStore, FileRow, Held, Kind, RowsRejected, SessionRow, page
from hmacfs.state.batches import BATCH, parts
from hmacfs.state.connections import Connections
from hmacfs.state.engines import IS_NEW
from hmacfs.state.sqlbans import SqlBans
from hmacfs.state.statements import put, take_lease

T = TypeVar("T")

_PURGE_SECONDS = 60.0
_WARN_SECONDS = 60.0
"""Between two warnings of rows that were left out."""

_TABLES = {Kind.FILES: schema.files, Kind.SESSIONS: schema.sessions}
_FILE_COLUMNS = [schema.files.c[name] for name in FileRow.__dataclass_fields__]
_SESSION_COLUMNS = [schema.sessions.c[name] for name in SessionRow.__dataclass_fields__]
_COLUMNS = {Kind.FILES: _FILE_COLUMNS, Kind.SESSIONS: _SESSION_COLUMNS}


class SqlTier(SqlAccounts):
    """One SQL database as a tier.

    Args:
        name: "postgres", "mysql" or "embedded".
        make_engine: one of ``engines``, with its arguments; called at first use.
        pool: where jobs run; native threads for mysqlclient and SQLite under gevent.
        most: connections at once.
        clock: Unix seconds, for the removal of what has expired only.
    """

    def __init__(
        self,
        name: str,
        make_engine: Callable[[], Engine],
        pool: Pool | None = None,
        most: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._connections = Connections(make_engine, pool or InlinePool(), most)
        self._clock = clock
        self._purge_at = clock() + _PURGE_SECONDS
        self._ready = False
        self._warn_at = 0.0
        self.bans: BanStore = SqlBans(self.run, clock)

    def record_files(self, rows: Sequence[FileRow]) -> None:
        self._write(Kind.FILES, base.newest(rows))  # PostgreSQL refuses a batch that names a row twice

    def find_file(self, path: str) -> FileRow | None:
        query = select(*_FILE_COLUMNS).where(schema.files.c.path == path)
        return next((FileRow(*row) for row in self._all(query)), None)

    def forget_files(self, paths: Sequence[str]) -> None:
        path = schema.files.c.path
        for part in parts(sorted(set(paths))):
            self._delete(schema.files, path.in_(part))

    def list_files(self, after: str, limit: int) -> list[FileRow]:
        path = schema.files.c.path
        query = select(*_FILE_COLUMNS).where(path > after).order_by(path).limit(page(limit))
        return [FileRow(*row) for row in self._all(query)]

    def stored_bytes(self, uploader: str) -> int:
        column = schema.files.c
        # The second condition is for the index, which does not hold files without an uploader.
        named = (
            column.uploader == uploader,
            func.length(column.uploader) == func.length(uploader),
        )  # MySQL ignores spaces
        query = select(func.sum(column.size)).where(*named, column.uploader != "")
        return int(self._all(query)[0][0] or 0)

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        self._write(Kind.SESSIONS, base.newest(rows))
        now = self._clock()
        if now >= self._purge_at:
            is_all = self._purge(int(now))
            self._purge_at = now + _PURGE_SECONDS if is_all else now

    def find_session(self, key: str, now: int) -> SessionRow | None:
        column = schema.sessions.c
        query = select(*_SESSION_COLUMNS).where(column.key == key, column.expires_at > now, ~column.is_over)
        return next((SessionRow(*row) for row in self._all(query)), None)

    def list_sessions(self, now: int, limit: int) -> list[SessionRow]:
        column = schema.sessions.c
        living = select(*_SESSION_COLUMNS).where(column.expires_at > now, ~column.is_over)
        query = living.order_by(column.expires_at, column.key).limit(page(limit))
        return [SessionRow(*row) for row in self._all(query)]

    def lease(self, name: str, holder: str, seconds: int, now: int) -> bool:
        values = {"name": name, "holder": holder, "expires_at": now + seconds}

        def take(connection: Connection) -> bool:
            connection.execute(take_lease(connection.dialect.name, now), values)
            # Nobody takes a lease of ours before it is over, so what stands there now says who got it.
            owner = connection.execute(select(schema.leases.c.holder).where(schema.leases.c.name == name)).scalar()
            return bool(owner == holder)

        return self.run(take)

    def purge(self, now: int) -> None:
        self._purge(now)

    def held(self, kind: Kind, limit: int) -> Held:
        table = _TABLES[kind]
        query = select(*_COLUMNS[kind], table.c.revision).order_by(*table.primary_key).limit(page(limit))
        found = self._all(query)
        make: Callable[..., base.Row] = FileRow if kind is Kind.FILES else SessionRow
        return Held(kind, [make(*row[:-1]) for row in found], [row[-1] for row in found])

    def release(self, held: Held) -> None:
        table = _TABLES[held.kind]
        (key,) = table.primary_key
        pairs = [(base.key_of(row), revision) for row, revision in zip(held.rows, held.revisions, strict=True)]
        for part in parts(pairs):
            keys, revisions = [found for found, _ in part], [revision for _, revision in part]
            self._delete(table, key.in_(keys), table.c.revision.in_(revisions))

    def ping(self) -> None:
        self._ready = False
        self.run(lambda _connection: None)

    def close(self) -> None:
        self._connections.close()

    def run(self, work: Callable[[Connection], T]) -> T:
        """``work`` on a connection to a server that has our tables. Raises StateUnavailable."""

        def prepared(connection: Connection) -> T:
            if connection.info.pop(IS_NEW, False) or not self._ready:
                creation.create(connection)
                self._ready = True
            return work(connection)

        return self._connections.run(prepared)

    def upsert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """Write rows, ordered by their keys and each key once, with a new revision. See ``statements.upsert``. One that
        the server cannot keep is left out and told: it must keep no other row from being written, now or at a
        handover."""
        for row in rows:
            row["revision"] = random.getrandbits(63)
        rejected = sum(self._upsert(table, part) for part in parts(rows))
        if rejected and (now := self._clock()) >= self._warn_at:
            self._warn_at = now + _WARN_SECONDS
            logging.getLogger(__name__).warning("State tier: %s does not take %d rows", self.name, rejected)

    def _upsert(self, table: Table, rows: Sequence[dict[str, Any]]) -> int:
        """How many rows were left out. They are found by halves, since a server tells of a batch as a whole."""
        try:
            self.run(lambda connection: _execute_whole(connection, table, rows))
        except RowsRejected:
            half = len(rows) // 2
            return self._upsert(table, rows[:half]) + self._upsert(table, rows[half:]) if half else 1
        return 0

    def _write(self, kind: Kind, rows: Mapping[str, base.Row]) -> None:
        table = _TABLES[kind]
        names = [column.name for column in _COLUMNS[kind]]
        self.upsert(table, [dict(zip(names, base.values(rows[key]), strict=True)) for key in sorted(rows)])

    def _delete(self, table: Table, *conditions: ColumnElement[bool]) -> None:
        self.run(lambda connection: connection.execute(delete(table).where(*conditions)))

    def _all(self, query: Any) -> list[Any]:
        return self.run(lambda connection: list(connection.execute(query)))

    def _purge(self, now: int) -> bool:
        """Remove a page of expired sessions; whether that was all. Failing at it is no failure of the verb that came
        by."""
        column = schema.sessions.c
        is_expired = column.expires_at <= now
        query = select(column.key).where(is_expired).order_by(column.expires_at).limit(BATCH)
        try:
            expired = [row[0] for row in self._all(query)]
            if expired:
                self._delete(schema.sessions, column.key.in_(expired), is_expired)  # one may have been saved meanwhile
        except StateUnavailable:
            return True
        return len(expired) < BATCH


def _execute_whole(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    if len(rows) == 1 or connection.dialect.name != "sqlite":
        put(connection, table, rows)
    else:  # one transaction, or each row would be synced
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        put(connection, table, rows)
        connection.exec_driver_sql("COMMIT")
