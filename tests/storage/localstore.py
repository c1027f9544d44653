"""Files of a LocalStorage, put and looked at."""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.storage.base import Entity, Metadata
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.stored import SMALL

PLAIN = Metadata("text/plain")
Make = Callable[..., LocalStorage]


def slot(text: str) -> SlotPath:
    return paths.parse(text.encode())


def put_in_blocks(storage: LocalStorage, path: str, content: bytes = b"hello", metadata: Metadata = PLAIN) -> Entity:
    staged = storage.stage(slot(path))
    try:
        if content:
            staged.write(memoryview(content))
        return staged.publish(metadata)
    finally:
        staged.discard()


def put_at_once(storage: LocalStorage, path: str, content: bytes = b"hello", metadata: Metadata = PLAIN) -> Entity:
    return storage.store(slot(path), bytearray(content), metadata)


_put = put_in_blocks


def put(storage: LocalStorage, path: str, content: bytes = b"hello", metadata: Metadata = PLAIN) -> Entity:
    """Either way, as the fixture ``each_way`` says."""
    return _put(storage, path, content, metadata)


def content_of(storage: LocalStorage, path: str) -> bytes:
    """Read from the open file; what is handed over together with opening must be the same."""
    with contextlib.closing(storage.open(slot(path), with_content=False)) as stored:
        content = stored.read(0, stored.entity.size + 1)
    with contextlib.closing(storage.open(slot(path), with_content=True)) as stored:
        assert stored.content == content if len(content) <= SMALL else stored.content is None
    return content


def visible(store: Path) -> list[str]:
    """Everything in the store that is not ours."""
    return sorted(
        str(path.relative_to(store)) for path in store.rglob("*") if path.relative_to(store).parts[0] != ".hmacfs"
    )


def private_files(store: Path) -> list[str]:
    """Every file of ours: staged bodies and sidecars."""
    return sorted(str(path.relative_to(store)) for path in (store / ".hmacfs").rglob("*") if not path.is_dir())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def failing(code: int) -> Callable[..., Any]:
    """What the system calls that it stands for answer. Args: code: errno."""

    def fail(*_args: Any, **_options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail
