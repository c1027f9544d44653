"""Files that are there: opened beneath the root of the store, read, and told from each other."""

import errno
import os
import stat
from collections.abc import Callable

from hmacfs.core.paths import SlotPath
from hmacfs.errors import NotFound, StorageFailed
from hmacfs.offload import Pool
from hmacfs.storage import beneath
from hmacfs.storage.base import Entity, Metadata, os_errors_translated, translated
from hmacfs.storage.metadata import MetadataKeeper

_KNOWN = 8192
"""Files whose metadata a worker remembers, by inode and time of its last change."""

SMALL = 64 * 1024
"""Files up to this size are read in the job that opens them."""

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW  # O_NONBLOCK: opening somebody's FIFO must not wait


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


class StoredFiles:
    """What stands under the paths of one store.

    Args:
        root: descriptor of the store.
        keeper: of what travels with a file.
        disk: where what was opened is read.
        is_memory: the store lies on tmpfs.
    """

    def __init__(self, root: int, keeper: MetadataKeeper, disk: Pool, *, is_memory: bool) -> None:
        self._root = root
        self._keeper = keeper
        self._disk = disk
        self._is_memory = is_memory
        self._known_metadata: dict[tuple[int, int], Metadata] = {}

    def open_now(self, path: SlotPath, with_content: bool) -> LocalStored:
        """Open and read what the kernel has cached, in the loop: a hop to the pool costs more than all of it.

        Raises BlockingIOError when something would have to come from the disk.
        """
        fd = self._opened(beneath.open_beneath_now, path.raw)
        try:
            entity, changed = _identified(fd)
            metadata = self._known_metadata.get((entity.inode, changed))
            if metadata is None:
                raise BlockingIOError
            if not with_content or entity.size > SMALL:
                return LocalStored(self._disk, fd, entity, metadata, None)
            content = beneath.read_now(fd, entity.size, is_memory=self._is_memory)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return LocalStored(self._disk, -1, entity, metadata, content)

    def open_beneath(self, raw: bytes, with_content: bool) -> LocalStored:
        """The regular file at ``raw``, relative to the store. For jobs of the disk pool; raises as ``open`` does, but
        for Gone."""
        fd = self._opened(beneath.open_beneath, raw)
        try:
            entity, changed = _identified(fd)
            metadata = self._keeper.read(fd, entity)
            if len(self._known_metadata) >= _KNOWN:
                self._known_metadata.clear()
            self._known_metadata[entity.inode, changed] = metadata
            if not with_content or entity.size > SMALL:
                return LocalStored(self._disk, fd, entity, metadata, None)
            content = os.pread(fd, entity.size, 0)
            if len(content) != entity.size:
                raise StorageFailed("the file became shorter while it was read")
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return LocalStored(self._disk, -1, entity, metadata, content)

    def entity_at(self, path: SlotPath) -> Entity | None:
        """The regular file at ``path``. For jobs of the disk pool; raises OSError."""
        try:
            fd = beneath.open_beneath(self._root, path.raw, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if beneath.is_missing(error):
                return None
            raise
        try:
            return _identified(fd)[0]
        except NotFound:
            return None
        finally:
            os.close(fd)

    def _opened(self, opener: Callable[[int, bytes, int], int], raw: bytes) -> int:
        try:
            return opener(self._root, raw, READ)
        except BlockingIOError:
            raise
        except OSError as error:
            if beneath.is_missing(error) or error.errno == errno.ENXIO:  # ENXIO: a Unix socket lies there
                raise NotFound from error
            raise translated(error) from error


def _identified(fd: int) -> tuple[Entity, int]:
    """Who the open file is, and when its inode last changed. Raises NotFound for anything but a regular file."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise NotFound
    return Entity(info.st_ino, info.st_size, info.st_mtime_ns), info.st_ctime_ns
