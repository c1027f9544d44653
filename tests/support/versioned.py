"""A store with versions that can be opened as another process would find it, and contents that tell whether they are
whole."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.offload import InlinePool
from hmacfs.storage import sharing, storedir, versionfolders
from hmacfs.storage.base import Entity, Metadata
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.sharing import LocalContent
from hmacfs.storage.versions import LocalVersions

PATH = "a/b.jpg"
PLAIN = Metadata("image/jpeg")


def slot(text: str = PATH) -> SlotPath:
    return paths.parse(text.encode())


def content_of(name: str, size: int = 100) -> bytes:
    """The only right content of this name."""
    head = f"{name} {size}\n".encode()
    return head + (sha256(head).digest() * (size // 32 + 1))[:size]


def name_of(content: bytes) -> str:
    """The name of a whole content. Fails for any other."""
    head = content.partition(b"\n")[0].decode()
    name, size = head.split(" ")
    assert content == content_of(name, int(size)), f"{name} is broken"
    return name


class Archive:
    """A store opened once more.

    Args:
        wall: Unix seconds.
        shares: whether equal content is shared too.
    """

    def __init__(
        self,
        store: Path,
        *,
        most: int = 3,
        per_day: int = 0,
        wall: Callable[[], float] = lambda: 1.7e9,
        replaces: bool = True,
        shares: bool = False,
        **options: Any,
    ) -> None:
        self.store = store
        storedir.prepare(str(store))
        versionfolders.prepare(str(store))
        sharing.prepare(str(store))
        given: dict[str, Any] = {"durability": "none", "file_mode": 0o640, "dir_mode": 0o750, **options}
        self.storage = LocalStorage(str(store), InlinePool(), **given)
        self.versions = LocalVersions(
            self.storage, str(store), most=most, per_day=per_day, clock=wall, replaces=replaces
        )
        self.content = LocalContent(self.storage, str(store)) if shares else None

    def close(self) -> None:
        os.close(self.storage._root)
        os.close(self.storage.staging.fd)

    def put(
        self,
        content: bytes,
        path: str = PATH,
        *,
        metadata: Metadata = PLAIN,
        conditions: WriteConditions = ALWAYS,
        in_blocks: bool = False,
    ) -> Entity:
        """One plain PUT, as a small file goes or as a large one."""
        if not in_blocks:
            return self.storage.store(slot(path), bytearray(content), metadata, conditions)
        staged = self.storage.stage(slot(path))
        try:
            staged.write(memoryview(content))
            return staged.publish(metadata, conditions)
        finally:
            staged.discard()

    def read(self, path: str = PATH) -> bytes:
        with closing(self.storage.open(slot(path), with_content=False)) as stored:
            return stored.read(0, 1 << 26)

    def old(self, path: str = PATH) -> dict[int, bytes]:
        """Every version, by its number."""
        found = {}
        for version in self.versions.of(slot(path)):
            with closing(self.versions.open(slot(path), version.number, with_content=False)) as stored:
                assert stored.entity == version.entity
                found[version.number] = stored.read(0, 1 << 26)
        return found

    def names(self, path: str = PATH) -> tuple[list[str], str]:
        """What is whole, by name: the versions, the oldest first, and the current file. Fails for what is not."""
        return [name_of(content) for content in self.old(path).values()], name_of(self.read(path))

    def tidied(self) -> int:
        """How much a sweep removes of what is kept beside the versions."""
        return sum(self.versions.sweep())

    def staged(self) -> list[str]:
        return os.listdir(self.store / ".hmacfs/staging")

    def version_files(self) -> list[str]:
        """Names in the folders of versions, without the ledgers and their drafts."""
        root = self.store / ".hmacfs/versions"
        return sorted(
            path.name for path in root.rglob("*") if path.is_file() and not path.name.startswith(versionfolders.LEDGER)
        )


@contextmanager
def opened(store: Path, **options: Any) -> Iterator[Archive]:
    archive = Archive(store, **options)
    try:
        yield archive
    finally:
        archive.close()
