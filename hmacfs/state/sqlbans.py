"""Bans in an SQL server. Failures are counted in slices of time, so that each is one upsert and old ones fall out.

What changes several rows is one transaction: the mark that tells readers of a change is never without it. It begins
with the mark, which who counts holds too: no failure is added to an address that is being banned.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol, TypeVar

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from hmacfs.core import bans as rules
from hmacfs.core.bans import Ban
from hmacfs.errors import StateUnavailable
from hmacfs.state import schema
from hmacfs.state.base import BanBook
from hmacfs.state.batches import parts
from hmacfs.state.statements import add_fails, put
from hmacfs.state.transactions import transaction

T = TypeVar("T")

_BOOK, _MARK, _SECRET = "bans-book", "bans-mark", "bans-secret"
_PURGE_SECONDS = 5.0
_PURGED_SLICES = 3
_COLUMNS = [schema.bans.c[name] for name in Ban.__dataclass_fields__]


class Run(Protocol):
    def __call__(self, work: Callable[[Connection], T], /) -> T: ...


class SqlBans:
    """Args:
    run: work on a connection to a server that has our tables.
    clock: Unix seconds, for the removal of what nobody needs any more.
    """

    def __init__(self, run: Run, clock: Callable[[], float] = time.time) -> None:
        self._run = run
        self._clock = clock
        self._purge_at = 0.0

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        def work(connection: Connection) -> dict[str, int]:
            with transaction(connection):
                _hold_mark(connection)
                counting = sorted(fails.keys() - _banned(connection, sorted(fails), now))
                return dict.fromkeys(fails, 0) | _added(connection, {name: fails[name] for name in counting}, now)

        found = self._run(work) if fails else {}
        self._purge_fails(now)
        return found

    def save(self, bans: Sequence[Ban]) -> set[str]:
        newest: dict[str, Ban] = {}
        for ban in bans:
            if ban.address not in newest or rules.is_newer(ban, newest[ban.address]):
                newest[ban.address] = ban
        rows = [asdict(newest[address]) for address in sorted(newest)]

        def work(connection: Connection) -> set[str]:
            with transaction(connection):
                _mark(connection)  # first: nobody else saves until the end, so what is read is what is replaced
                kept = _kept(connection, sorted(newest))
                for part in parts(rows):
                    put(connection, schema.bans, part)
                _forget_fails(connection, sorted(newest))
                _tidy(connection, int(self._clock()))
            return {address for address, ban in newest.items() if rules.begins(ban, kept.get(address))}

        return self._run(work) if rows else set()

    def read(self, known: str) -> BanBook:
        return self._run(lambda connection: _book(connection, known))

    def agree(self, fingerprint: str) -> bool:
        marks = schema.marks.c
        changing = (
            update(schema.marks).where(marks.name == _SECRET, marks.value != fingerprint).values(value=fingerprint)
        )

        def work(connection: Connection) -> bool:
            with transaction(connection):
                changed = connection.execute(changing).rowcount > 0
                if changed:
                    _mark(connection)
                    connection.execute(delete(schema.bans))
                    connection.execute(delete(schema.fails))
                elif _value(connection, _SECRET) is None:
                    _set(connection, _SECRET, fingerprint)
                return changed

        return self._run(work)

    def _purge_fails(self, now: float) -> None:
        """Remove a few of the oldest slices, which is more than are added meanwhile. Failing at it is no failure."""
        if self._clock() < self._purge_at:
            return
        self._purge_at = self._clock() + _PURGE_SECONDS
        number = schema.fails.c.slice
        oldest = select(number).where(number <= rules.last_expired_slice(now)).distinct().order_by(number)

        def work(connection: Connection) -> None:
            for row in list(connection.execute(oldest.limit(_PURGED_SLICES))):
                connection.execute(delete(schema.fails).where(number == row[0]))

        try:
            self._run(work)
        except StateUnavailable:
            pass


def _set(connection: Connection, name: str, value: str) -> None:
    put(connection, schema.marks, [{"name": name, "value": value}])


def _value(connection: Connection, name: str) -> str | None:
    found: str | None = connection.execute(select(schema.marks.c.value).where(schema.marks.c.name == name)).scalar()
    return found


def _mark(connection: Connection) -> None:
    _set(connection, _MARK, secrets.token_hex(8))


def _hold_mark(connection: Connection) -> None:
    """No ban is saved until the end of this transaction. SQLite has let nobody else begin one anyway."""
    connection.execute(select(schema.marks.c.value).where(schema.marks.c.name == _MARK).with_for_update(read=True))


def _banned(connection: Connection, addresses: Sequence[str], now: float) -> set[str]:
    column = schema.bans.c
    query = select(column.address).where(column.address.in_(addresses), column.until > now)
    return {row[0] for row in connection.execute(query)}


def _kept(connection: Connection, addresses: Sequence[str]) -> dict[str, Ban]:
    """What is there of these addresses."""
    found: dict[str, Ban] = {}
    for part in parts(addresses):
        rows = connection.execute(select(*_COLUMNS).where(schema.bans.c.address.in_(part)))
        found |= {ban.address: ban for ban in (Ban(*row) for row in rows)}
    return found


def _added(connection: Connection, fails: Mapping[str, int], now: float) -> dict[str, int]:
    """More failures, in the order of their addresses; how many of each count now."""
    if not fails:
        return {}
    column, number = schema.fails.c, rules.slice_of(now)
    rows = [{"address": address, "slice": number, "fails": count} for address, count in fails.items()]
    connection.execute(add_fails(rows, connection.dialect.name))
    counting = column.address.in_(list(fails)), column.slice > rules.last_expired_slice(now)
    query = select(column.address, func.sum(column.fails)).where(*counting).group_by(column.address)
    return {address: int(count) for address, count in connection.execute(query)}


def _forget_fails(connection: Connection, addresses: Sequence[str]) -> None:
    for part in parts(addresses):
        connection.execute(delete(schema.fails).where(schema.fails.c.address.in_(part)))


def _tidy(connection: Connection, now: int) -> None:
    """Remove what nobody needs, and what is too many."""
    column = schema.bans.c
    is_over = and_(column.until <= now - rules.DAY, column.until > column.since)
    connection.execute(delete(schema.bans).where(or_(is_over, column.until <= now - rules.LIFT_SECONDS)))
    count = connection.execute(select(func.count()).select_from(schema.bans)).scalar() or 0
    if count > rules.MOST_BANS:
        ending = select(column.address).order_by(column.until, column.address).limit(count - rules.MOST_BANS)
        surplus = [row[0] for row in connection.execute(ending)]
        for part in parts(surplus):
            connection.execute(delete(schema.bans).where(column.address.in_(part)))


def _book(connection: Connection, known: str) -> BanBook:
    book, mark = _value(connection, _BOOK), _value(connection, _MARK)
    if book is None or mark is None:  # two that come here at once: the last one's counts, and the other reads it next
        book, mark = secrets.token_hex(8), secrets.token_hex(8)
        with transaction(connection):
            _set(connection, _BOOK, book)
            _set(connection, _MARK, mark)
    if mark == known:
        return BanBook(book, known, None)
    # The mark was read first: a change that comes between is in the rows already, and read again with its own mark.
    rows = connection.execute(select(*_COLUMNS).order_by(schema.bans.c.until.desc()).limit(rules.MOST_BANS))
    return BanBook(book, mark, [Ban(*row) for row in rows])
