"""Unfinished uploads on a real store: a shelf that can be opened as another process or another boot would find it."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.offload import InlinePool, Pool
from hmacfs.storage import partialfolders, storedir
from hmacfs.storage.base import Metadata, UploadHeader
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.partial import LocalPartial
from hmacfs.storage.partials import LocalPartials

TTL = 1000.0
TYPE = "image/jpeg"
DIED = 77
CHANGING = ("link", "unlink", "rename", "rmdir", "mkdir", "pwrite", "write", "fsync", "setxattr", "ftruncate")
"""System calls after each of which a process may die and leave something else behind."""


def slot(text: str) -> SlotPath:
    return paths.parse(text.encode())


def content_of(total: int) -> bytes:
    """The only right content of a file of this size."""
    return bytes((7 * n + n // 251) % 256 for n in range(total))


def header(
    token: str = "token-of-client-1", path: str = "a/b.jpg", total: int = 100, face: str = "session", **values: Any
) -> UploadHeader:
    return UploadHeader(slot(path), total, values.pop("content_type", TYPE), face, token, 1.7e9, **values)


class Shelf:
    """A store with its partials, opened once more: like another process on the same disk.

    Args:
        boot: the tag of the boot it runs in; None for this machine's own.
        wall: Unix seconds.
    """

    def __init__(
        self,
        store: Path,
        *,
        most: int = 3,
        boot: int | None = None,
        wall: Callable[[], float] = lambda: 0.0,
        disk: Pool | None = None,
        **options: Any,
    ) -> None:
        self.store = store
        storedir.prepare(str(store))
        partialfolders.prepare(str(store))
        given: dict[str, Any] = {"durability": "none", "file_mode": 0o640, "dir_mode": 0o750, **options}
        self.storage = LocalStorage(str(store), disk or InlinePool(), **given)
        self.partials = LocalPartials(self.storage, str(store), most=most, ttl=TTL, clock=wall)
        if boot is not None:
            self.partials.folders.boot = boot

    def close(self) -> None:
        os.close(self.storage._root)
        os.close(self.storage.staging.fd)

    def create(
        self, made: UploadHeader, *, others: int = 0, drop_idle: bool = False, is_draft: bool = False
    ) -> LocalPartial:
        return self.partials.create(made, others=lambda: others, drop_idle=drop_idle, is_draft=is_draft)

    def begin(self, made: UploadHeader, *spans: tuple[int, int], **options: bool) -> LocalPartial:
        """A new upload that has these bytes already."""
        partial = self.create(made, **options)
        for span in spans:
            write(partial, *span)
        return partial

    def left(self, token: str = "token-of-client-1", path: str = "a/b.jpg", face: str = "session") -> Any:
        """The spans of a partial as somebody else finds it; None where there is none."""
        found = self.partials.find(slot(path), face, token)
        if found is None:
            return None
        try:
            return found.look().extents.spans
        finally:
            found.close()

    def read(self, path: str = "a/b.jpg") -> tuple[bytes, Metadata]:
        stored = self.storage.open(slot(path), with_content=False)
        try:
            return stored.read(0, 1 << 24), stored.metadata
        finally:
            stored.close()

    def names(self) -> list[str]:
        """Every file that belongs to partials, without the locks; also while somebody removes some."""
        root = self.store / ".hmacfs/partials"
        return sorted(
            str(Path(folder, name).relative_to(root))
            for folder, _, names in os.walk(root)
            for name in names
            if name not in ("lock", "sweep.lock")
        )

    def folders(self) -> list[Path]:
        """The folders of slots that have one."""
        return [path for path in (self.store / ".hmacfs/partials").glob("??/*") if path.is_dir()]


def write(partial: LocalPartial, first: int, end: int, content: bytes | None = None) -> None:
    """One piece, from the claim to its end."""
    block = content_of(partial.header.total)[first:end] if content is None else content
    claim = partial.claim(first, end)
    assert claim is not None
    claim.write(memoryview(block), first, record=True, watch=None)
    claim.release()


def in_child(job: Callable[[], object]) -> int:
    """Run ``job`` in a forked process; its pid. It ends with 0, with ``job``'s own small number, or with a trace."""
    pid = os.fork()
    if pid:
        return pid
    try:
        result = job()
        os._exit(result if isinstance(result, int) else 0)
    except BaseException:  # noqa: BLE001 - whatever it was, the test's own code must not run twice
        traceback.print_exc(file=sys.stderr)
        os._exit(1)


def ended(pid: int) -> int:
    """The exit status of a child, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def together(count_of: int, job: Callable[[int], object]) -> list[int]:
    """Run ``job(number)`` in so many processes that begin at the same moment; how each ended."""
    waiting, go = os.pipe()

    def begin(number: int) -> object:
        os.close(go)
        os.read(waiting, 1)  # the end of the pipe comes to all at once
        return job(number)

    pids = [in_child(lambda number=number: begin(number)) for number in range(count_of)]  # type: ignore[misc]
    os.close(waiting)
    os.close(go)
    return [ended(pid) for pid in pids]


def dies_after(calls: int, job: Callable[[], object]) -> bool:
    """Run ``job`` in a process that dies, as by SIGKILL, after so many calls that change the disk; False: it ended."""

    def counted() -> int:
        left = calls

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal left
                if left <= 0:
                    os._exit(DIED)
                left -= 1
                return real(*args, **options)

            return call

        for name in CHANGING:
            setattr(os, name, wrapped(getattr(os, name)))
        job()
        return 0

    status = ended(in_child(counted))
    assert status in (0, DIED)
    return status == DIED


def each_death(folder: Path, prepare: Callable[[Path], Callable[[], object]]) -> Iterator[tuple[int, Path]]:
    """Do the same in a new store each time, and die one call later each time; the last one did not die.

    Args:
        prepare: makes what is there before in a folder of its own, and answers what is to be cut.
    """
    for calls in count():
        store = folder / f"store-{calls}"
        job = prepare(store)
        died = dies_after(calls, job)
        yield calls, store
        if not died:
            return


@contextmanager
def syncs() -> Iterator[list[str]]:
    """What is handed to fsync while the block runs, in order: absolute paths."""
    real = os.fsync
    seen: list[str] = []

    def fsync(fd: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield seen


def open_for_writing(under: Path) -> list[str]:
    """Files below a folder that this process has open for writing, the journals and locks of uploads left out."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
            flags = int(Path(f"/proc/self/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
        except FileNotFoundError:
            continue
        name = target.removesuffix(" (deleted)")
        if target.startswith(f"{under}/") and flags & os.O_ACCMODE and not name.endswith((".log", ".new", "lock")):
            found.append(target)
    return found
