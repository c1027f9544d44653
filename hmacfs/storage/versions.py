"""Replaced files in ``StoreDir/.hmacfs/versions``, and how a new one takes the place of an old one.

    versions/ab/ab12.../3        a second name of the file that was replaced as the third; the folder is named by slot
    versions/ab/ab12.../ledger   the path, the number given last, and when the file was replaced lately

A version is the old file itself under another name, so what travels with a file travels with it. Old is linked away
before new is renamed over it, both under the path's lock: there is never a moment without a current file, and a crash
between the two leaves a version that is the current file, which the next PUT takes for its own. A path that is free
is published as ever, without lock or ledger.

Everything blocks, and runs in the disk pool.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hmacfs.core import paths, versions
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import WriteConditions
from hmacfs.core.versions import DAY, Ledger
from hmacfs.errors import (
    BadPath,
    ConfigError,
    FileExists,
    NotFound,
    PreconditionFailed,
    StorageBusy,
    TooManyVersions,
)
from hmacfs.storage import fsutil
from hmacfs.storage.base import Entity, Metadata, OldVersion, os_errors_translated
from hmacfs.storage.contents import are_equal
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.slotlocks import patiently, slot_name
from hmacfs.storage.staged import Incoming, Placed
from hmacfs.storage.staging import named
from hmacfs.storage.stored import LocalStored
from hmacfs.storage.storedir import PRIVATE

LEDGER = "ledger"
_ROUNDS = 100
"""How often a file is compared anew because somebody replaced the one that it was compared with."""
_LEDGER_BYTES = 2 * 1024 * 1024
"""Above what VersionsPerDay can make of one."""


def prepare(store_dir: str) -> None:
    """Make the folder. Raises ConfigError."""
    try:
        fsutil.make_private_directory(os.path.join(store_dir, PRIVATE, "versions"))
    except OSError as error:
        raise ConfigError([f"StoreDir: versions cannot be kept: {error}"]) from error


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """One version as the sweep sees it.

    Attributes:
        slot: the folder of its path.
        path: None where the ledger that tells it was lost.
        expires_at: as in Metadata.
    """

    slot: str
    path: SlotPath | None
    number: int
    entity: Entity
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Removed:
    """A version that a sweep removed.

    Attributes:
        path: None where the ledger that tells it was lost.
        freed: bytes.
        reason: "MaxVersions", or "DELETE" where its file is gone.
    """

    path: SlotPath | None
    number: int
    freed: int
    reason: str


class LocalVersions:
    """The Versions port beside a LocalStorage; ``prepare`` has made its folder.

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
        self._inside = f"{PRIVATE}/versions"
        self._root = os.path.join(store_dir, PRIVATE, "versions")
        self._most = most
        self._per_day = per_day
        self._clock = clock
        self._replaces = replaces
        storage.on_deleting = self.forget
        if replaces:
            storage.place = self._place

    # The port

    def check(self, path: SlotPath, total: int, conditions: WriteConditions) -> None:
        with os_errors_translated():
            self._storage.disk.run(self._check, path, total, conditions)

    def of(self, path: SlotPath) -> Sequence[OldVersion]:
        with os_errors_translated():
            return self._storage.disk.run(self._of, path)

    def open(self, path: SlotPath, number: int, *, with_content: bool) -> LocalStored:
        raw = f"{self._inside}/{self._place_of(slot_name(path))}/{number}".encode()
        with os_errors_translated():
            return self._storage.disk.run(self._storage.files.open_beneath, raw, with_content)

    # For deletion and retention

    def each(self) -> Iterator[KeptVersion]:
        """Every version of the store, folder by folder, the oldest of a path first. Memory does not grow with it."""
        with os_errors_translated():
            for group in sorted(self._storage.disk.run(os.listdir, self._root)):
                for slot in sorted(self._storage.disk.run(os.listdir, os.path.join(self._root, group))):
                    yield from self._storage.disk.run(self._kept, slot)

    def remove(self, version: KeptVersion) -> int | None:
        """Remove one, if it is still the same file; the bytes that this frees, None where it is another or none. The
        current file is never touched."""
        with os_errors_translated():
            return patiently(self._storage.disk, self._remove, version)

    def forget(self, path: SlotPath) -> None:
        """The file is about to be deleted: remove what is kept of it. For jobs of the disk pool that hold the path's
        lock; raises OSError."""
        slot = slot_name(path)
        if os.path.isdir(self._folder(slot)):
            self._drop(slot, self._numbers(slot))
            self._forget_folder(slot)

    def sweep(self) -> Iterator[Sequence[Removed]]:
        """Remove what MaxVersions no longer allows, versions of a file that is gone, and folders that nobody needs; by
        path, what went of each."""
        with os_errors_translated():
            for group in self._storage.disk.run(os.listdir, self._root):
                for slot in self._storage.disk.run(os.listdir, os.path.join(self._root, group)):
                    yield patiently(self._storage.disk, self._tidy, slot)

    # Replacing

    def _place(self, path: SlotPath, incoming: Incoming) -> Placed:
        """As LocalStorage.place: link the file under a free path, or replace the one that is there."""
        if not incoming.conditions.if_match:
            try:
                return incoming.entity, self._storage.folders.name_new(path, incoming.link)
            except FileExistsError:
                self._check_replaceable(path)
        for _ in range(_ROUNDS):
            current, is_equal = self._compared(path, incoming)
            with self._storage.locks.held(slot_name(path)):
                if self._storage.files.entity_at(path) != current:
                    continue
                if not incoming.conditions.hold(current.etag if current else None):
                    raise PreconditionFailed
                if current is None:  # removed since we found it
                    self._storage.refuse_buried(path)
                    return incoming.entity, self._storage.folders.name_new(path, incoming.link)
                if is_equal:
                    return self._stays(path, current, incoming)
                self._replace(path, current, incoming)
                return incoming.entity, []  # synced already, before the oldest version went
        raise StorageBusy("others replace this file without a pause")

    def _check_replaceable(self, path: SlotPath) -> bool:
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
        return current, self._storage.folders.chain_to(path)

    def _replace(self, path: SlotPath, current: Entity, incoming: Incoming) -> None:
        """The old file linked away and that synced, the new one renamed over it and that synced, the oldest removed."""
        storage, slot = self._storage, slot_name(path)
        folder = self._folder(slot)
        number = self._note(slot, path, current)
        chain = storage.folders.chain_to(path)
        try:
            if number:
                with fsutil.opened_directory(folder) as place:
                    fsutil.link_name(chain[-1], path.segments[-1], place, b"%d" % number)
            if storage.syncs_directories:
                for directory in (folder, os.path.dirname(folder), self._root):
                    fsutil.sync_directory(directory)
            with named(storage.staging, incoming.fd, incoming.link) as draft:
                fsutil.replace_name(storage.staging.fd, draft, chain[-1], path.segments[-1])
            if storage.syncs_directories:
                fsutil.sync_chain(chain)
        finally:
            fsutil.close_chain(chain)
        try:
            self._prune(slot)
        except OSError:
            pass  # the new file is there, which nothing may undo now; the next one or the sweep prunes

    def _note(self, slot: str, path: SlotPath, current: Entity) -> int:
        """The ledger says that the file is replaced now: the first of all steps, so a crash may count one too many and
        never one too few. Returns the number to link it away under, 0 where that is done or not wanted.

        Raises:
            TooManyVersions
        """
        ledger, now = self._ledger(slot)[1], self._clock()
        if wait := versions.seconds_to_wait(ledger, self._per_day, now):
            raise TooManyVersions(wait)
        left = self._leftover(slot, current)
        number = versions.next_number(ledger, self._numbers(slot)) if left is None else left
        changed = versions.replaced(ledger, number, self._per_day, now)
        values = {"path": path.raw.decode(), "highest": changed.highest, "made": changed.made}
        folder = self._folder(slot)
        fsutil.make_private_directory(folder)
        fsutil.write_private(os.path.join(folder, LEDGER), json.dumps(values).encode())
        return number if self._most and left is None else 0

    def _leftover(self, slot: str, current: Entity | None) -> int | None:
        """The version that is the current file: linked away and not replaced then. It can only be the newest, because
        equal content makes no version."""
        newest = max(self._numbers(slot), default=0)
        if not newest or current is None:
            return None
        is_current = os.stat(os.path.join(self._folder(slot), str(newest))).st_ino == current.inode
        return newest if is_current else None

    def _prune(self, slot: str) -> list[tuple[int, int]]:
        """Remove the oldest ones beyond MaxVersions: number and bytes freed of each."""
        return self._drop(slot, versions.surplus(self._numbers(slot), self._most))

    def _drop(self, slot: str, numbers: Sequence[int]) -> list[tuple[int, int]]:
        if not numbers:
            return []
        with fsutil.opened_directory(self._folder(slot)) as folder:
            return [(number, self._storage.drop_name(folder, b"%d" % number)) for number in numbers]

    # Looking

    def _check(self, path: SlotPath, total: int, conditions: WriteConditions) -> None:
        current = self._storage.files.entity_at(path) if self._check_replaceable(path) else None
        if not conditions.hold(current.etag if current else None):
            raise PreconditionFailed
        if current is not None and current.size != total:
            ledger = self._ledger(slot_name(path))[1]
            if wait := versions.seconds_to_wait(ledger, self._per_day, self._clock()):
                raise TooManyVersions(wait)

    def _of(self, path: SlotPath) -> list[OldVersion]:
        slot = slot_name(path)
        current = self._storage.files.entity_at(path)
        hidden = self._leftover(slot, current)
        found = [self._described(path, number) for number in self._numbers(slot) if number != hidden]
        if current is None and not found:
            self._storage.refuse_buried(path)
            raise NotFound
        return [version for version in found if version is not None]

    def _described(self, path: SlotPath, number: int) -> OldVersion | None:
        raw = f"{self._inside}/{self._place_of(slot_name(path))}/{number}".encode()
        try:
            stored = self._storage.files.open_beneath(raw, False)
        except NotFound:
            return None  # pruned meanwhile
        stored.close()
        return OldVersion(number, stored.entity, stored.metadata)

    def _kept(self, slot: str) -> list[KeptVersion]:
        path = self._ledger(slot)[0]
        found = []
        for number in self._numbers(slot):
            place = os.path.join(self._folder(slot), str(number))
            try:
                info = os.stat(place)
                entity = Entity(info.st_ino, info.st_size, info.st_mtime_ns)
                ends = self._storage.claimed_end(os.fsencode(place), entity)
            except FileNotFoundError:
                continue
            found.append(KeptVersion(slot, path, number, entity, ends))
        return found

    # Removing

    def _remove(self, version: KeptVersion) -> int | None:
        with self._storage.locks.held(version.slot):
            kept = {found.number: found.entity for found in self._kept(version.slot)}
            if kept.get(version.number) != version.entity:
                return None
            return sum(freed for _, freed in self._drop(version.slot, [version.number]))

    def _tidy(self, slot: str) -> list[Removed]:
        folder, removed = self._folder(slot), []
        with self._storage.locks.held(slot):
            path = self._ledger(slot)[0]
            current = None if path is None else self._storage.files.entity_at(path)
            if (left := self._leftover(slot, current)) is not None:
                self._drop(slot, [left])  # nothing is lost: it is the current file
            if path is not None and current is None:  # a deletion that was cut off
                removed += [Removed(path, *each, "DELETE") for each in self._drop(slot, self._numbers(slot))]
            if self._replaces:
                removed += [Removed(path, *each, "MaxVersions") for each in self._prune(slot)]
            if not self._numbers(slot) and self._is_old(folder):
                self._forget_folder(slot)
        return removed

    def _is_old(self, folder: str) -> bool:
        """Whether nothing in it counts for VersionsPerDay any more."""
        try:
            changed = os.stat(os.path.join(folder, LEDGER)).st_mtime
        except FileNotFoundError:
            return True
        return abs(self._clock() - changed) >= DAY

    def _forget_folder(self, slot: str) -> None:
        folder = self._folder(slot)
        try:
            for name in os.listdir(folder):
                if name.startswith(LEDGER):  # drafts of it too, which a crash left
                    fsutil.remove_file(os.path.join(folder, name))
        except FileNotFoundError:
            return
        fsutil.remove_empty(folder)

    # The folder of a slot

    def _place_of(self, slot: str) -> str:
        return f"{slot[:2]}/{slot}"

    def _folder(self, slot: str) -> str:
        return os.path.join(self._root, self._place_of(slot))

    def _numbers(self, slot: str) -> list[int]:
        """Of the versions that are there, ascending."""
        try:
            names = os.listdir(self._folder(slot))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _ledger(self, slot: str) -> tuple[SlotPath | None, Ledger]:
        """One that is missing or was damaged by a power cut counts as empty: it guards against replays, not files."""
        try:
            values = json.loads(fsutil.read_private(os.path.join(self._folder(slot), LEDGER), _LEDGER_BYTES))
            path = paths.parse(str(values["path"]).encode())
            if slot_name(path) != slot:
                return None, Ledger()
            return path, Ledger(int(values["highest"]), tuple(int(moment) for moment in values["made"]))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError, BadPath):
            return None, Ledger()


def _claims(metadata: Metadata) -> Metadata:
    """What a signature said of the file beyond its content: where it differs, so do the files."""
    return replace(metadata, content_type=None, sha256="", token_digest="")
