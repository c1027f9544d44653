"""Files on a local disk, as StoreDir/PATH, the layout that prosody-filer and the Go server use too.

Every system call of a request runs in the disk pool, but for what the kernel answers without a disk.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.core.retention import Held
from hmacfs.errors import FileExists, Gone, NotFound, PathConflict
from hmacfs.offload import InlinePool, Pool
from hmacfs.storage import beneath, chains, fsutil
from hmacfs.storage.base import Deleted, Entity, GoneVersion, Metadata, os_errors_translated, translated
from hmacfs.storage.folders import Folders
from hmacfs.storage.metadata import Attributes, MetadataKeeper, Sidecars
from hmacfs.storage.slotlocks import SlotLocks, patiently, slot_name
from hmacfs.storage.staged import Incoming, LocalStaged, Placed
from hmacfs.storage.staging import StagingArea
from hmacfs.storage.stored import READ, LocalStored, StoredFiles
from hmacfs.storage.storedir import PRIVATE


class LocalStorage:
    """The storage port over one directory.

    Args:
        store_dir: absolute path; ``storedir.prepare`` has made it ready.
        disk: where blocking calls run.
        durability: "full", "data" or "none" (configuration, Durability).
        file_mode, dir_mode: permissions of what is published.
        use_attributes: None to find out whether the filesystem has extended attributes.
    """

    def __init__(
        self,
        store_dir: str,
        disk: Pool,
        *,
        durability: str,
        file_mode: int,
        dir_mode: int,
        use_attributes: bool | None = None,
    ) -> None:
        self.disk = disk
        self.syncs_files = durability != "none"
        self.syncs_directories = durability == "full"
        self.on_published: Callable[[SlotPath], None] = _nothing
        """Called in the disk pool when a file was published at once, without a partial of its own, or was deleted: the
        slot's partials have no purpose any more. It must not raise."""
        self.place: Callable[[SlotPath, Incoming], Placed] = self.name_new
        """Gives a complete file its name, in the disk pool. Another one than ours may replace what is there."""
        self.on_deleting: Callable[[SlotPath], None] = _nothing
        """Called in the disk pool, under the path's lock, before a file is deleted; must not raise."""
        self.on_deleted: Callable[[SlotPath], Sequence[GoneVersion]] = _none_kept
        """Called in the disk pool, under the path's lock, when a file's name has gone: what is kept of it goes; what
        that was. It must not raise: nothing undoes the deletion, and the next sweep takes what is left."""
        self.on_last_name: Callable[[int, str], None] = _nobody
        """Called in the disk pool with inode and SHA-256 when a file has one name left; must not raise."""
        self.is_buried: Callable[[SlotPath], bool] = _never
        """Asked in the disk pool whether a path is gone and known to be."""
        self.is_over: Callable[[Held], bool] = _never_over
        """Asked in the disk pool whether a file's time is over, so that the next sweep takes it."""
        umask = fsutil.current_umask()
        self._place = os.fsencode(store_dir)
        with os_errors_translated():
            self._root = os.open(store_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.locks = SlotLocks(os.path.join(store_dir, PRIVATE, "slots.lock"))
            self.staging = StagingArea(os.path.join(store_dir, PRIVATE, "staging"), file_mode, umask)
            attributes = self._has_attributes() if use_attributes is None else use_attributes
        is_memory = fsutil.is_memory(self._root)
        self.short: Pool = InlinePool() if is_memory else disk
        """For short jobs. In memory there is no disk to wait for: they are over before a hop to the pool has begun."""
        self._keeper: MetadataKeeper = (
            Attributes() if attributes else Sidecars(os.path.join(store_dir, PRIVATE, "meta"))
        )
        self.files = StoredFiles(self._root, self._keeper, disk, is_memory=is_memory)
        self.folders = Folders(self._root, dir_mode, umask, syncs=self.syncs_directories)

    def check_vacant(self, path: SlotPath) -> None:
        with os_errors_translated():
            self.short.run(self.check_vacant_now, path)

    def stage(self, path: SlotPath) -> LocalStaged:
        with os_errors_translated():
            fd, name = self.short.run(self.staging.create)
        return LocalStaged(self, path, fd, name)

    def store(
        self,
        path: SlotPath,
        content: bytearray,
        metadata: Metadata,
        conditions: WriteConditions = ALWAYS,
        *,
        watch: Callable[[memoryview], None] | None = None,
    ) -> Entity:
        with os_errors_translated():
            return patiently(self.short, self._store, path, content, metadata, conditions, watch)

    def delete(self, path: SlotPath) -> Deleted | None:
        with os_errors_translated():
            return patiently(self.disk, self._delete, path)

    def free_bytes(self) -> int:
        with os_errors_translated():
            info = self.short.run(os.statvfs, self._root)
        return info.f_bavail * info.f_frsize

    def open(self, path: SlotPath, *, with_content: bool) -> LocalStored:
        with os_errors_translated():
            try:
                return self.files.open_now(path, with_content)
            except BlockingIOError:
                return self.disk.run(self._open, path, with_content)
            except NotFound:
                self.short.run(self.refuse_buried, path)
                raise

    def check_vacant_now(self, path: SlotPath) -> None:
        """As ``check_vacant``, for jobs of the disk pool."""
        try:
            fd = beneath.open_beneath(self._root, path.raw, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return self.refuse_buried(path)
            if beneath.is_missing(error):
                raise PathConflict from error
            raise translated(error) from error
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        if is_directory:
            raise PathConflict
        self.refuse_over(path)
        raise FileExists

    def refuse_over(self, path: SlotPath) -> None:
        """Raises Gone where the time of the file that is there is over: it goes with the next sweep, and nothing takes
        its place until then that would go with it. For jobs of the disk pool."""
        held = self.held_at(path)
        if held is not None and self.is_over(held):
            raise Gone

    def refuse_buried(self, path: SlotPath) -> None:
        """Raises Gone where it is known that a file has gone. For jobs of the disk pool."""
        if self.is_buried(path):
            raise Gone

    def _open(self, path: SlotPath, with_content: bool) -> LocalStored:
        try:
            return self.files.open_beneath(path.raw, with_content)
        except NotFound:
            self.refuse_buried(path)
            raise

    def _store(
        self,
        path: SlotPath,
        content: bytearray,
        metadata: Metadata,
        conditions: WriteConditions,
        watch: Callable[[memoryview], None] | None,
    ) -> Entity:
        if watch is not None:
            watch(memoryview(content))
        fd, name = self.staging.create()
        try:
            fsutil.write_all(fd, memoryview(content), 0)
            entity = self.publish_open(path, fd, metadata, partial(self.staging.link, fd, name), conditions)
        finally:
            os.close(fd)
            self.staging.forget(name)
        self.on_published(path)
        return entity

    def _delete(self, path: SlotPath) -> Deleted | None:
        """In an order that a crash may cut anywhere: the name, old versions, then what only the file needed, then empty
        folders. What a crash leaves of the versions is shown to nobody, as the path is buried; a sweep takes it."""
        *parents, name = path.segments
        try:
            chain = chains.open_existing_chain(self._root, parents)
        except OSError as error:
            if beneath.is_missing(error):
                return None
            raise
        try:
            with self.locks.held(slot_name(path)):
                current = self.files.entity_at(path)
                if current is None:
                    return None
                self.on_deleting(path)
                try:
                    self.drop_name(chain[-1], name)
                except FileNotFoundError:  # by other hands, just now
                    return None
                if self.syncs_directories:
                    fsutil.fsync(chain[-1])  # before versions go: a power cut must not bring back a file without them
                versions = self.on_deleted(path)
            self.on_published(path)
            chains.remove_empty_chain(chain, parents)
        finally:
            chains.close_chain(chain)
        return Deleted(current.size, versions)

    def held_at(self, path: SlotPath) -> Held | None:
        """The file at ``path`` as retention judges it. For jobs of the disk pool; raises OSError."""
        found = self.files.entity_at(path)
        if found is None:
            return None
        try:
            ends = self.claimed_end(os.path.join(self._place, path.raw), found)
        except FileNotFoundError:
            return None
        return _held(path, found, ends)

    def claimed_end(self, place: bytes, entity: Entity) -> int:
        """When the file at an absolute path is to go by its uploader's claim, 0 for never. Blocks."""
        return self._keeper.claimed_end(place, entity)

    def publish_open(
        self,
        path: SlotPath,
        fd: int,
        metadata: Metadata,
        link: Callable[[int, bytes], None],
        conditions: WriteConditions = ALWAYS,
    ) -> Entity:
        """Publish the file that is open as ``fd``. For jobs of the disk pool that go through ``patiently``; raises
        OSError beside the port's errors.

        Steps in an order that a crash may cut anywhere: metadata, data synced, the name, directories synced.

        Args:
            link: gives the file its name in a directory: descriptor of the directory, name.
        """
        info = os.fstat(fd)
        entity = Entity(info.st_ino, info.st_size, info.st_mtime_ns)
        is_ready = False
        if metadata.expires_at and self.is_over(_held(path, entity, metadata.expires_at)):
            raise Gone  # 201 says that GET works
        try:
            self._keeper.write(fd, metadata, sync=self.syncs_files)
            if self.syncs_files:
                fsutil.sync(fd)
            is_ready = True
            found, chain = self.place(path, Incoming(fd, entity, metadata, link, conditions))
        except BaseException as error:
            if not (is_ready and self._is_published(path, entity)):
                self._keeper.forget(entity)  # a crash behind the link left it published: then it is that file's
            if isinstance(error, FileExistsError):
                self.check_vacant_now(path)  # tells a directory from a file
                raise FileExists from error
            if isinstance(error, OSError) and error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
                raise PathConflict from error
            raise
        try:
            if self.syncs_directories:
                chains.sync_chain(chain)  # an error here is told, yet the file stays: it may be seen already
        finally:
            chains.close_chain(chain)
        return found

    def name_new(self, path: SlotPath, incoming: Incoming) -> Placed:
        """Give a file a free path. Raises FileExistsError when it is taken, Gone when its file has gone.

        Asked again once the name is there, and without the path's lock: who deletes buries the path before the name
        goes. So what was linked behind a deletion finds the grave, however long its data took to be synced. The look in
        front of it keeps a replay from being seen until then.
        """
        self.refuse_buried(path)
        chain = self.folders.name_new(path, incoming.link)
        try:
            self.refuse_revived(path, incoming.entity, chain)
        except BaseException:
            chains.close_chain(chain)
            raise
        return incoming.entity, chain

    def refuse_revived(self, path: SlotPath, entity: Entity, chain: Sequence[int]) -> None:
        """Take back the name of a file that was linked under a buried path, and raise Gone. For jobs of the disk pool;
        raises OSError.

        Args:
            chain: open directories of the path, which go where they are empty.
        """
        if not self.is_buried(path):
            return
        name = path.segments[-1]
        with suppress(FileNotFoundError):  # the deletion has found it
            if os.stat(name, dir_fd=chain[-1], follow_symlinks=False).st_ino == entity.inode:
                os.unlink(name, dir_fd=chain[-1])
        chains.remove_empty_chain(chain, path.segments[:-1])
        raise Gone

    def forget_metadata(self, entity: Entity) -> None:
        """A complete file is not stored after all."""
        self._keeper.forget(entity)

    def drop_name(self, parent: int, name: bytes) -> int:
        """Remove one name of a stored file, and with the last one what is kept of it; the bytes that this frees.

        For jobs of the disk pool that hold the lock of its path; raises OSError.

        Args:
            parent: descriptor of the directory.
        """
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        entity = Entity(info.st_ino, info.st_size, info.st_mtime_ns)
        if info.st_nlink == 1:
            os.unlink(name, dir_fd=parent)
            self._keeper.forget(entity)
            return entity.size
        fd = os.open(name, READ | os.O_CLOEXEC, dir_fd=parent)
        try:
            digest = self._keeper.read(fd, entity).sha256 if info.st_nlink == 2 else ""
            os.unlink(name, dir_fd=parent)
            if digest:
                self.on_last_name(entity.inode, digest)
            return 0 if os.fstat(fd).st_nlink else entity.size
        finally:
            os.close(fd)

    @property
    def shares_inodes(self) -> bool:
        """Whether what travels with a file is in the file, so that it may have several names."""
        return isinstance(self._keeper, Attributes)

    def _is_published(self, path: SlotPath, entity: Entity) -> bool:
        found = self.files.entity_at(path)
        return found is not None and found.inode == entity.inode

    def _has_attributes(self) -> bool:
        fd, name = self.staging.create()
        try:
            Attributes().write(fd, Metadata("text/plain"), sync=False)
        except OSError:
            return False
        finally:
            os.close(fd)
            self.staging.forget(name)
        return True


def _nothing(_path: SlotPath) -> None:
    """Nobody wants to know."""


def _none_kept(_path: SlotPath) -> Sequence[GoneVersion]:
    """Nothing is kept of any file."""
    return ()


def _nobody(_inode: int, _sha256: str) -> None:
    """Nobody else has a name of it."""


def _held(path: SlotPath, entity: Entity, expires_at: int) -> Held:
    return Held(path, entity.inode, entity.size, entity.modified_ns, expires_at)


def _never_over(_held: Held) -> bool:
    """Files stay for ever."""
    return False


def _never(_path: SlotPath) -> bool:
    """Nothing is known to be gone."""
    return False
