"""A few connections to one SQL server, lent for one piece of work at a time; drivers' errors end here.

SQLAlchemy's own pool asks a silent server twice (ping, then connect), each time for the whole time limit, and its locks
are gevent's, which must not meet native threads. So connections are kept here: at most ``most``, looked at before use
when they have been idle, and given up after any error.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from hmacfs.errors import StateUnavailable
from hmacfs.offload import InlinePool, Pool
from hmacfs.state.base import RowsRejected
from hmacfs.state.engines import IS_CURRENT
from hmacfs.state.limits import VERB_SECONDS, TimeLimit, time_limit
from hmacfs.state.statefile import Renewed

T = TypeVar("T")

_IDLE_SECONDS = 1.0
"""After which a connection is looked at before it is used again."""
_TURN_SECONDS = 0.5
"""How long one waits for a connection while all are lent."""
_SILENT_SECONDS = 0.3
"""A look that failed sooner found a closed connection, and another is made; later, a silent server."""
_DEADLOCKS = {"40P01", "40001", 1213, 1205}
"""SQLSTATE of PostgreSQL, error numbers of MySQL: the statement was undone and may be run again."""
_REJECTING_CLASSES = ("22", "23")
"""Of SQLSTATE: data exception, integrity constraint violation."""
_REJECTIONS = {1264, 1265, 1292, 1300, 1366, 1406, 3819, 4025}
"""MySQL's and MariaDB's numbers for the same, which the driver does not always call so."""
_ATTEMPTS = 5


_RENEWALS = 3
"""How often a file that was replaced is tried anew: others who found the damage replace it at the same moment."""


class Connections:
    """Lends connections to one server.

    Args:
        make_engine: called at first use, never before: workers fork first.
        pool: threads for a driver that blocks; InlinePool where waits are cooperative.
        most: at once.
    """

    def __init__(self, make_engine: Callable[[], Engine], pool: Pool, most: int) -> None:
        self._make_engine = make_engine
        self._pool = pool
        self._turns = threading.BoundedSemaphore(most)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._engine: Engine | None = None
        self._failures = 0
        # A job in a native thread cannot be interrupted; its driver has limits of its own.
        self._limit: Callable[[], AbstractContextManager[None]] = (
            partial(time_limit, VERB_SECONDS) if isinstance(pool, InlinePool) else nullcontext
        )

    def run(self, work: Callable[[Connection], T]) -> T:
        """``work(connection)``, which may be run again after a deadlock.

        Raises:
            RowsRejected: it does not take these values.
            StateUnavailable: it cannot be reached, did not answer in time, or refused; no values are told.
        """
        with _translated(), self._turn(), self._limit():
            for _ in range(_RENEWALS):
                with suppress(Renewed):
                    result: T = self._pool.run(self._lend, work)
                    return result
            raise StateUnavailable("its file is damaged again and again")

    def close(self) -> None:
        """Give up what is idle. Never raises."""
        while self._idle:
            _discard(self._idle.pop()[0])
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        seen = self._failures
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise StateUnavailable("no connection became free in time")
        try:
            if self._failures != seen:  # somebody found it dead while we waited; we need not find that out again
                raise StateUnavailable("it failed a moment ago")
            yield
        finally:
            self._turns.release()

    def _lend(self, work: Callable[[Connection], T]) -> T:
        try:
            connection = self._take()
        except BaseException as error:
            self._failures += not isinstance(error, Renewed)
            raise
        try:
            result = _repeated(work, connection)
        except BaseException as error:
            self._failures += not (_is_rejection(error) or isinstance(error, Renewed))
            _discard(connection)
            raise
        self._idle.append((connection, time.monotonic()))
        return result

    def _take(self) -> Connection:
        if self._engine is None:
            self._engine = self._make_engine()
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if not connection.info.get(IS_CURRENT, _always)():  # its file was deleted, or set aside by another process
                _discard(connection)
                continue
            asked = time.monotonic()
            if asked - since < _IDLE_SECONDS or _answers(connection):
                return connection
            _discard(connection)
            if time.monotonic() - asked > _SILENT_SECONDS:
                raise TimeLimit
        return self._engine.connect()


def _always() -> bool:
    return True


def _answers(connection: Connection) -> bool:
    driver = connection.connection.dbapi_connection
    try:
        return driver is not None and connection.dialect.do_ping(driver)
    except Exception:  # noqa: BLE001 - whatever it says, it is of no use
        return False


def _discard(connection: Connection) -> None:
    try:
        connection.invalidate()
        connection.close()
    except Exception:  # noqa: BLE001, S110 - it is being thrown away
        pass


def _repeated(work: Callable[[Connection], T], connection: Connection) -> T:
    for _ in range(_ATTEMPTS - 1):
        try:
            return work(connection)
        except DBAPIError as error:
            if not _is_deadlock(error):
                raise
    return work(connection)


def _is_deadlock(error: DBAPIError) -> bool:
    if error.orig is None:
        return False
    number = error.orig.args[0] if error.orig.args else None
    return getattr(error.orig, "pgcode", None) in _DEADLOCKS or number in _DEADLOCKS


def _is_rejection(error: BaseException) -> bool:
    """Whether the server speaks of the values, and not of itself."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    number = error.orig.args[0] if error.orig.args else None
    state = getattr(error.orig, "pgcode", None) or ""
    is_of_values = isinstance(error, DataError | IntegrityError) or state[:2] in _REJECTING_CLASSES
    return is_of_values or number in _REJECTIONS


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (TimeLimit, TimeoutError) as error:
        raise StateUnavailable("no answer in time") from error
    except (SQLAlchemyError, OSError) as error:
        raise (RowsRejected if _is_rejection(error) else StateUnavailable)(_reason(error)) from error
    except ImportError as error:
        raise StateUnavailable(f"the driver is not installed ({error.name})") from error


def _reason(error: Exception) -> str:
    """The kind and number of an error. Its text is left out: servers quote values in theirs."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    number = getattr(cause, "pgcode", None) or getattr(cause, "sqlite_errorname", None)
    if number is None and cause.args and isinstance(cause.args[0], int):
        number = cause.args[0]
    if "Connection refused" in str(cause):
        return "connection refused"
    return f"{type(cause).__name__} {number}" if number else type(cause).__name__
