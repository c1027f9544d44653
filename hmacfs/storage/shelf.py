"""The files of a store as a sweep sees them: all of them in batches, in no order, and removed if they are still those.

Memory does not grow with the store: no more than MAX_SEGMENTS folders are open at once, and a batch is at most BATCH
files. What no slot can have (our own folder, odd names, symlinks) is left alone.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from hmacfs.core import paths
from hmacfs.core.paths import MAX_SEGMENTS, SlotPath
from hmacfs.core.retention import Batch, Held
from hmacfs.errors import BadPath
from hmacfs.storage import beneath, fsutil
from hmacfs.storage.base import Entity, GoneVersion, os_errors_translated
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.slotlocks import Held as Locked
from hmacfs.storage.slotlocks import slot_name

T = TypeVar("T")

BATCH = 16
"""Files of one job: about half a millisecond, because a request beside it has to share Python's lock with it."""


class LocalShelf:
    """The current files of a store.

    Args:
        store_dir: absolute path of the store that ``storage`` serves.
        graves: told of each path before its file goes.
    """

    def __init__(self, storage: LocalStorage, store_dir: str, graves: LocalGraves) -> None:
        self._storage = storage
        self._pool = storage.short  # a job here is short where no disk is waited for
        self._root = os.fsencode(store_dir)
        self._graves = graves

    def batches(self) -> Iterator[Batch]:
        """Every file that is there all the time; one that comes or goes meanwhile may be among them or not.

        Raises:
            StorageFailed, StorageBusy: a folder cannot be read.
        """
        found = self._found()
        while (batch := self._run(next, found, None)) is not None:
            yield batch

    def remove(self, files: Sequence[Held]) -> list[Held]:
        """Remove those that are still what was judged, and what is kept of them; all that went. Who has one open goes
        on reading it."""
        return self._run(self._with_root, self._unlink_some, files)

    def tidy(self, files: Sequence[Held]) -> None:
        """``files`` were removed: remove their folders where they are empty, and sync the others once, as Durability
        says."""
        self._run(self._with_root, self._tidy, {held.path.segments[:-1] for held in files})

    def remove_empty(self, folders: Sequence[bytes]) -> list[bytes]:
        """Remove folders of ``Batch.empty`` in which there still is nothing; which those were."""
        return self._run(self._with_root, self._remove_empty, folders)

    def _run(self, job: Callable[..., T], *args: object) -> T:
        with os_errors_translated():
            return self._pool.run(job, *args)

    def _with_root(self, job: Callable[..., T], *args: object) -> T:
        root = os.open(self._root, fsutil.DIRECTORY)
        try:
            return job(root, *args)
        finally:
            os.close(root)

    # In the disk pool

    def _found(self) -> Iterator[Batch]:
        batch = Batch()
        root = os.open(self._root, fsutil.DIRECTORY)
        try:
            for found in self._below(root, b"", 1):
                if isinstance(found, Held):
                    batch.files.append(found)
                else:
                    batch.empty.append(found)
                if len(batch.files) + len(batch.empty) >= BATCH:
                    yield batch
                    batch = Batch()
        finally:
            os.close(root)
        yield batch

    def _below(self, folder: int, prefix: bytes, depth: int) -> Iterator[Held | tuple[bytes, float]]:
        is_empty = True
        with os.scandir(folder) as entries:
            for entry in entries:
                is_empty = False
                raw = prefix + os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    if depth < MAX_SEGMENTS and _slot(raw) is not None:
                        yield from self._inside(folder, entry.name, raw, depth)
                elif (held := self._held(entry, raw)) is not None:
                    yield held
        if is_empty and prefix:
            yield prefix[:-1], os.fstat(folder).st_mtime

    def _inside(self, folder: int, name: str, raw: bytes, depth: int) -> Iterator[Held | tuple[bytes, float]]:
        try:
            inner = os.open(name, fsutil.DIRECTORY, dir_fd=folder)
        except OSError as error:
            # It went meanwhile, something else is there now, or it is closed to us, like lost+found.
            if beneath.is_missing(error) or error.errno == errno.EACCES:
                return
            error.filename = os.path.join(self._root, raw)  # so far it has the last segment only
            raise
        try:
            yield from self._below(inner, raw + b"/", depth + 1)
        finally:
            os.close(inner)

    def _held(self, entry: "os.DirEntry[str]", raw: bytes) -> Held | None:
        try:
            info = entry.stat(follow_symlinks=False)
            path = _slot(raw)
            if path is None or not stat.S_ISREG(info.st_mode):
                return None
            expires_at = self._storage.claimed_end(os.path.join(self._root, raw), _entity(info))
        except FileNotFoundError:
            return None
        return Held(path, info.st_ino, info.st_size, info.st_mtime_ns, expires_at)

    def _unlink_some(self, root: int, files: Sequence[Held]) -> list[Held]:
        removed = []
        for held in files:
            # Who holds a lock for longer replaces the file or deletes it: it is not what was judged any more.
            with suppress(Locked), self._storage.locks.held(slot_name(held.path)):
                removed += self._unlink(root, held)
        return removed

    def _unlink(self, root: int, held: Held) -> list[Held]:
        """The file and the versions that went with it; nothing where it is another one by now.

        The grave first: a crash in between must not leave the way open for a replay. Old versions last: those of a file
        that is gone are known as such, and the next sweep takes what a crash left."""
        try:
            folder = _folder(root, held.path.segments[:-1])
        except OSError as error:
            if beneath.is_missing(error):
                return []
            raise
        name = held.path.segments[-1]
        try:
            if not _is_there(folder, name, held):
                return []
            gone = self._bury_and_drop(folder, held)
        except FileNotFoundError:
            return []
        finally:
            os.close(folder)
        return [held, *(Held(held.path, 0, each.size, 0, version=each.number) for each in gone)]

    def _bury_and_drop(self, folder: int, held: Held) -> Sequence[GoneVersion]:
        """As a deletion does (``services.deletions``), which does not hold the path's lock while it buries."""
        name = held.path.segments[-1]
        is_new = self._graves.bury_now(held.path)
        try:
            self._storage.on_deleting(held.path)
            self._storage.drop_name(folder, name)
        except OSError:
            if is_new and _is_there(folder, name, held):
                self._graves.exhume_now(held.path)
            raise
        gone = self._storage.on_deleted(held.path)
        if not is_new:
            self._graves.bury_now(held.path)  # whoever made the grave may have taken it back
        return gone

    def _remove_empty(self, root: int, folders: Sequence[bytes]) -> list[bytes]:
        tops = {folder: self._tidy(root, {tuple(folder.split(b"/"))}) for folder in folders}
        return [folder for folder, removed in tops.items() if removed]

    def _tidy(self, root: int, folders: set[tuple[bytes, ...]]) -> int:
        """Remove those of the folders that are empty, and what is above them if it is empty then; how many.

        An upload that comes for one at the same moment makes it again. What stays has lost an entry, and is synced.
        """
        count = 0
        staying: set[tuple[bytes, ...]] = set()
        for folder in folders:
            while folder and _rmdir(root, folder):
                folder, count = folder[:-1], count + 1
            staying.add(folder)
        for folder in sorted(staying, key=len, reverse=True) if self._storage.syncs_directories else ():
            _at(root, folder, fsutil.fsync)
        return count


def _rmdir(root: int, folder: tuple[bytes, ...]) -> bool:
    """Whether it is gone now."""
    return _at(root, folder[:-1], lambda above: fsutil.remove_empty_at(above, folder[-1])) is not False


def _at(root: int, folder: Sequence[bytes], deed: Callable[[int], T]) -> T | None:
    """``deed`` with the open folder; None where it is gone."""
    try:
        fd = _folder(root, folder)
    except OSError as error:
        if beneath.is_missing(error):
            return None
        raise
    try:
        return deed(fd)
    finally:
        os.close(fd)


def _folder(root: int, segments: Sequence[bytes]) -> int:
    return beneath.open_beneath(root, b"/".join(segments) or b".", fsutil.DIRECTORY)


def _is_there(folder: int, name: bytes, held: Held) -> bool:
    """Whether the file is still what was judged."""
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _entity(info) == Entity(held.inode, held.size, held.modified_ns)


def _entity(info: os.stat_result) -> Entity:
    return Entity(info.st_ino, info.st_size, info.st_mtime_ns)


def _slot(raw: bytes) -> SlotPath | None:
    try:
        return paths.parse(raw)
    except BadPath:
        return None
