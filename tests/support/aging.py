"""A store whose files have the ages that a test gives them, and what a sweep of it works with."""

import os
import time
from pathlib import Path

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.core.retention import Held, Policy
from hmacfs.services.grounds import Grounds, Means
from hmacfs.services.observer import Observer
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.leftovers import LocalLeftovers
from hmacfs.storage.shelf import LocalShelf
from tests.support.resuming import Shelf

NOW = 1_800_000_000.0
"""Unix seconds of a store's clock, which stands still unless a test moves it."""

HOUR, DAY = 3600, 86400


def slot(path: str) -> SlotPath:
    return paths.parse(path.encode())


class Told(Observer):
    """Remembers what a sweep said."""

    def __init__(self) -> None:
        self.removed: list[tuple[str, str]] = []
        self.leftovers: list[tuple[str, str]] = []
        self.uploads: list[str] = []
        self.doubts: list[tuple[int, int]] = []
        self.sweeps = 0

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:
        self.removed.append((name, reason))

    def leftover_removed(self, kind: str, name: str) -> None:
        self.leftovers.append((kind, name))

    def upload_expired(self, name: str) -> None:
        self.uploads.append(name)

    def clock_doubted(self, expired: int, files: int) -> None:
        self.doubts.append((expired, files))

    def swept(self, files: int, stored: int, removed: int, freed: int, seconds: float) -> None:
        self.sweeps += 1


class Ledger:
    """Remembers what the catalogue is to forget."""

    def __init__(self) -> None:
        self.queued = 0
        self.gone: list[str] = []
        self.ended: list[str] = []

    def file_gone(self, path: str) -> None:
        self.gone.append(path)

    def session_ended(self, key: str, started_at: float) -> None:
        self.ended.append(key)


class Attic:
    """A store that is swept.

    Attributes:
        now: what its clock says.
    """

    def __init__(self, store: Path, **options: object) -> None:
        self.now = NOW
        self.store = store
        self.house = Shelf(store, wall=lambda: self.now, **options)  # type: ignore[arg-type]
        self.storage = self.house.storage
        self.graves = LocalGraves(str(store), self.storage.disk, lambda: self.now)
        self.storage.is_buried = self.graves.buried_now
        self.shelf = LocalShelf(self.storage, str(store), self.graves)
        self.leftovers = LocalLeftovers(str(store), self.storage.disk, lambda: self.now)
        self.told, self.ledger = Told(), Ledger()

    def close(self) -> None:
        self.house.close()
        os.close(self.graves._fd)

    def means(self, policy: Policy, *, removes: bool = True, resumable: bool = True) -> Means:
        partials = self.house.partials if resumable else None
        grounds = Grounds(self.shelf, self.leftovers, self.graves, partials)
        return Means(grounds, policy, self.ledger, self.told, time.monotonic, removes)

    def put(self, path: str, size: int = 5, age: float = 0.0) -> Path:
        """A file that was stored ``age`` seconds ago, without any metadata."""
        place = self.store / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * size)
        self.touch(place, age)
        return place

    def touch(self, place: Path, age: float) -> None:
        moment = int((self.now - age) * 1_000_000_000)
        os.utime(place, ns=(moment, moment))

    def found(self) -> dict[str, Held]:
        """Every file that the sweep sees."""
        return {str(held.path): held for batch in self.shelf.batches() for held in batch.files}

    def names(self) -> list[str]:
        """Every file that is not ours."""
        paths = (path.relative_to(self.store) for path in self.store.rglob("*") if path.is_file())
        return sorted(str(path) for path in paths if path.parts[0] != ".hmacfs")

    def folders(self) -> list[str]:
        """Every folder that is not ours."""
        paths = (path.relative_to(self.store) for path in self.store.rglob("*") if path.is_dir())
        return sorted(str(path) for path in paths if path.parts[0] != ".hmacfs")
