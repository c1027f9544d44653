"""A book, kept in the embedded tier, of rows that a tier has wrong because it was away when they changed.

A file forgotten while the SQL server was down must not come back with it. The book outlives our process, and its
entries go when the tier has removed its copies.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select

from hmacfs.state.base import Kind
from hmacfs.state.batches import BATCH, parts
from hmacfs.state.schema import outdated
from hmacfs.state.sql import SqlTier


class Outdated:
    """Args: embedded: where the book is kept. Every verb may raise StateUnavailable."""

    def __init__(self, embedded: SqlTier) -> None:
        self._embedded = embedded

    def add(self, tier: str, kind: Kind, keys: Sequence[str]) -> None:
        """What ``tier`` keeps under these keys is wrong."""
        self._embedded.upsert(outdated, [{"tier": tier, "kind": kind, "key": key} for key in sorted(set(keys))])

    def page(self, tier: str, kind: Kind) -> dict[str, int]:
        """Some keys with the revisions of their entries; none when the book has no more of this kind."""
        column = outdated.c
        query = select(column.key, column.revision).where(column.tier == tier, column.kind == kind)
        found = self._embedded.run(lambda connection: list(connection.execute(query.order_by(column.key).limit(BATCH))))
        return {row[0]: row[1] for row in found}

    def clear(self, tier: str, kind: Kind, page: dict[str, int]) -> None:
        """``tier`` has removed these; an entry that was made anew meanwhile stays."""
        column = outdated.c
        for keys in parts(list(page)):
            statement = delete(outdated).where(
                column.tier == tier,
                column.kind == kind,
                column.key.in_(keys),
                column.revision.in_([page[key] for key in keys]),
            )
            self._embedded.run(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]

    def keep_only(self, tiers: Iterable[str]) -> None:
        """Forget about tiers that are not used any more."""
        statement = delete(outdated).where(outdated.c.tier.not_in(list(tiers)))
        self._embedded.run(lambda connection: connection.execute(statement))
