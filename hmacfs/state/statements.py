"""What the tables are written with: one statement each, in the words of PostgreSQL, MySQL or MariaDB, and SQLite."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeEngine

from hmacfs.state.schema import fails, leases

Made = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[Any]]
"""A column's value from the one that it has and the one that is given."""


def put(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """``upsert`` with these rows, at least one: in one statement, or in SQLite, which is no server, in one for each."""
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(rows) > 1:
        connection.execute(upsert_columns(table), {name: [row[name] for row in rows] for name in rows[0]})
    else:  # MySQL's driver joins them
        connection.execute(upsert(table, dialect), rows if len(rows) > 1 else rows[0])


def upsert(table: Table, dialect: str) -> Insert:
    """Insert, or replace all columns of the row with the same primary key: one statement however many rows.

    A table with an order keeps the row that it has where that one is newer.
    """
    if dialect == "mysql":
        return _mysql_upsert(table)
    return _on_conflict(table, _insert(table, dialect))


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


def insert_or_update(table: Table, columns: Mapping[str, Made | None], dialect: str) -> Insert:
    """Insert, or update these columns of the row with the same primary key: to what is given, or to what a function
    makes of it."""
    if dialect == "mysql":
        into_mysql = mysql.insert(table)
        return into_mysql.on_duplicate_key_update(_made(table, into_mysql.inserted, columns))
    into = _insert(table, dialect)
    keys = [column.name for column in table.primary_key]
    return into.on_conflict_do_update(index_elements=keys, set_=_made(table, into.excluded, columns))


def _insert(table: Table, dialect: str) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _made(table: Table, given: Any, columns: Mapping[str, Made | None]) -> dict[str, Any]:
    return {name: given[name] if make is None else make(table.c[name], given[name]) for name, make in columns.items()}


def add_fails(rows: Sequence[dict[str, Any]], dialect: str) -> Insert:
    """More failures: one statement that adds to the slices that are there. Rows are ordered, each slice once."""
    return insert_or_update(fails, {"fails": lambda old, more: old + more}, dialect).values(rows)


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
    insert = _insert(leases, dialect)
    new = {name: insert.excluded[name] for name in ("holder", "expires_at")}
    may = or_(leases.c.holder == insert.excluded.holder, leases.c.expires_at <= now)
    return insert.on_conflict_do_update(index_elements=["name"], set_=new, where=may)
