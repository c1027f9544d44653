"""Files on a local disk, as StoreDir/PATH, the layout that prosody-filer and the Go server use too.

What is ours lies in ``StoreDir/.hmacfs``, a name that no slot can have. Every system call of a request runs in the
disk pool.
"""

import errno
import os
import stat

from hmacfs.core.paths import SlotPath
from hmacfs.errors import ConfigError, FileExists, NotFound, PathConflict
from hmacfs.offload import Pool
from hmacfs.storage import fsutil, staging
from hmacfs.storage.base import Entity, Metadata, os_errors_translated, translated
from hmacfs.storage.metadata import Attributes, MetadataKeeper, Sidecars
from hmacfs.storage.staging import StagingArea

PRIVATE = ".hmacfs"
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
    return f"{where}: {error.strerror}."


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
        self._sync_file = durability != "none"
        self._sync_directories = durability == "full"
        self._dir_mode = dir_mode
        self._umask = fsutil.current_umask()
        with os_errors_translated():
            self._root = os.open(store_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.staging = StagingArea(os.path.join(store_dir, PRIVATE, "staging"), file_mode, self._umask)
            attributes = self._has_attributes() if use_attributes is None else use_attributes
        self._keeper: MetadataKeeper = (
            Attributes() if attributes else Sidecars(os.path.join(store_dir, PRIVATE, "meta"))
        )

    def check_vacant(self, path: SlotPath) -> None:
        self.disk.run(self._check_vacant, path)

    def stage(self, path: SlotPath) -> "LocalStaged":
        with os_errors_translated():
            fd, name = self.disk.run(self.staging.create)
        return LocalStaged(self, path, fd, name)

    def open(self, path: SlotPath) -> "LocalStored":
        with os_errors_translated():
            return self.disk.run(self._open, path)

    def _check_vacant(self, path: SlotPath) -> None:
        try:
            fd = fsutil.open_beneath(self._root, path.raw, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if fsutil.is_missing(error):
                raise PathConflict from error
            raise translated(error) from error
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        raise PathConflict if is_directory else FileExists

    def _open(self, path: SlotPath) -> "LocalStored":
        try:
            fd = fsutil.open_beneath(self._root, path.raw, _READ)
        except OSError as error:
            if fsutil.is_missing(error) or error.errno == errno.ENXIO:  # ENXIO: a Unix socket lies there
                raise NotFound from error
            raise translated(error) from error
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise NotFound
            entity = Entity(info.st_ino, info.st_size, info.st_mtime_ns)
            return LocalStored(self.disk, fd, entity, self._keeper.read(fd, entity))
        except BaseException:
            os.close(fd)
            raise

    def _publish(self, path: SlotPath, fd: int, name: bytes | None, metadata: Metadata) -> Entity:
        """Steps in an order that a crash may cut anywhere: metadata, data synced, the name, directories synced."""
        info = os.fstat(fd)
        entity = Entity(info.st_ino, info.st_size, info.st_mtime_ns)
        try:
            self._keeper.write(fd, metadata, sync=self._sync_file)
            if self._sync_file:
                os.fsync(fd)
            chain = self._name(path, fd, name)
        except OSError as error:
            self._keeper.forget(entity)
            if isinstance(error, FileExistsError):
                self._check_vacant(path)  # tells a directory from a file
                raise FileExists from error
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
                raise PathConflict from error
            raise
        try:
            if self._sync_directories:
                fsutil.sync_chain(chain)  # an error here is told, yet the file stays: it may be seen already
        finally:
            fsutil.close_chain(chain)
        return entity

    def _name(self, path: SlotPath, fd: int, name: bytes | None) -> list[int]:
        """Link the staged file under ``path``; the open chain of its directories."""
        for attempt in range(3):
            try:
                chain = fsutil.open_chain(self._root, path.segments[:-1], self._dir_mode, self._umask)
                try:
                    self.staging.link(fd, name, chain[-1], path.segments[-1])
                except BaseException:
                    fsutil.close_chain(chain)
                    raise
                return chain
            except FileNotFoundError:  # somebody removed an empty directory between our making and using it
                if attempt == 2:
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


class LocalStaged:
    """One body on its way to ``path``."""

    def __init__(self, storage: LocalStorage, path: SlotPath, fd: int, name: bytes | None) -> None:
        self._storage = storage
        self._path = path
        self._fd = fd
        self._name = name
        self._length = 0

    def write(self, block: memoryview) -> None:
        with os_errors_translated():
            self._storage.disk.run(fsutil.write_all, self._fd, block, self._length)
        self._length += len(block)

    def publish(self, metadata: Metadata) -> Entity:
        with os_errors_translated():
            return self._storage.disk.run(self._storage._publish, self._path, self._fd, self._name, metadata)

    def discard(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with os_errors_translated():
                self._storage.disk.run(self._release, fd)

    def _release(self, fd: int) -> None:
        os.close(fd)  # the last close of a large unpublished file frees its blocks, which may take a while
        self._storage.staging.forget(self._name)


class LocalStored:
    """An open, regular file."""

    __slots__ = ("_disk", "entity", "fd", "metadata")

    def __init__(self, disk: Pool, fd: int, entity: Entity, metadata: Metadata) -> None:
        self._disk = disk
        self.fd = fd
        self.entity = entity
        self.metadata = metadata

    def read(self, offset: int, count: int) -> bytes:
        with os_errors_translated():
            return self._disk.run(os.pread, self.fd, count, offset)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
