"""The tables are made, and old ones get what they lack, by several processes at once of which each may be killed."""

from typing import Any

from sqlalchemy import Connection, Table, inspect, select, text

from hmacfs.errors import StateUnavailable
from hmacfs.state.schema import VERSION, files, files_by_uploader, metadata, outdated, schema, sessions
from hmacfs.state.statements import upsert

_LOCK = 0x686D6163  # "hmac": the number under which PostgreSQL knows our lock


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
