"""Linking, renaming, syncing, locking and writing: the only file that links or renames.

Functions raise OSError; ``base.translated`` gives it a face.
"""

import ctypes
import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

sync_seconds: deque[float] = deque(maxlen=16384)
"""What the syncs of this file took, until somebody takes them. Appended to by any thread."""

LOCK_SECONDS = 5.0
"""Longer than any sync that is made under a lock should take."""
_LOCK_POLL_SECONDS = 0.002

PROBE = "probe-"
"""How names begin that find out what a filesystem can do."""

_libc = ctypes.CDLL(None)


def is_memory(fd: int) -> bool:
    """Whether the directory lies on a filesystem in memory."""
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return False
    return any(mount[2] == wanted and mount[mount.index("-") + 1] in ("tmpfs", "ramfs") for mount in mounts)


class SyncFailed(OSError):
    """An fsync failed. The kernel may have dropped the pages already, and the next fsync would call that a success
    (PostgreSQL's "fsyncgate"): what was to be synced counts as lost."""


def sync(fd: int) -> None:
    """Make a file's content and attributes durable. Raises SyncFailed."""
    try:
        fsync(fd)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def fsync(fd: int) -> None:
    """As ``os.fsync``, and how long it took is told."""
    begun = time.perf_counter()
    os.fsync(fd)
    sync_seconds.append(time.perf_counter() - begun)


def pause(seconds: float) -> None:
    """Let this thread alone sleep. For jobs of the disk pool: time.sleep is gevent's, and of another thread."""
    _libc.usleep(int(seconds * 1_000_000))


def patiently(attempt: Callable[[], bool]) -> None:
    """Repeat an attempt to lock until it holds. For jobs of the disk pool.

    Raises:
        BlockingIOError: it did not within seconds: a wait without end would cost a thread, and soon all of them.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not attempt():
        if time.monotonic() > deadline:
            raise BlockingIOError(errno.EAGAIN, "a lock of another process does not come free")
        pause(_LOCK_POLL_SECONDS)


def try_flock(fd: int) -> bool:
    """Hold the file's lock until its descriptor is closed; False when somebody else does."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(path: str) -> None:
    """Make the entries of one directory durable."""
    with opened_directory(path) as fd:
        fsync(fd)


@contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """A ``with`` block that has a directory open."""
    fd = os.open(path, DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def link_descriptor(fd: int, parent: int, name: bytes) -> None:
    """Give the open file ``fd`` a name; never replaces one. Raises FileExistsError when the name is taken.

    The source directory descriptor does nothing for an absolute path, but makes CPython call linkat, which follows the
    link in /proc; without it os.link answers EXDEV (cpython issue 81793).
    """
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=True)


def link_name(source_dir: int, source: bytes, parent: int, name: bytes) -> None:
    """A second name for a staged file; never replaces one. Raises FileExistsError when the name is taken."""
    os.link(source, name, src_dir_fd=source_dir, dst_dir_fd=parent, follow_symlinks=False)


def replace_name(source_dir: int, source: bytes, parent: int, name: bytes) -> None:
    """A staged file takes over the name of a published one in the same step: readers see the one or the other.

    Where both names are of one file already nothing changes, and the source stays (rename(2)).
    """
    os.rename(source, name, src_dir_fd=source_dir, dst_dir_fd=parent)


def rename(source: str, target: str) -> None:
    """Give a private file its name; one that has it already is replaced in the same step."""
    os.rename(source, target)


def replace_link(source: str, target: str) -> None:
    """``target`` becomes a second name of the private file ``source``, whatever it was before."""
    draft = f"{target}.{os.urandom(8).hex()}"
    os.link(source, draft, follow_symlinks=False)
    os.rename(draft, target)
    try:
        os.unlink(draft)  # still there where somebody was faster and both are names of one file (rename(2))
    except FileNotFoundError:
        pass


def link_private(source: str, target: str) -> None:
    """A second name for a private file. Raises FileExistsError when the name is taken, EMLINK when it has too many."""
    os.link(source, target, follow_symlinks=False)


def remove_empty_at(parent: int, name: bytes) -> bool:
    """Remove the folder ``name`` of ``parent`` where nothing is in it; whether it is gone now."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR, errno.EACCES, errno.EPERM):
            return False  # EBUSY: something is mounted there
        if error.errno != errno.ENOENT:
            raise
    return True


def write_all(fd: int, block: memoryview, offset: int) -> None:
    """Write the whole block at ``offset``, however often the kernel takes only a part."""
    done = 0
    while done < len(block):
        done += os.pwrite(fd, block[done:], offset + done)


def prove_hard_links(directory: str) -> None:
    """Raises OSError when files in ``directory`` cannot be made, or cannot have two names (EPERM)."""
    first = os.path.join(directory, f"{PROBE}{os.getpid()}-{os.urandom(4).hex()}")
    os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.link(first, first + "-link")
        os.unlink(first + "-link")
    except OSError as error:
        # vfat says EPERM, others that they do not support it: one answer for all
        raise OSError(errno.EPERM, os.strerror(error.errno or errno.EPERM), first) from error
    finally:
        os.unlink(first)


def current_umask() -> int:
    """This process's umask. Setting is the only way to read it everywhere, so call it before threads start."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
