"""One schema for PostgreSQL, MySQL or MariaDB, and SQLite, and its creation by several processes at once."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
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
    text,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeDecorator, TypeEngine

from hmacfs.core.paths import MAX_PATH_BYTES
from hmacfs.errors import StateUnavailable
from hmacfs.state.base import FILE_ORDER, SESSION_ORDER

VERSION = 4
"""2: sessions have an order, and the book of what is outdated says which upload it means. 3: leases, bans, quotas.
4: files have an order."""

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
# A table with an ``order`` keeps a row that is newer by these columns, the weightiest first.
files = Table(
    "hmacfs_files",
    metadata,
    Column("path", PathText, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("uploader", String(1024), nullable=False),
    Column("stored_us", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    info={"order": FILE_ORDER},
    **_OPTIONS,
)

# Names may be longer than what an index of a tree takes. Most files have none, and need not be in it.
files_by_uploader = Index(
    "hmacfs_files_uploader",
    files.c.uploader,
    postgresql_using="hash",
    postgresql_where=files.c.uploader != "",
    sqlite_where=files.c.uploader != "",
    mysql_length=191,
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
    Column("started_ms", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("is_over", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("hmacfs_sessions_expiry", "expires_at", "key"),
    info={"order": SESSION_ORDER},
    **_OPTIONS,
)

outdated = Table(
    "hmacfs_outdated",
    metadata,
    Column("tier", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("key", PathText, primary_key=True),
    Column("started_ms", BigInteger, nullable=False, server_default="0"),  # of the upload that ended; 0 for files
    Column("revision", BigInteger, nullable=False),
    info={"order": ("started_ms",)},
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

bans = Table(
    "hmacfs_bans",
    metadata,
    Column("address", String(64), primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
    Index("hmacfs_bans_end", "until"),
    info={"order": ("since", "until")},
    **_OPTIONS,
)

fails = Table(
    "hmacfs_fails",
    metadata,
    Column("address", String(64), primary_key=True),
    Column("slice", BigInteger, primary_key=True, autoincrement=False),  # core.bans.slice_of
    Column("fails", Integer, nullable=False),
    Index("hmacfs_fails_slice", "slice"),
    **_OPTIONS,
)

marks = Table(
    "hmacfs_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
    **_OPTIONS,
)

counts = Table(
    "hmacfs_counts",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("stored", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("holds", Boolean, nullable=False),
    Column("settled", BigInteger, nullable=False),  # how often something was
    **_OPTIONS,
)

reservations = Table(
    "hmacfs_reservations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("owner", String(32), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("hmacfs_reservations_account", "account", "expires_at"),
    Index("hmacfs_reservations_expiry", "expires_at"),
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
    """Insert, or replace all columns of the row with the same primary key: one statement however many rows.

    A table with an order keeps the row that it has where that one is newer.
    """
    if dialect == "mysql":
        return _mysql_upsert(table)
    into: postgresql.Insert | sqlite.Insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return _on_conflict(table, into)


def add_fails(rows: Sequence[dict[str, Any]], dialect: str) -> Insert:
    """More failures: one statement that adds to the slices that are there. Rows are ordered, each slice once."""
    if dialect == "mysql":
        into_mysql = mysql.insert(fails).values(rows)
        return into_mysql.on_duplicate_key_update(fails=fails.c.fails + into_mysql.inserted.fails)
    into = (postgresql if dialect == "postgresql" else sqlite).insert(fails).values(rows)
    added = fails.c.fails + into.excluded.fails
    return into.on_conflict_do_update(index_elements=["address", "slice"], set_={"fails": added})  # type: ignore[no-any-return]


def upsert_columns(table: Table) -> Insert:
    """``upsert`` for PostgreSQL whose parameters are columns: each name with the list of its values.

    psycopg2 sends a list of rows one by one, and SQLAlchemy joins them only without ON CONFLICT.
    """
    lists = []
    for column in table.columns:
        kind = column.type if isinstance(column.type, Boolean) else _wide(column)
        lists.append(func.unnest(cast(bindparam(column.name), postgresql.ARRAY(kind))))
    names = [column.name for column in table.columns]
    return _on_conflict(table, postgresql.insert(table).from_select(names, select(*lists)))


def _wide(column: Column[Any]) -> TypeEngine[Any]:
    return BigInteger() if isinstance(column.type, Integer) else Text()


def _values(table: Table) -> list[str]:
    return [column.name for column in table.columns if not column.primary_key]


def _is_newer(table: Table, given: Any) -> ColumnElement[bool]:
    """Whether what is given is at least as new as the row that is there."""
    order = table.info["order"]
    return tuple_(*(given[name] for name in order)) >= tuple_(*(table.c[name] for name in order))


def _on_conflict(table: Table, into: postgresql.Insert | sqlite.Insert) -> Insert:
    return into.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={name: into.excluded[name] for name in _values(table)},
        where=_is_newer(table, into.excluded) if "order" in table.info else None,
    )


def _mysql_upsert(table: Table) -> Insert:
    into = mysql.insert(table)
    given = into.inserted
    order = table.info.get("order", ())
    # There is no WHERE. And the assignments are carried out from left to right, each seeing the ones before it: what
    # the comparison looks at comes last and the weightiest at the very end, or a newer row would be replaced by halves.
    names = [name for name in _values(table) if name not in order] + list(reversed(order))
    if not order:
        return into.on_duplicate_key_update([(name, given[name]) for name in names])
    newer = _is_newer(table, given)
    return into.on_duplicate_key_update([(name, func.IF(newer, given[name], table.c[name])) for name in names])


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
    """Make what is missing. Several processes may do so at the same moment, and each may be killed anywhere.

    Raises:
        StateUnavailable: the tables are of a later version than this program's, or the database cannot keep every path.
    """
    _refuse_encoding(connection)
    names = _names(connection)
    found = _version(connection, names)
    # Each may have been lost, and who made them may have been killed before the version was written.
    if found is None or found < VERSION or not names.issuperset(metadata.tables):
        _lock(connection)
        found = _made(connection)
        _unlock(connection)
    if found != VERSION:
        raise StateUnavailable(f"the tables are of version {found}, this program knows version {VERSION}")


def _refuse_encoding(connection: Connection) -> None:
    """A path is UTF-8. PostgreSQL keeps texts in the encoding of the whole database; the others are told by us."""
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.dbapi_connection
        encoding = driver.get_parameter_status("server_encoding")  # said by the server at the start: no round trip
        if encoding != "UTF8":
            raise StateUnavailable(f"its encoding is {encoding}: make the database with ENCODING 'UTF8'")


def _made(connection: Connection) -> int:
    """The version of the tables once nothing is missing. Those of a newer program are not ours to touch."""
    names = _names(connection)
    found = _version(connection, names)  # it may have changed until the lock was ours
    if found is not None and found > VERSION:
        return found
    _upgrade(connection, names)
    metadata.create_all(connection, checkfirst=True)
    # The version comes last: whoever sees it sees everything.
    connection.execute(upsert(schema, connection.dialect.name), {"id": 1, "version": VERSION})
    return VERSION


def _upgrade(connection: Connection, names: set[str]) -> None:
    """Old tables get the columns and the index that they lack. It looks at the tables and not at what they say of
    themselves: whoever began this may have been killed anywhere."""
    if sessions.name in names and not _has(connection, sessions, "is_over"):
        # Sessions are only an index of the partials on disk: each comes back with the next piece of its upload.
        connection.execute(text(f"DROP TABLE {sessions.name}"))
    if outdated.name in names and not _has(connection, outdated, "started_ms"):
        # An end of an upload that does not say when it began ends none; the files in the book must stay in it.
        connection.execute(text(f"ALTER TABLE {outdated.name} ADD COLUMN started_ms BIGINT NOT NULL DEFAULT 0"))
    if files.name in names and not _has(connection, files, "stored_us"):
        # Seconds are below this bound and microseconds above it: who was killed between the two may begin anew.
        connection.execute(
            text("UPDATE hmacfs_files SET stored_at = stored_at * 1000000 WHERE stored_at < 100000000000")
        )
        connection.execute(text("ALTER TABLE hmacfs_files RENAME COLUMN stored_at TO stored_us"))
    if files.name in names:
        files_by_uploader.create(connection, checkfirst=True)


def _has(connection: Connection, table: Table, column: str) -> bool:
    return any(found["name"] == column for found in inspect(connection).get_columns(table.name))


def _names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _version(connection: Connection, names: set[str]) -> int | None:
    """What the tables say; None where they do not say it."""
    if schema.name not in names:
        return None
    found: int | None = connection.execute(select(schema.c.version)).scalar()
    return found


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
