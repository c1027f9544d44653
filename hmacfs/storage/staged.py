"""A file on its way to its path: its body as it grows, and the whole of it as it is about to get its name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.storage import fsutil
from hmacfs.storage.base import Entity, Metadata, os_errors_translated
from hmacfs.storage.slotlocks import patiently

if TYPE_CHECKING:
    from hmacfs.storage.local import LocalStorage


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


class LocalStaged:
    """One body on its way to ``path``."""

    def __init__(self, storage: "LocalStorage", path: SlotPath, fd: int, name: bytes | None) -> None:
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
