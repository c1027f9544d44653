"""Files on a local disk, as StoreDir/PATH, the layout that prosody-filer and the Go server use too.

What is ours lies in ``StoreDir/.hmacfs``, a name that no slot can have. Every system call of a request runs in the
disk pool.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.errors import ConfigError, FileExists, Gone, NotFound, PathConflict, StorageFailed
from hmacfs.offload import InlinePool, Pool
from hmacfs.storage import fsutil, staging
from hmacfs.storage.base import Entity, Metadata, os_errors_translated, translated
from hmacfs.storage.metadata import Attributes, MetadataKeeper, Sidecars
from hmacfs.storage.slotlocks import SlotLocks, patiently, slot_name
from hmacfs.storage.staging import StagingArea

PRIVATE = ".hmacfs"
_KNOWN = 8192
"""Files whose metadata a worker remembers, by inode and time of its last change."""

SMALL = 64 * 1024
"""Files up to this size are read in the job that opens them."""

_NAMINGS = 100
"""How often a file is named anew because its folder went, empty, at the same moment. Each time takes microseconds; four
writers and deleters in one folder were seen to use up three."""

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW  # O_NONBLOCK: opening somebody's FIFO must not wait


def prepare(store_dir: str) -> None:
    """Make the store and what we need in it, and prove that it can hold files.

    Raises:
        ConfigError: one sentence that says what is wrong with StoreDir and what to do.
    """
    area = os.path.join(store_dir, PRIVATE, "staging")
    try:
        os.makedirs(store_dir, exist_ok=True)
        fsutil.make_private_directory(os.path.join(store_dir, PRIVATE))
        fsutil.make_private_directory(area)
        if not os.path.isdir(area):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), area)
        if os.stat(area).st_dev != os.stat(store_dir).st_dev:
            raise ConfigError(
                [
                    f"StoreDir: {area} lies on another filesystem than {store_dir}, so files could not be published "
                    "in one step. Remove the mount or link at that place."
                ]
            )
        _prove_links(area)
    except OSError as error:
        raise ConfigError([f"StoreDir: {_explained(error, store_dir)}"]) from error


def _explained(error: OSError, store_dir: str) -> str:
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else store_dir
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} may not be written by this user. Change its owner, or StoreDir."
    if error.errno == errno.EROFS:
        return f"{where} is on a read-only filesystem. Choose another StoreDir."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{where} is not a directory. Choose another StoreDir."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"there is no space left for {where}."
    return f"{where} cannot be used: {error.strerror}. Choose another StoreDir."


def _prove_links(area: str) -> None:
    """A file must be able to get a second name here: that is how publishing never replaces anything."""
    try:
        fsutil.prove_hard_links(area)
    except PermissionError as error:
        if error.errno == errno.EACCES:
            raise
        problem = (
            f"StoreDir: the filesystem of {area} has no hard links ({error.strerror}). Choose one like ext4 or xfs."
        )
        raise ConfigError([problem]) from error


def sweep_leftovers(store_dir: str) -> int:
    """Remove unfinished uploads that a crash left in a prepared store; returns how many files.

    Files that another server on the same store is still writing are locked, and stay.
    """
    try:
        return staging.sweep(os.path.join(store_dir, PRIVATE, "staging"))
    except OSError as error:
        raise ConfigError([f"StoreDir: {_explained(error, store_dir)}"]) from error


@dataclass(frozen=True, slots=True)
class Incoming:
    """A complete file that is about to get its name.

    Attributes:
        fd: the file, open.
        link: gives it a name in a directory: descriptor of the directory, name. Never replaces one.
    """

    fd: int
    entity: Entity
    metadata: Metadata
    link: Callable[[int, bytes], None]
    conditions: WriteConditions


Placed = tuple[Entity, list[int]]
"""What stands under the path now, and the open chain of its directories, still to be synced."""


class LocalStorage:
    """The storage port over one directory.

    Args:
        store_dir: absolute path; ``prepare`` has made it ready.
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
        self.place: Callable[[SlotPath, Incoming], Placed] = self._place_new
        """Gives a complete file its name, in the disk pool. Another one than ours may replace what is there."""
        self.on_deleting: Callable[[SlotPath], None] = _nothing
        """Called in the disk pool, under the path's lock, before a file is deleted; raises OSError."""
        self.on_last_name: Callable[[int, str], None] = _nobody
        """Called in the disk pool with inode and SHA-256 when a file has one name left; must not raise."""
        self.is_buried: Callable[[SlotPath], bool] = _never
        """Asked in the disk pool whether a path is gone and known to be."""
        self._dir_mode = dir_mode
        self._umask = fsutil.current_umask()
        with os_errors_translated():
            self._root = os.open(store_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.locks = SlotLocks(os.path.join(store_dir, PRIVATE, "slots.lock"))
            self.staging = StagingArea(os.path.join(store_dir, PRIVATE, "staging"), file_mode, self._umask)
            attributes = self._has_attributes() if use_attributes is None else use_attributes
        self._is_memory = fsutil.is_memory(self._root)
        self.short: Pool = InlinePool() if self._is_memory else disk
        """For short jobs. In memory there is no disk to wait for: they are over before a hop to the pool has begun."""
        self._known_metadata: dict[tuple[int, int], Metadata] = {}
        self._keeper: MetadataKeeper = (
            Attributes() if attributes else Sidecars(os.path.join(store_dir, PRIVATE, "meta"))
        )

    def check_vacant(self, path: SlotPath) -> None:
        with os_errors_translated():
            self.short.run(self.check_vacant_now, path)

    def stage(self, path: SlotPath) -> "LocalStaged":
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

    def delete(self, path: SlotPath) -> bool:
        with os_errors_translated():
            return patiently(self.disk, self._delete, path)

    def free_bytes(self) -> int:
        with os_errors_translated():
            info = self.short.run(os.statvfs, self._root)
        return info.f_bavail * info.f_frsize

    def open(self, path: SlotPath, *, with_content: bool) -> "LocalStored":
        with os_errors_translated():
            try:
                return self._open_now(path, with_content)
            except BlockingIOError:
                return self.disk.run(self._open, path, with_content)
            except NotFound:
                self.short.run(self.refuse_buried, path)
                raise

    def check_vacant_now(self, path: SlotPath) -> None:
        """As ``check_vacant``, for jobs of the disk pool."""
        try:
            fd = fsutil.open_beneath(self._root, path.raw, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return self.refuse_buried(path)
            if fsutil.is_missing(error):
                raise PathConflict from error
            raise translated(error) from error
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        raise PathConflict if is_directory else FileExists

    def refuse_buried(self, path: SlotPath) -> None:
        """Raises Gone where nothing is and it is known that something was. For jobs of the disk pool."""
        if self.is_buried(path):
            raise Gone

    def _open_now(self, path: SlotPath, with_content: bool) -> "LocalStored":
        """Open and read what the kernel has cached, in the loop: a hop to the pool costs more than all of it.

        Raises BlockingIOError when something would have to come from the disk.
        """
        fd = self._opened(fsutil.open_beneath_now, path.raw)
        try:
            entity, changed = _identified(fd)
            metadata = self._known_metadata.get((entity.inode, changed))
            if metadata is None:
                raise BlockingIOError
            if not with_content or entity.size > SMALL:
                return LocalStored(self.disk, fd, entity, metadata, None)
            content = fsutil.read_now(fd, entity.size, is_memory=self._is_memory)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return LocalStored(self.disk, -1, entity, metadata, content)

    def _open(self, path: SlotPath, with_content: bool) -> "LocalStored":
        try:
            return self.open_beneath(path.raw, with_content)
        except NotFound:
            self.refuse_buried(path)
            raise

    def open_beneath(self, raw: bytes, with_content: bool) -> "LocalStored":
        """The regular file at ``raw``, relative to the store. For jobs of the disk pool; raises as ``open`` does, but
        for Gone."""
        fd = self._opened(fsutil.open_beneath, raw)
        try:
            entity, changed = _identified(fd)
            metadata = self._keeper.read(fd, entity)
            if len(self._known_metadata) >= _KNOWN:
                self._known_metadata.clear()
            self._known_metadata[entity.inode, changed] = metadata
            if not with_content or entity.size > SMALL:
                return LocalStored(self.disk, fd, entity, metadata, None)
            content = os.pread(fd, entity.size, 0)
            if len(content) != entity.size:
                raise StorageFailed("the file became shorter while it was read")
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return LocalStored(self.disk, -1, entity, metadata, content)

    def _opened(self, opener: Callable[[int, bytes, int], int], raw: bytes) -> int:
        try:
            return opener(self._root, raw, _READ)
        except BlockingIOError:
            raise
        except OSError as error:
            if fsutil.is_missing(error) or error.errno == errno.ENXIO:  # ENXIO: a Unix socket lies there
                raise NotFound from error
            raise translated(error) from error

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

    def _delete(self, path: SlotPath) -> bool:
        """In an order that a crash may cut anywhere: old versions, the name, then what only the file needed, then empty
        folders."""
        *parents, name = path.segments
        try:
            chain = fsutil.open_existing_chain(self._root, parents)
        except OSError as error:
            if fsutil.is_missing(error):
                return False
            raise
        try:
            with self.locks.held(slot_name(path)):
                if self.entity_at(path) is None:
                    return False
                self.on_deleting(path)
                try:
                    self.drop_name(chain[-1], name)
                except FileNotFoundError:  # by other hands, just now
                    return False
            if self.syncs_directories:
                os.fsync(chain[-1])
            self.on_published(path)
            fsutil.remove_empty_chain(chain, parents)
        finally:
            fsutil.close_chain(chain)
        return True

    def entity_at(self, path: SlotPath) -> Entity | None:
        """The regular file at ``path``. For jobs of the disk pool; raises OSError."""
        try:
            fd = fsutil.open_beneath(self._root, path.raw, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if fsutil.is_missing(error):
                return None
            raise
        try:
            return _identified(fd)[0]
        except NotFound:
            return None
        finally:
            os.close(fd)

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
        if self.is_buried(path) and self.entity_at(path) is None:
            raise Gone
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
                fsutil.sync_chain(chain)  # an error here is told, yet the file stays: it may be seen already
        finally:
            fsutil.close_chain(chain)
        return found

    def metadata_of(self, fd: int, entity: Entity) -> Metadata:
        """What is kept of an open file. For jobs of the disk pool; raises OSError."""
        return self._keeper.read(fd, entity)

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
        fd = os.open(name, _READ | os.O_CLOEXEC, dir_fd=parent)
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
        found = self.entity_at(path)
        return found is not None and found.inode == entity.inode

    def _place_new(self, path: SlotPath, incoming: Incoming) -> Placed:
        return incoming.entity, self.name_new(path, incoming.link)

    def folder_chain(self, path: SlotPath) -> list[int]:
        """Descriptors of the directories that lead to ``path``, made where missing; for ``fsutil.close_chain``."""
        return fsutil.open_chain(self._root, path.segments[:-1], self._dir_mode, self._umask)

    def sync_name(self, path: SlotPath) -> None:
        """Make the name of a published file durable, as Durability says, where a crash may have kept that from being
        done. For jobs of the disk pool; raises OSError."""
        if self.syncs_directories:
            chain = self.folder_chain(path)
            try:
                fsutil.sync_chain(chain)
            finally:
                fsutil.close_chain(chain)

    def name_new(self, path: SlotPath, link: Callable[[int, bytes], None]) -> list[int]:
        """Link a file under ``path``; the open chain of its directories. Raises FileExistsError when it is taken."""
        for attempt in range(_NAMINGS):
            try:
                chain = self.folder_chain(path)
                try:
                    link(chain[-1], path.segments[-1])
                except BaseException:
                    fsutil.close_chain(chain)
                    raise
                return chain
            except FileNotFoundError:  # somebody removed an empty directory between our making and using it
                if attempt == _NAMINGS - 1:
                    raise
        raise AssertionError("unreachable")

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


def _nobody(_inode: int, _sha256: str) -> None:
    """Nobody else has a name of it."""


def _never(_path: SlotPath) -> bool:
    """Nothing is known to be gone."""
    return False


def _identified(fd: int) -> tuple[Entity, int]:
    """Who the open file is, and when its inode last changed. Raises NotFound for anything but a regular file."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise NotFound
    return Entity(info.st_ino, info.st_size, info.st_mtime_ns), info.st_ctime_ns


class LocalStaged:
    """One body on its way to ``path``."""

    def __init__(self, storage: LocalStorage, path: SlotPath, fd: int, name: bytes | None) -> None:
        self._storage = storage
        self._path = path
        self._fd = fd
        self._name = name
        self._length = 0

    def write(self, block: memoryview, watch: Callable[[memoryview], None] | None = None) -> None:
        with os_errors_translated():
            if watch is None:
                self._storage.disk.run(fsutil.write_all, self._fd, block, self._length)
            else:
                self._storage.disk.run(self._write_watched, block, watch)
        self._length += len(block)

    def _write_watched(self, block: memoryview, watch: Callable[[memoryview], None]) -> None:
        fsutil.write_all(self._fd, block, self._length)
        watch(block)

    def publish(self, metadata: Metadata, conditions: WriteConditions = ALWAYS) -> Entity:
        with os_errors_translated():
            return patiently(self._storage.disk, self._publish, metadata, conditions)

    def discard(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with os_errors_translated():
                self._storage.disk.run(self._release, fd)

    def _publish(self, metadata: Metadata, conditions: WriteConditions) -> Entity:
        storage = self._storage
        link = partial(storage.staging.link, self._fd, self._name)
        entity = storage.publish_open(self._path, self._fd, metadata, link, conditions)
        fd, self._fd = self._fd, -1
        try:
            self._release(fd)
        except OSError:
            pass  # the file is there and synced: whatever closing says, nothing may undo it now
        storage.on_published(self._path)
        return entity

    def _release(self, fd: int) -> None:
        os.close(fd)  # the last close of a large unpublished file frees its blocks, which may take a while
        self._storage.staging.forget(self._name)


class LocalStored:
    """An open, regular file."""

    __slots__ = ("_disk", "_fd", "content", "entity", "metadata")

    def __init__(self, disk: Pool, fd: int, entity: Entity, metadata: Metadata, content: bytes | None) -> None:
        self._disk = disk
        self._fd = fd
        self.entity = entity
        self.metadata = metadata
        self.content = content

    def descriptor(self) -> int:
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        with os_errors_translated():
            return self._disk.run(os.pread, self._fd, count, offset)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
