"""How many bytes uploaders have, in an SQL database.

What belongs together is one transaction, which begins with the lock of its accounts' counts. Without a count nothing is
granted, so whoever grants has that lock, and sees what was granted before.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, bindparam, delete, func, or_, select, update
from sqlalchemy.sql.dml import Insert

from hmacfs.state import schema
from hmacfs.state.base import AT_WORK, MOST_RESERVATIONS, SHARED, Grant, Reservation, owner_after
from hmacfs.state.batches import BATCH, parts
from hmacfs.state.statements import insert_or_update
from hmacfs.state.transactions import transaction

T = TypeVar("T")

_KEPT_SECONDS = 24 * 3600
"""How long a count stays that does not hold any more; only the space that it takes matters."""


class SqlAccounts(ABC):
    """The part of a tier that counts bytes."""

    @abstractmethod
    def run(self, work: Callable[[Connection], T]) -> T:
        """``work`` on a connection to a server that has our tables. Raises StateUnavailable."""

    def reserve(self, wish: Reservation, quota: int, now: int) -> Grant:
        others = [schema.reservations.c.account == wish.account, schema.reservations.c.key != wish.key]
        lives = schema.reservations.c.expires_at > now
        query = _sum_of(*others, lives)
        holder = select(schema.reservations.c.owner).where(schema.reservations.c.key == wish.key, lives)

        def reserve(connection: Connection) -> Grant:
            with transaction(connection, sees_committed=True):
                stored = _counted(connection, wish.account, now)
                if stored is None:
                    return Grant.UNCOUNTED
                reserved, number = connection.execute(query).one()
                if stored + int(reserved or 0) + wish.size > quota or number >= MOST_RESERVATIONS:
                    return Grant.FULL
                owner = owner_after(connection.execute(holder).scalar() or "", wish.owner)
                connection.execute(_upsert(connection, "size", "owner"), asdict(replace(wish, owner=owner)))
                return Grant.GRANTED

        return self.run(reserve)

    def renew(self, reservations: Sequence[Reservation], now: int) -> None:
        table = schema.reservations

        def renew(connection: Connection) -> None:
            for part in parts(sorted(reservations, key=lambda each: each.key)):
                with transaction(connection, sees_committed=True):
                    over = table.c.key.in_([each.key for each in part]), table.c.expires_at <= now
                    connection.execute(delete(table).where(*over))
                    connection.execute(_upsert(connection), [asdict(each) for each in part])

        self.run(renew)

    def settle(self, reservations: Sequence[Reservation]) -> None:
        def settle(connection: Connection) -> None:
            for part in parts(sorted(reservations, key=lambda each: each.account)):
                with transaction(connection, sees_committed=True):
                    _settle(connection, part)

        self.run(settle)

    def give_back(self, reservations: Sequence[Reservation]) -> None:
        table = schema.reservations
        is_in_use = or_(*[table.c.owner.startswith(mark, autoescape=True) for mark in (SHARED, AT_WORK)])

        def give_back(connection: Connection) -> None:
            for part in parts(sorted(reservations, key=lambda each: each.key)):
                anybodys = table.c.key.in_([each.key for each in part if not each.owner])
                owned = [each for each in part if each.owner]
                ours = table.c.key.in_([each.key for each in owned])
                owners, sharing = [each.owner for each in owned], [SHARED + each.owner for each in owned]
                connection.execute(delete(table).where(or_(ours & table.c.owner.in_(owners), anybodys & ~is_in_use)))
                shortened = update(table).where(or_(ours & table.c.owner.in_(sharing), anybodys & is_in_use))
                sooner = func.min if connection.dialect.name == "sqlite" else func.least
                ends = sooner(table.c.expires_at, max(each.expires_at for each in part))
                connection.execute(shortened.values(expires_at=ends))

        self.run(give_back)

    def used(self, account: str, now: int) -> int | None:
        living = _sum_of(schema.reservations.c.account == account, schema.reservations.c.expires_at > now)
        column = schema.counts.c
        known = select(column.stored).where(column.account == account, column.holds, column.until > now)

        def used(connection: Connection) -> int | None:
            stored = connection.execute(known).scalar()
            return None if stored is None else int(stored) + int(connection.execute(living).one()[0] or 0)

        return self.run(used)

    def begin_count(self, account: str, now: int) -> int:
        """The row is made where there is none, so that what is settled from now on is seen."""
        row = {"account": account, "stored": 0, "until": now, "holds": False, "settled": 0}
        settled = select(schema.counts.c.settled).where(schema.counts.c.account == account)

        def begin(connection: Connection) -> int:
            connection.execute(insert_or_update(schema.counts, {"account": None}, connection.dialect.name), row)
            return int(connection.execute(settled).scalar() or 0)

        return self.run(begin)

    def count(self, account: str, stored: int, mark: int, now: int, until: int) -> bool:
        column = schema.counts.c
        statement = update(schema.counts).where(column.account == account, column.settled == mark)

        def count(connection: Connection) -> bool:
            done = connection.execute(statement.values(stored=stored, until=until, holds=True))
            _purge(connection, schema.reservations.c.key, schema.reservations.c.expires_at <= now)
            _purge(connection, column.account, column.until <= now - _KEPT_SECONDS)
            return bool(done.rowcount)

        return self.run(count)

    def forget_counts(self) -> None:
        self.run(lambda connection: connection.execute(update(schema.counts).values(holds=False)))


def _sum_of(*conditions: ColumnElement[bool]) -> Any:
    return select(func.sum(schema.reservations.c.size), func.count()).where(*conditions)


def _counted(connection: Connection, account: str, now: int) -> int | None:
    """What is stored, under a lock until the end of the transaction; None where that is not known."""
    column = schema.counts.c
    query = select(column.stored, column.until, column.holds).where(column.account == account)
    row = connection.execute(query.with_for_update()).one_or_none()
    return int(row.stored) if row is not None and row.holds and row.until > now else None


def _settle(connection: Connection, settled: Sequence[Reservation]) -> None:
    accounts = sorted({each.account for each in settled})
    table = schema.reservations
    account = schema.counts.c.account
    lock = select(account).where(account.in_(accounts)).order_by(account)
    connection.execute(lock.with_for_update()).all()
    query = select(table.c.key, table.c.account, table.c.size).where(table.c.key.in_([each.key for each in settled]))
    found = connection.execute(query.with_for_update()).all()
    if not found:
        return
    connection.execute(delete(table).where(table.c.key.in_([row.key for row in found])))
    more: Counter[str] = Counter()
    for row in found:
        more[row.account] += row.size
    statement = update(schema.counts).where(schema.counts.c.account == bindparam("whose"))
    column = schema.counts.c
    statement = statement.values(stored=column.stored + bindparam("more"), settled=column.settled + 1)
    connection.execute(statement, [{"whose": account, "more": size} for account, size in sorted(more.items())])


def _purge(connection: Connection, key: Column[Any], is_over: ColumnElement[bool]) -> None:
    """Remove a page of rows that are over."""
    found = connection.execute(select(key).where(is_over).limit(BATCH)).scalars().all()
    if found:
        connection.execute(delete(key.table).where(key.in_(found), is_over))


def _upsert(connection: Connection, *replaced: str) -> Insert:
    """Insert a reservation, or prolong the one with its key. Args: replaced: columns that take their new value."""
    later = func.max if connection.dialect.name == "sqlite" else func.greatest
    columns = {**dict.fromkeys(replaced), "expires_at": later}
    return insert_or_update(schema.reservations, columns, connection.dialect.name)
