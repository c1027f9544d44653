"""Files that were replaced, behind the port: told, read, and removed.

Everything blocks, and runs in the disk pool.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from hmacfs.core import versions
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import WriteConditions
from hmacfs.errors import Gone, NotFound, PreconditionFailed, TooManyVersions
from hmacfs.storage.base import GoneVersion, OldVersion, RemovedVersion, os_errors_translated
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.replacing import Replacing
from hmacfs.storage.slotlocks import patiently, slot_name
from hmacfs.storage.stored import LocalStored
from hmacfs.storage.versionfolders import KeptVersion, VersionFolders


class LocalVersions:
    """The Versions port beside a LocalStorage; ``versionfolders.prepare`` has made its folder.

    Args:
        most: MaxVersions.
        per_day: VersionsPerDay, 0 for no limit.
        clock: Unix seconds.
        replaces: EnableVersioning; where it is off, only what was kept earlier is looked at and removed.
    """

    def __init__(
        self,
        storage: LocalStorage,
        store_dir: str,
        *,
        most: int,
        per_day: int,
        clock: Callable[[], float],
        replaces: bool = True,
    ) -> None:
        self._storage = storage
        self._folders = VersionFolders(storage, store_dir, most, clock)
        self._replacing = Replacing(storage, self._folders, most, per_day, clock)
        self._per_day = per_day
        self._clock = clock
        self._replaces = replaces
        storage.on_deleting = self.name
        storage.on_deleted = self.forget
        if replaces:
            storage.place = self._replacing.place

    @property
    def most(self) -> int | None:
        """Versions of a path that stay; None for all, where nothing is replaced any more."""
        return self._folders.most if self._replaces else None

    # The port

    def check(self, path: SlotPath, total: int, conditions: WriteConditions) -> None:
        with os_errors_translated():
            self._storage.disk.run(self._check, path, total, conditions)

    def of(self, path: SlotPath) -> Sequence[OldVersion]:
        with os_errors_translated():
            return self._storage.disk.run(self._of, path)

    def open(self, path: SlotPath, number: int, *, with_content: bool) -> LocalStored:
        with os_errors_translated():
            return self._storage.disk.run(self._open, path, number, with_content)

    def pruned(self) -> Sequence[RemovedVersion]:
        return self._replacing.pruned()

    def absorbed(self) -> Sequence[int]:
        return self._replacing.absorbed()

    # For deletion and retention

    def each(self) -> Iterator[KeptVersion]:
        """Every version of the store, path by path, the oldest first. Memory does not grow with it."""
        with os_errors_translated():
            for group in sorted(self._storage.disk.run(self._folders.groups)):
                for slot in sorted(self._storage.disk.run(self._folders.slots, group)):
                    yield from self._storage.disk.run(self._replaced, slot)

    def remove(self, version: KeptVersion) -> int | None:
        """Remove one, if it is still the same file; the bytes that this frees, None where it is another or none. The
        current file is never touched."""
        with os_errors_translated():
            return patiently(self._storage.disk, self._remove, version)

    def name(self, path: SlotPath) -> None:
        """The file is about to be deleted: see to it that what is kept of it is known as its own, should a crash leave
        it behind. For jobs of the disk pool that hold the path's lock."""
        slot = slot_name(path)
        with suppress(OSError):  # a full disk must keep nobody from deleting
            if self._folders.numbers(slot) and self._folders.ledger(slot)[0] is None:
                self._folders.write_ledger(slot, path, versions.Ledger())

    def forget(self, path: SlotPath) -> Sequence[GoneVersion]:
        """The file has been deleted: remove what is kept of it; what that was. What cannot be removed is left to the
        sweep. For jobs of the disk pool that hold the path's lock."""
        slot = slot_name(path)
        gone: list[GoneVersion] = []
        if not os.path.isdir(self._folders.at(slot)):
            return gone
        with suppress(OSError):
            for kept in self._folders.kept(slot):
                self._folders.drop(slot, [kept.number])
                gone.append(GoneVersion(kept.number, kept.entity.size))
            self._folders.forget(slot)
        return gone

    def sweep(self) -> Iterator[int]:
        """Remove the ledgers and folders that nobody needs any more, and what crashes left in the others, path by path;
        how much each job removed. No version that anybody was shown goes."""
        with os_errors_translated():
            for group in self._storage.disk.run(self._folders.groups):
                for slot in self._storage.disk.run(self._folders.slots, group):
                    yield patiently(self._storage.disk, self._tidy, slot)

    # Looking

    def _replaced(self, slot: str) -> list[KeptVersion]:
        """The versions of a path, without one that is the current file because a crash left it so."""
        found = self._folders.kept(slot)
        newest = found[-1] if found else None
        if newest is not None and newest.file is not None and newest.file.inode == newest.entity.inode:
            return found[:-1] if versions.may_be_unreplaced(newest.ledger, newest.number) else found
        return found

    def _check(self, path: SlotPath, total: int, conditions: WriteConditions) -> None:
        current = self._storage.files.entity_at(path) if self._replacing.is_taken(path) else None
        if not conditions.hold(current.etag if current else None):
            raise PreconditionFailed
        if current is not None and current.size != total:
            ledger = self._folders.ledger(slot_name(path))[1]
            if wait := versions.seconds_to_wait(ledger, self._per_day, self._clock()):
                raise TooManyVersions(wait)

    def _of(self, path: SlotPath) -> list[OldVersion]:
        slot = slot_name(path)
        current = self._storage.files.entity_at(path)
        if current is None:
            self._storage.refuse_buried(path)  # what a deletion has left is shown to nobody
        hidden = self._folders.leftover(slot, current)
        stored = dict(self._folders.ledger(slot)[1].stored)
        numbers = [number for number in self._folders.numbers(slot) if number != hidden]
        found = [self._described(path, number, stored.get(number)) for number in numbers]
        if current is None and not found:
            raise NotFound
        return [version for version in found if version is not None]

    def _open(self, path: SlotPath, number: int, with_content: bool) -> LocalStored:
        if self._storage.is_buried(path) and self._storage.files.entity_at(path) is None:
            raise Gone
        raw = self._folders.raw(slot_name(path), number)
        return self._storage.files.open_beneath(raw, with_content)

    def _described(self, path: SlotPath, number: int, stored_ns: int | None) -> OldVersion | None:
        raw = self._folders.raw(slot_name(path), number)
        try:
            stored = self._storage.files.open_beneath(raw, False)
        except NotFound:
            return None  # pruned meanwhile
        stored.close()
        moment = stored.entity.modified_ns if stored_ns is None else stored_ns
        return OldVersion(number, stored.entity, stored.metadata, moment // 1_000_000_000)

    # Removing

    def _remove(self, version: KeptVersion) -> int | None:
        with self._storage.locks.held(version.slot):
            kept = {found.number: found for found in self._folders.kept(version.slot)}
            found = kept.get(version.number)
            if found is None or found.entity != version.entity:
                return None
            if version.file is None and found.file is not None:
                return None  # it was judged as one whose file is gone, and has one again
            return sum(each.freed for each in self._folders.drop(version.slot, [version.number]))

    def _tidy(self, slot: str) -> int:
        removed = 0
        with self._storage.locks.held(slot):
            path = self._folders.ledger(slot)[0]
            current = None if path is None else self._storage.files.entity_at(path)
            if (left := self._folders.leftover(slot, current)) is not None:
                removed += len(self._folders.drop(slot, [left]))  # nothing is lost: it is the current file
            if not self._folders.numbers(slot) and self._folders.is_old(slot):
                self._folders.forget(slot)
                removed += 1
        return removed
