"""What a sweep looks through and works with: the ports of ``services.sweep``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core.bloom import Seen
from hmacfs.core.retention import Batch, Held, Policy
from hmacfs.services.observer import Observer
from hmacfs.storage.base import Partials


class Shelf(Protocol):
    """Files of one kind: the current ones, or the old versions."""

    def batches(self) -> Iterator[Batch]:
        """All of them, in any order, but the old versions of a path in one batch; one that comes or goes meanwhile may
        be among them or not."""

    def remove(self, files: Sequence[Held]) -> Sequence[Held]:
        """Remove those that are still what they were, and what goes with them; all that went."""

    def tidy(self, files: Sequence[Held]) -> None:
        """``files`` were removed: remove their folders where they are empty now, and make it all durable."""

    def remove_empty(self, folders: Sequence[bytes]) -> Sequence[bytes]:
        """Remove those of the folders in which there still is nothing; which those were."""


class Leftovers(Protocol):
    """What is kept beside the files."""

    def partial_bytes(self) -> Iterator[int]:
        """Bytes that unfinished uploads take, in parts."""

    def has_sidecars(self) -> bool: ...

    def see_private(self, seen: Seen, batch: int) -> Iterator[int]:
        """Add the files that are kept under no slot's name, job by job; how many in each."""

    def orphans(self, seen: Seen, batch: int, *, removes: bool) -> Iterator[Sequence[str]]:
        """Remove the sidecars that belong to no file of ``seen``, job by job; their names."""


class OldGraves(Protocol):
    def sweep(self, batch: int) -> Iterator[int]:
        """Remove the graves that are over, job by job; how many in each."""


class Ledger(Protocol):
    """Who keeps the catalogue."""

    @property
    def queued(self) -> int: ...
    def file_gone(self, path: str) -> None: ...
    def session_ended(self, key: str, started_at: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Grounds:
    """What is swept.

    Attributes:
        versions, partials: None where there are none.
    """

    files: Shelf
    leftovers: Leftovers
    graves: OldGraves
    partials: Partials | None = None
    versions: Shelf | None = None

    @property
    def shelves(self) -> list[Shelf]:
        """Versions first: where a file goes, its versions have been judged, and went for the same reason."""
        return [self.files] if self.versions is None else [self.versions, self.files]


@dataclass(frozen=True, slots=True)
class Means:
    """What a sweep works with.

    Attributes:
        ledger: told of what went.
        now: seconds of any clock, to measure with.
        removes: False to tell the observer only, and change nothing.
    """

    grounds: Grounds
    policy: Policy
    ledger: Ledger
    observer: Observer
    now: Callable[[], float]
    removes: bool = True
