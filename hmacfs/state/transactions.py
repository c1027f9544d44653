"""Several statements as one, on connections that commit each statement by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN", "mysql": "START TRANSACTION"}
_SEE_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


@contextmanager
def transaction(connection: Connection, *, sees_committed: bool = False) -> Iterator[None]:
    """A ``with`` block whose statements count together or not at all. After a failure that is no deadlock the
    connection is given up, and the transaction with it.

    Args:
        sees_committed: in MySQL, too, each statement sees what is committed, as in PostgreSQL, and no gaps between rows
            are locked.
    """
    if sees_committed and connection.dialect.name == "mysql":
        connection.exec_driver_sql(_SEE_COMMITTED)
    connection.exec_driver_sql(_BEGIN[connection.dialect.name])
    try:
        yield
    except DBAPIError:
        # A deadlock is tried again on the same connection, where MySQL has undone the statement only.
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
