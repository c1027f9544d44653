"""How a new file takes the place of an old one, which stays as a version.

Old is linked away before new is renamed over it, both under the path's lock: there is never a moment without a current
file, and a crash between the two leaves a version that is the current file, which the next PUT takes for its own. A
path that is free is published as ever, without lock or ledger.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from hmacfs.core import versions
from hmacfs.core.paths import SlotPath
from hmacfs.errors import FileExists, NotFound, PreconditionFailed, StorageBusy, TooManyVersions
from hmacfs.storage import chains, fsutil
from hmacfs.storage.base import Entity, Metadata, RemovedVersion
from hmacfs.storage.contents import are_equal
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.staged import Incoming, Placed
from hmacfs.storage.staging import named
from hmacfs.storage.stored import LocalStored
from hmacfs.storage.versionfolders import VersionFolders

T = TypeVar("T")

_MOST_PRUNED = 10_000
"""Versions that went and are not told yet: as many as one upload may push out after MaxVersions was lowered."""

_ROUNDS = 100
"""How often a file is compared anew because somebody replaced the one that it was compared with."""


class Replacing:
    """For jobs of the disk pool that go through ``patiently``.

    Args:
        most: MaxVersions.
        per_day: VersionsPerDay, 0 for no limit.
        clock: Unix seconds.
    """

    def __init__(
        self, storage: LocalStorage, folders: VersionFolders, most: int, per_day: int, clock: Callable[[], float]
    ) -> None:
        self._storage = storage
        self._folders = folders
        self._most = most
        self._per_day = per_day
        self._clock = clock
        self._pruned: deque[RemovedVersion] = deque(maxlen=_MOST_PRUNED)
        self._absorbed: deque[int] = deque(maxlen=_MOST_PRUNED)

    def place(self, path: SlotPath, incoming: Incoming) -> Placed:
        """As LocalStorage.place: link the file under a free path, or replace the one that is there."""
        if not incoming.conditions.if_match:
            try:
                return self._storage.name_new(path, incoming)
            except FileExistsError:
                self.is_taken(path)
        for _ in range(_ROUNDS):
            current, is_equal = self._compared(path, incoming)
            with self._storage.locks.held(slot_name(path)):
                # Also where a file is there: what somebody linked behind a deletion is taken back without the lock.
                self._storage.refuse_buried(path)
                self._storage.refuse_over(path)
                if self._storage.files.entity_at(path) != current:
                    continue
                if not incoming.conditions.hold(current.etag if current else None):
                    raise PreconditionFailed
                if current is None:  # removed since we found it
                    try:
                        return incoming.entity, self._storage.folders.name_new(path, incoming.link)
                    except FileExistsError:  # who finds the path free links without the lock, and was faster
                        if self._storage.files.entity_at(path) is None:
                            raise  # what is there is no file
                        continue
                if is_equal:
                    return self._stays(path, current, incoming)
                # Later than what it replaces, though a clock may have gone back since.
                moment = max(int(self._clock() * 1_000_000_000), current.modified_ns + 1000)
                self._replace(path, current, incoming)
                return replace(incoming.entity, replaced_ns=moment), []  # synced, before the oldest version went
        raise StorageBusy("others replace this file without a pause")

    def pruned(self) -> list[RemovedVersion]:
        """What went beyond MaxVersions since the last call. For any thread."""
        return _taken(self._pruned)

    def absorbed(self) -> list[int]:
        """Bytes of each published file that is none more in the store, since the last call. For any thread."""
        return _taken(self._absorbed)

    def is_taken(self, path: SlotPath) -> bool:
        """Whether a file is at ``path``. Raises PathConflict."""
        try:
            self._storage.check_vacant_now(path)
        except FileExists:
            return True
        return False

    def _compared(self, path: SlotPath, incoming: Incoming) -> tuple[Entity | None, bool]:
        """The current file, and whether the new one has the same content. Not under the lock: it may take a while."""
        try:
            stored = self._storage.files.open_beneath(path.raw, False)
        except NotFound:
            return None, False
        try:
            current = stored.entity
            if current.inode == incoming.entity.inode:
                return current, True  # a crash came between the renaming and the note of it
            is_same_size = current.size == incoming.entity.size
            return current, is_same_size and self._has_content_of(stored, incoming)
        finally:
            stored.close()

    def _has_content_of(self, stored: LocalStored, incoming: Incoming) -> bool:
        old, new = stored.metadata, incoming.metadata
        if _claims(old) != _claims(new):
            return False  # another uploader, or another end of its life
        if old.sha256 and new.sha256:
            return old.sha256 == new.sha256
        return are_equal(stored.descriptor(), incoming.fd, stored.entity.size)

    def _stays(self, path: SlotPath, current: Entity, incoming: Incoming) -> Placed:
        if current.inode != incoming.entity.inode:
            self._storage.forget_metadata(incoming.entity)
            self._absorbed.append(current.size)
        return current, self._storage.folders.chain_to(path)

    def _replace(self, path: SlotPath, current: Entity, incoming: Incoming) -> None:
        """The old file linked away and that synced, the new one renamed over it and that synced, the oldest removed."""
        storage, slot = self._storage, slot_name(path)
        folder = self._folders.at(slot)
        number = self._note(slot, path, current)
        chain = storage.folders.chain_to(path)
        try:
            if number:
                with fsutil.opened_directory(folder) as place:
                    fsutil.link_name(chain[-1], path.segments[-1], place, b"%d" % number)
            if storage.syncs_directories:
                for directory in (folder, os.path.dirname(folder), self._folders.root):
                    fsutil.sync_directory(directory)
            with named(storage.staging, incoming.fd, incoming.link) as draft:
                fsutil.replace_name(storage.staging.fd, draft, chain[-1], path.segments[-1])
            if not self._most:
                self._absorbed.append(current.size)
            if storage.syncs_directories:
                chains.sync_chain(chain)
        finally:
            chains.close_chain(chain)
        try:
            for gone in self._folders.prune(slot):
                self._pruned.append(RemovedVersion(path, gone.number, gone.size, gone.freed, "MaxVersions"))
        except OSError:
            pass  # the new file is there, which nothing may undo now; the next one or the sweep prunes

    def _note(self, slot: str, path: SlotPath, current: Entity) -> int:
        """The ledger says that the file is replaced now: the first of all steps, so a crash may count one too many and
        never one too few. Returns the number to link it away under, 0 where that is done or not wanted.

        Raises:
            TooManyVersions
        """
        ledger, now = self._folders.ledger(slot)[1], self._clock()
        if wait := versions.seconds_to_wait(ledger, self._per_day, now):
            raise TooManyVersions(wait)
        left, kept = self._folders.leftover(slot, current), self._folders.numbers(slot)
        number = versions.next_number(ledger, kept) if left is None else left
        changed = versions.replaced(ledger, number, self._per_day, now, stored_ns=current.modified_ns, kept=kept)
        self._folders.write_ledger(slot, path, changed)
        return number if self._most and left is None else 0


def _taken(waiting: deque[T]) -> list[T]:
    found: list[T] = []
    while waiting:
        with suppress(IndexError):  # somebody else has taken the last one
            found.append(waiting.popleft())
    return found


def _claims(metadata: Metadata) -> Metadata:
    """What a signature said of the file beyond its content: where it differs, so do the files."""
    return replace(metadata, content_type=None, sha256="", token_digest="")
