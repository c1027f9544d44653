"""One sweep of a store: what its time is over for, which versions are too many, what has to make room, and what nobody
needs any more.

Nothing is listed as a whole: files pass by in batches, and what a rule must remember of them is bounded
(``core.oldest``, ``core.bloom``). Between two batches the sweep rests, so that requests are served beside it.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hmacfs.core import paths, retention
from hmacfs.core.bloom import Seen
from hmacfs.core.oldest import Bands, Choice
from hmacfs.core.retention import Batch, Held
from hmacfs.core.wallclock import would_take_most
from hmacfs.services.grounds import Means, Shelf

BATCH, STEP = 64, 16
"""Files that are deleted in one go, with one sync for each folder, and in one job of it. After a mass deletion ext4
takes up to 1.8 ms to make a file, so it is done in small bites."""

SCAN_REST = 4.0
"""Rest after a batch that was looked at, as a multiple of what it took: the sweep has a fifth of a processor."""

REMOVE_REST, LEAST_REST = 4.0, 0.01
"""The same after a job of deletions; and at least so many seconds after the sync, in which the disk writes its
journal."""

_EMPTY_SECONDS = 3600
"""An empty folder that was touched later may be somebody's who is about to use it."""

_MOST_BACKLOG, _BACKLOG_REST, _BACKLOG_TURNS = 5_000, 0.2, 5
"""Facts that wait for shared state; over that the sweep waits for them, a second for each batch at most."""

Rest = Callable[[float], bool]
"""Waits some seconds, and says whether the sweep is to end."""


@dataclass(slots=True)
class Report:
    """What a sweep found and did. Attributes: files, stored: what it left, and bytes, with versions and partials.
    versions: how many of the files are old versions."""

    files: int = 0
    versions: int = 0
    stored: int = 0
    removed: int = 0
    freed: int = 0
    uploads: int = 0
    sidecars: int = 0
    folders: int = 0
    is_complete: bool = True


class Stopped(Exception):
    """The sweep is to end now."""


def remove_stale_uploads(means: Means) -> int:
    """Remove unfinished uploads that have not changed for SessionTTL; how many."""
    if means.grounds.partials is None:
        return 0
    found = means.grounds.partials.sweep(removes=means.removes)
    for path, key, started_at in found:
        if means.removes:
            means.ledger.session_ended(key, started_at)
        means.observer.upload_expired(path)
    return len(found)


class Sweep:
    """One sweep.

    Args:
        wall: Unix seconds, for all that is judged.
        rest: ends the sweep when it says so.
    """

    def __init__(self, means: Means, wall: float, rest: Rest) -> None:
        self._means = means
        self._grounds, self._policy = means.grounds, means.policy
        self._wall = wall
        self._rest = rest
        self._by_age = True
        self._leaving: dict[tuple[bool, str], list[Held]] = {}
        self.report = Report()

    def is_suspicious(self) -> bool:
        """Whether the age rules would take most of the files now; the observer is told so. Removes nothing.

        True also when the sweep was ended before that was known.

        Raises:
            StorageFailed, StorageBusy.
        """
        files = expired = 0
        try:
            for _, batch in self._batches():
                files += len(batch.files)
                expired += sum(bool(retention.reason_to_go(held, self._policy.age, self._wall)) for held in batch.files)
        except Stopped:
            return True
        if would_take_most(expired, files):
            self._means.observer.clock_doubted(expired, files)
            return True
        return False

    def run(self, *, by_age: bool = True) -> Report:
        """Do it; what was found and done, also when it was ended before its time.

        Args:
            by_age: False leaves everything alone that a wrong clock could take, unfinished uploads too.

        Raises:
            StorageFailed, StorageBusy.
        """
        begun, report, self._by_age = self._means.now(), self.report, by_age
        try:
            self._do()
        except Stopped:
            report.is_complete = False
        took = self._means.now() - begun
        self._means.observer.swept(report.files, report.stored, report.removed, report.freed, took)
        return report

    def _do(self) -> None:
        report, leftovers = self.report, self._grounds.leftovers
        report.uploads = remove_stale_uploads(self._means) if self._by_age else 0
        seen = Seen(secrets.randbits(32)) if leftovers.has_sidecars() else None
        bands = Bands()
        for shelf, batch in self._batches():
            self._judge(shelf, batch, bands, seen)
        self._remove_leaving()
        for count in leftovers.partial_bytes():
            report.stored += count
            self._pause(0.0)
        if self._policy.most_bytes:
            self._make_room(bands)
        if self._by_age:
            self._remove_leftovers(seen)

    def _batches(self) -> Iterator[tuple[Shelf, Batch]]:
        now = self._means.now
        for shelf in self._grounds.shelves:
            begun = now()
            for batch in shelf.batches():
                self._pause(SCAN_REST * (now() - begun))
                yield shelf, batch
                begun = now()

    def _judge(self, shelf: Shelf, batch: Batch, bands: Bands, seen: Seen | None) -> None:
        """The first look at each file: by its age, and of old versions by their number."""
        for held, reason in self._judged(batch):
            self.report.files += 1
            self.report.stored += held.size
            self.report.versions += bool(held.version)
            if seen is not None:
                seen.add(held.inode, held.modified_ns)
            if reason:
                self._leave(held, reason)
            elif not retention.is_spared(held, self._wall):
                bands.add(held)
        if old := [folder for folder, changed in batch.empty if changed < self._wall - _EMPTY_SECONDS]:
            self._remove_folders(shelf, old)

    def _judged(self, batch: Batch) -> Iterator[tuple[Held, str]]:
        """Each file, and why it goes before anything has to make room."""
        reasons = retention.reasons_to_go(batch.files, self._policy.age, self._wall, by_age=self._by_age)
        return zip(batch.files, reasons, strict=True)

    def _make_room(self, bands: Bands) -> None:
        """The oldest files go until the store is under MaxRetentionSize, or no more may."""
        report = self.report
        while (cut := bands.cut(report.stored - self._policy.most_bytes)) is not None:
            before, choice = report.freed, Choice(cut)
            for _, batch in self._batches():
                for held, reason in self._judged(batch):
                    may_go = not reason and not retention.is_spared(held, self._wall)
                    if may_go and choice.goes(held):
                        self._leave(held, retention.SIZE)
            for held in choice.rest():
                self._leave(held, retention.SIZE)
            self._remove_leaving()
            if not choice.is_cut_short or report.freed == before or not self._means.removes:
                return
            bands = self._bands()

    def _bands(self) -> Bands:
        bands = Bands()
        for _, batch in self._batches():
            for held in batch.files:
                if not retention.is_spared(held, self._wall):
                    bands.add(held)
        return bands

    def _leave(self, held: Held, reason: str) -> None:
        """The file goes, soon."""
        files = self._leaving.setdefault((bool(held.version), reason), [])
        files.append(held)
        if len(files) >= BATCH:
            self._remove_leaving()

    def _remove_leaving(self) -> None:
        leaving, self._leaving = self._leaving, {}
        # Versions first: a file that goes takes along what is left of them, and a plan could not tell those.
        for (is_version, reason), files in sorted(leaving.items(), key=lambda item: not item[0][0]):
            shelf = self._grounds.versions if is_version else self._grounds.files
            if shelf is not None:
                self._remove(shelf, files, reason)

    def _remove(self, shelf: Shelf, files: Sequence[Held], reason: str) -> None:
        if not self._means.removes:
            self._tell(files, reason)
            return
        removed: list[Held] = []
        try:
            for place in range(0, len(files), STEP):
                begun = self._means.now()
                gone = shelf.remove(files[place : place + STEP])
                removed += gone
                self._tell(gone, reason)
                self._pause(REMOVE_REST * (self._means.now() - begun))
        finally:
            begun = self._means.now()
            shelf.tidy(removed)
        self._pause(max(LEAST_REST, REMOVE_REST * (self._means.now() - begun)))
        self._wait_for_ledger()

    def _tell(self, files: Sequence[Held], reason: str) -> None:
        report, means = self.report, self._means
        for held in files:
            report.files -= 1
            report.stored -= held.size
            report.versions -= bool(held.version)
            report.removed += 1
            report.freed += held.size
            if means.removes and not held.version:
                means.ledger.file_gone(held.path.raw.decode())
            means.observer.file_removed(str(held.path), held.size, reason, held.version)

    def _wait_for_ledger(self) -> None:
        for _ in range(_BACKLOG_TURNS):
            if self._means.ledger.queued < _MOST_BACKLOG:
                return
            self._pause(_BACKLOG_REST)

    def _remove_folders(self, shelf: Shelf, folders: Sequence[bytes]) -> None:
        for folder in shelf.remove_empty(folders) if self._means.removes else folders:
            self.report.folders += 1
            self._means.observer.leftover_removed("folder", paths.shown(folder))

    def _remove_leftovers(self, seen: Seen | None) -> None:
        leftovers, removes = self._grounds.leftovers, self._means.removes
        if seen is not None:
            for _ in leftovers.see_private(seen, BATCH):
                self._pause(0.0)
            for names in leftovers.orphans(seen, BATCH, removes=removes):
                self.report.sidecars += len(names)
                for name in names:
                    self._means.observer.leftover_removed("sidecar", name)
                self._pause(LEAST_REST if names else 0.0)
        if removes:
            for _ in self._grounds.graves.sweep(BATCH):
                self._pause(LEAST_REST)

    def _pause(self, seconds: float) -> None:
        if self._rest(seconds):
            raise Stopped
