"""One schema for PostgreSQL, MySQL or MariaDB, and SQLite, and its creation by several processes at once."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    bindparam,
    cast,
    func,
    inspect,
    or_,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeDecorator, TypeEngine

from hmacfs.core.paths import MAX_PATH_BYTES
from hmacfs.errors import StateUnavailable

VERSION = 2

_LOCK = 0x686D6163  # "hmac": the number under which PostgreSQL knows our lock
_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


class PathText(TypeDecorator[str]):
    """Text of up to 1024 bytes of UTF-8 that every server compares and orders by its bytes.

    PostgreSQL's own order depends on the locale, so it is told "C". MySQL's binary collations ignore spaces at the
    end and their indexes are bounded by characters, so there it is bytes. SQLite compares bytes anyway.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "mysql":
            return dialect.type_descriptor(mysql.VARBINARY(MAX_PATH_BYTES))
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TEXT(collation="C"))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        if value is not None and dialect.name == "mysql":
            return value.encode()
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy gives it
        return value.decode() if isinstance(value, bytes) else value


metadata = MetaData()

# ``revision`` is a random number, new with every write: what was handed up is told from what was written since.
files = Table(
    "hmacfs_files",
    metadata,
    Column("path", PathText, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("uploader", String(1024), nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    **_OPTIONS,
)

sessions = Table(
    "hmacfs_sessions",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("path", PathText, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("face", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("hmacfs_sessions_expiry", "expires_at", "key"),
    **_OPTIONS,
)

outdated = Table(
    "hmacfs_outdated",
    metadata,
    Column("tier", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("key", PathText, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    **_OPTIONS,
)

leases = Table(
    "hmacfs_leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    **_OPTIONS,
)

schema = Table(
    "hmacfs_schema",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # always 1
    Column("version", Integer, nullable=False),
    **_OPTIONS,
)


def upsert(table: Table, dialect: str) -> Insert:
    """Insert, or replace all columns of the row with the same primary key: one statement however many rows."""
    keys = [column.name for column in table.primary_key]
    values = [column.name for column in table.columns if column.name not in keys]
    if dialect == "mysql":
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update({name: statement.inserted[name] for name in values})
    if dialect == "postgresql":
        into_postgres = postgresql.insert(table)
        return into_postgres.on_conflict_do_update(
            index_elements=keys, set_={name: into_postgres.excluded[name] for name in values}
        )
    into_sqlite = sqlite.insert(table)
    return into_sqlite.on_conflict_do_update(
        index_elements=keys, set_={name: into_sqlite.excluded[name] for name in values}
    )


def upsert_columns(table: Table) -> Insert:
    """``upsert`` for PostgreSQL whose parameters are columns: each name with the list of its values.

    psycopg2 sends a list of rows one by one, and SQLAlchemy joins them only without ON CONFLICT.
    """
    lists = []
    for column in table.columns:
        kind = BigInteger() if isinstance(column.type, Integer) else Text()
        lists.append(func.unnest(cast(bindparam(column.name), postgresql.ARRAY(kind))))
    keys = [column.name for column in table.primary_key]
    statement = postgresql.insert(table).from_select([column.name for column in table.columns], select(*lists))
    values = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)


def take_lease(dialect: str, now: int) -> Insert:
    """Insert a lease, or replace one that is over at ``now`` or the same holder's already, in one statement."""
    if dialect == "mysql":
        statement = mysql.insert(leases)
        may = or_(leases.c.holder == statement.inserted.holder, leases.c.expires_at <= now)
        # MySQL sets one column after the other: once the holder is ours, the first question says yes.
        both: dict[str, Any] = {
            name: func.if_(may, statement.inserted[name], leases.c[name]) for name in ("holder", "expires_at")
        }
        return statement.on_duplicate_key_update(both)
    insert = postgresql.insert(leases) if dialect == "postgresql" else sqlite.insert(leases)
    new = {name: insert.excluded[name] for name in ("holder", "expires_at")}
    may = or_(leases.c.holder == insert.excluded.holder, leases.c.expires_at <= now)
    return insert.on_conflict_do_update(index_elements=["name"], set_=new, where=may)


def create(connection: Connection) -> None:
    """Make what is missing, also what an earlier version did not have. Several processes may do so at once.

    Raises:
        StateUnavailable: the tables are of a later version than this program's.
    """
    if _version(connection) < VERSION:
        _lock(connection)
        # The version comes last: whoever sees it sees everything.
        metadata.create_all(connection, [files, sessions, outdated, leases], checkfirst=True)
        metadata.create_all(connection, [schema], checkfirst=True)
        connection.execute(upsert(schema, connection.dialect.name), {"id": 1, "version": VERSION})
        _unlock(connection)
    found = _version(connection)
    if found == 0:  # the other process is between its last two statements
        raise StateUnavailable("the tables are being made")
    if found != VERSION:
        raise StateUnavailable(f"the tables are of version {found}, this program knows version {VERSION}")


def _version(connection: Connection) -> int:
    """Of the tables that are there; 0 for none."""
    if not inspect(connection).has_table(schema.name):
        return 0
    return connection.execute(select(schema.c.version)).scalar() or 0


def _lock(connection: Connection) -> None:
    """CREATE TABLE IF NOT EXISTS alone fails in PostgreSQL when two do it at once."""
    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        case "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        case _:
            if not connection.exec_driver_sql("SELECT GET_LOCK('hmacfs', 1)").scalar():
                raise StateUnavailable("the tables are being made")


def _unlock(connection: Connection) -> None:
    # After a failure nobody comes here: the connection is given up, and its lock with it.
    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
        case "sqlite":
            connection.exec_driver_sql("COMMIT")
        case _:
            connection.exec_driver_sql("SELECT RELEASE_LOCK('hmacfs')")
