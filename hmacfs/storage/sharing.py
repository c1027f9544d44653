"""Equal content takes its space once: ``StoreDir/.hmacfs/content/ab/SHA256`` is one more name of a file that has it.

A later file with the same bytes becomes another name of that one, where nothing tells the two apart: type, owner,
permissions and everything else that travels with a file are one for all its names. The time of last change is the
newest of theirs, so that no rule of age removes a file before its time. Files that differ in such a thing, and all of
them where what travels is kept in sidecars, share their space by reflink where the filesystem has that (xfs, btrfs),
and are left alone elsewhere.

It happens behind the answer. A name is replaced in one step, under the lock of its path, and only while it still is
the file that was published: who uploads, replaces or deletes meanwhile wins, and a crash at any step leaves whole
files. Bytes are compared, whatever the hashes say: people edit files in place, and disks forget.

Everything blocks, and runs in the disk pool.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from hashlib import sha256

from hmacfs.core.paths import SlotPath
from hmacfs.errors import ConfigError, NotFound
from hmacfs.storage import chains, contents, fsutil, private
from hmacfs.storage.base import Entity, Metadata, os_errors_translated
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.metadata import SHA256_ATTRIBUTE
from hmacfs.storage.slotlocks import patiently, slot_name
from hmacfs.storage.staging import named
from hmacfs.storage.stored import LocalStored
from hmacfs.storage.storedir import GROUP, PRIVATE, folders_in

_HASH_BLOCK = 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


def prepare(store_dir: str) -> None:
    """Make the folder. Raises ConfigError."""
    try:
        private.make_private_directory(os.path.join(store_dir, PRIVATE, "content"))
    except OSError as error:
        raise ConfigError([f"StoreDir: equal content cannot be shared: {error}"]) from error


def is_prepared(store_dir: str) -> bool:
    """Whether content is shared here, or was."""
    return os.path.isdir(os.path.join(store_dir, PRIVATE, "content"))


class LocalContent:
    """The SharedContent port beside a LocalStorage; ``prepare`` has made its folder."""

    def __init__(self, storage: LocalStorage, store_dir: str) -> None:
        self._storage = storage
        self._inside = f"{PRIVATE}/content"
        self._root = os.path.join(store_dir, PRIVATE, "content")
        storage.on_last_name = self._release

    def share(self, path: SlotPath, entity: Entity, metadata: Metadata) -> int:
        with os_errors_translated():
            return patiently(self._storage.disk, self._share, path, entity, metadata.sha256)

    def sweep(self) -> Iterator[int]:
        """Remove the names of content that no file has any more, job by job; the bytes that each job freed."""
        with os_errors_translated():
            for group in self._storage.disk.run(folders_in, self._root, GROUP):
                yield self._storage.disk.run(self._sweep_group, os.path.join(self._root, group))

    def _share(self, path: SlotPath, entity: Entity, digest: str) -> int:
        if not entity.size:
            return 0
        try:
            ours = self._storage.files.open_beneath(path.raw, False)
        except NotFound:
            return 0
        with closing(ours):
            if ours.entity != entity:
                return 0  # replaced meanwhile: whoever did it shares the new one
            digest = digest or _digest_of(ours)
            first = self._first(digest, ours)
            if first is None:
                return 0
            with closing(first):
                return self._share_with(first, path, ours)

    def _first(self, digest: str, ours: LocalStored) -> LocalStored | None:
        """The earlier file with the same bytes; None where ours is the first, and known as such from now on."""
        raw = f"{self._inside}/{digest[:2]}/{digest}"
        try:
            first = self._storage.files.open_beneath(raw.encode(), False)
        except NotFound:
            self._enter(digest, ours)
            return None
        if first.entity.inode == ours.entity.inode:
            first.close()
            return None
        same = first.entity.size == ours.entity.size
        if same and contents.are_equal(first.descriptor(), ours.descriptor(), ours.entity.size):
            return first
        first.close()  # somebody changed it in place: it is not what its name says
        private.remove_file(os.path.join(self._root, digest[:2], digest))
        self._enter(digest, ours)
        return None

    def _enter(self, digest: str, ours: LocalStored) -> None:
        group = os.path.join(self._root, digest[:2])
        private.make_private_directory(group)
        # FileExistsError: another process was first. FileNotFoundError: ours is deleted. EMLINK: it has as many names
        # as the filesystem allows (ext4: 65,000).
        with fsutil.opened_directory(group) as folder, suppress(FileExistsError, FileNotFoundError):
            try:
                fsutil.link_descriptor(ours.descriptor(), folder, digest.encode())
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise

    def _share_with(self, first: LocalStored, path: SlotPath, ours: LocalStored) -> int:
        size = ours.entity.size
        if self._storage.shares_inodes and _is_same_but_for_bytes(first, ours):
            try:
                return size if self._replace(first, path, ours) else 0
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
        return size if contents.share_space(first.descriptor(), ours.descriptor(), size) else 0

    def _replace(self, first: LocalStored, path: SlotPath, ours: LocalStored) -> bool:
        """The path becomes a name of the first file. Whether it did."""
        storage, fd = self._storage, first.descriptor()
        link = partial(fsutil.link_descriptor, fd)
        with storage.locks.held(slot_name(path)):
            if storage.files.entity_at(path) != ours.entity:
                return False
            chain = storage.folders.chain_to(path)
            try:
                if storage.syncs_files:
                    fsutil.fsync(fd)  # it may have been stored when Durability was another
                with named(storage.staging, fd, link) as draft:
                    if os.fstat(fd).st_mtime_ns < ours.entity.modified_ns:
                        os.utime(fd, ns=(ours.entity.modified_ns, ours.entity.modified_ns))
                    fsutil.replace_name(storage.staging.fd, draft, chain[-1], path.segments[-1])
            except (FileNotFoundError, BlockingIOError):
                return False  # the first file has lost its last name, or somebody shares it at this very moment
            finally:
                chains.close_chain(chain)
        return True

    def _release(self, inode: int, digest: str) -> None:
        """A file has one name left: if that is ours, it goes."""
        place = os.path.join(self._root, digest[:2], digest)
        with suppress(OSError):
            info = os.stat(place, follow_symlinks=False)
            if (info.st_ino, info.st_nlink) == (inode, 1):
                os.unlink(place)

    def _sweep_group(self, group: str) -> int:
        freed = 0
        with fsutil.opened_directory(group) as folder:
            for name in filter(_DIGEST.fullmatch, os.listdir(folder)):
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
                    freed += self._storage.drop_name(folder, os.fsencode(name))
        return freed


def _digest_of(stored: LocalStored) -> str:
    hasher, offset = sha256(), 0
    while block := os.pread(stored.descriptor(), _HASH_BLOCK, offset):
        hasher.update(block)
        offset += len(block)
    return hasher.hexdigest()


def _is_same_but_for_bytes(first: LocalStored, second: LocalStored) -> bool:
    """Whether one inode can stand for both."""
    return _traits(first.descriptor()) == _traits(second.descriptor())


def _traits(fd: int) -> dict[str, object]:
    info = os.fstat(fd)
    found: dict[str, object] = {name: os.getxattr(fd, name) for name in os.listxattr(fd) if name != SHA256_ATTRIBUTE}
    return found | {"mode": info.st_mode, "owner": (info.st_uid, info.st_gid)}
