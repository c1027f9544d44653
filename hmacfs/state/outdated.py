"""A book, kept in the embedded tier, of rows that a tier has wrong because it was away when they changed.

A file forgotten while the SQL server was down must not come back with it, and an upload that ended meanwhile is not
unfinished, however long ago it ended. The book outlives our process, and its entries go when the tier has been told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from hmacfs.state.base import Kind
from hmacfs.state.batches import BATCH, parts
from hmacfs.state.schema import outdated
from hmacfs.state.sql import SqlTier


@dataclass(frozen=True, slots=True)
class Entry:
    """What is wrong.

    Attributes:
        key: a file's path, or the key of an upload that is over.
        started_ms: when that upload began, Unix milliseconds: one that began later under the same key is not meant.
        revision: changes when the entry is made anew.
    """

    key: str
    started_ms: int = 0
    revision: int = 0


class Outdated:
    """Args: embedded: where the book is kept. Every verb may raise StateUnavailable."""

    def __init__(self, embedded: SqlTier) -> None:
        self._embedded = embedded

    def add(self, tier: str, kind: Kind, entries: Sequence[Entry]) -> None:
        """What ``tier`` keeps of these is wrong. Of two entries for a key the one that began later counts."""
        latest = {entry.key: entry for entry in sorted(entries, key=lambda entry: (entry.key, entry.started_ms))}
        rows = [
            {"tier": tier, "kind": kind, "key": entry.key, "started_ms": entry.started_ms} for entry in latest.values()
        ]
        self._embedded.upsert(outdated, rows)

    def page(self, tier: str, kind: Kind) -> list[Entry]:
        """Some entries; none when the book has no more of this kind."""
        column = outdated.c
        query = select(column.key, column.started_ms, column.revision).where(column.tier == tier, column.kind == kind)
        found = self._embedded.run(lambda connection: list(connection.execute(query.order_by(column.key).limit(BATCH))))
        return [Entry(*row) for row in found]

    def clear(self, tier: str, kind: Kind, page: Sequence[Entry]) -> None:
        """``tier`` has been told of these; an entry that was made anew meanwhile stays."""
        column = outdated.c
        for entries in parts(page):
            statement = delete(outdated).where(
                column.tier == tier,
                column.kind == kind,
                column.key.in_([entry.key for entry in entries]),
                column.revision.in_([entry.revision for entry in entries]),
            )
            self._embedded.run(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]

    def keep_only(self, tiers: Iterable[str]) -> None:
        """Forget about tiers that are not used any more."""
        statement = delete(outdated).where(outdated.c.tier.not_in(list(tiers)))
        self._embedded.run(lambda connection: connection.execute(statement))
