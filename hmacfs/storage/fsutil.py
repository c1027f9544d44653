"""Directory descriptors, opening beneath a root, linking, syncing: the only file that links or renames.

Everything is relative to a descriptor of the root and one path segment at a time, so nothing outside the root can be
named. Functions raise OSError; ``base.translated`` gives it a face.
"""

import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

LOCK_SECONDS = 5.0
"""Longer than any sync that is made under a lock should take."""
_LOCK_POLL_SECONDS = 0.002

PROBE = "probe-"
"""How names begin that find out what a filesystem can do."""

_SYS_OPENAT2 = 437  # the same number on every architecture (Linux 5.6)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH, _RESOLVE_CACHED = 0x02, 0x04, 0x08, 0x20


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS


def _openat2(root: int, path: bytes, flags: int, resolve: int = _RESOLVE) -> int:
    how = _OpenHow(flags, 0, resolve)
    fd: int = _libc.syscall(_SYS_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def _open_segments(root: int, path: bytes, flags: int) -> int:
    """What openat2 does in one call, segment by segment, for kernels and sandboxes without it."""
    *parents, name = path.split(b"/")
    if b".." in (*parents, name):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    here = root
    try:
        for segment in parents:
            there = os.open(segment, DIRECTORY, dir_fd=here)
            if here != root:
                os.close(here)
            here = there
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        if here != root:
            os.close(here)


def _has_openat2(resolve: int) -> bool:
    try:
        root = os.open("/", DIRECTORY)
    except OSError:
        return False
    try:
        os.close(_openat2(root, b".", DIRECTORY, resolve))
    except OSError:  # ENOSYS or EINVAL on old kernels, EPERM under strict seccomp filters
        return False
    finally:
        os.close(root)
    return True


_opener = _openat2 if _has_openat2(_RESOLVE) else _open_segments
_has_cached_lookup = _has_openat2(_RESOLVE | _RESOLVE_CACHED)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """A descriptor for ``path`` beneath the directory ``root``; no symlink is followed on the way.

    Raises:
        OSError: ENOENT, ENOTDIR; ELOOP or ENOTDIR for a symlink.
    """
    return _opener(root, path, flags | os.O_CLOEXEC)


def open_beneath_now(root: int, path: bytes, flags: int) -> int:
    """As ``open_beneath``, without ever waiting for a disk: only what the kernel has cached is looked up (Linux 5.12).

    Raises:
        BlockingIOError: the answer is not in the cache.
    """
    if not _has_cached_lookup:
        raise BlockingIOError
    return _openat2(root, path, flags | os.O_CLOEXEC, _RESOLVE | _RESOLVE_CACHED)


def read_now(fd: int, size: int, *, is_memory: bool) -> bytes:
    """The first ``size`` bytes without ever waiting for a disk.

    Args:
        is_memory: the file lies on tmpfs, which does not know the question but has no disk to wait for.

    Raises:
        BlockingIOError: they are not all in the page cache.
    """
    if is_memory:
        content = os.pread(fd, size, 0)
        if len(content) < size:
            raise BlockingIOError  # it was cut just now: the slow way tells
        return content
    buffer = bytearray(size)
    try:
        count = os.preadv(fd, (buffer,), 0, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a filesystem over a network, say
            raise BlockingIOError from error
        raise
    if count < size:
        raise BlockingIOError
    return bytes(buffer)


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


def is_missing(error: OSError) -> bool:
    """Whether the error says that there is no such file, symlinks counted as absent."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


def open_chain(root: int, segments: Sequence[bytes], mode: int, umask: int) -> list[int]:
    """Descriptors of every directory from ``root`` down along ``segments``, made where missing; ``root`` comes first.

    Args:
        mode: permissions of directories made here, whatever the umask says; a set-group-ID bit is inherited.
    """
    chain = [root]
    try:
        for segment in segments:
            chain.append(_enter(chain[-1], segment, mode, umask))
    except BaseException:
        close_chain(chain)
        raise
    return chain


def open_existing_chain(root: int, segments: Sequence[bytes]) -> list[int]:
    """As ``open_chain``, of directories that are there. Raises OSError where one is not (``is_missing``)."""
    chain = [root]
    try:
        for segment in segments:
            chain.append(os.open(segment, DIRECTORY, dir_fd=chain[-1]))
    except BaseException:
        close_chain(chain)
        raise
    return chain


def remove_empty_chain(chain: Sequence[int], segments: Sequence[bytes]) -> None:
    """Remove the directories of an open chain that are empty, the deepest first; the root stays.

    rmdir decides in one step whether a directory is empty. Who is about to put a file into one that goes finds its
    descriptor dead, and makes it again.

    Args:
        segments: the names of ``chain[1:]``.
    """
    for depth in range(len(segments), 0, -1):
        try:
            os.rmdir(segments[depth - 1], dir_fd=chain[depth - 1])
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EBUSY):
                return
            raise


def close_chain(chain: Sequence[int]) -> None:
    """Close what ``open_chain`` opened; the root stays open."""
    for fd in chain[1:]:
        os.close(fd)


def _enter(parent: int, segment: bytes, mode: int, umask: int) -> int:
    try:
        # Made first and not looked for first: a slot of an XMPP server has a folder of its own, which is new.
        os.mkdir(segment, mode, dir_fd=parent)
    except FileExistsError:
        return os.open(segment, DIRECTORY, dir_fd=parent)
    fd = os.open(segment, DIRECTORY, dir_fd=parent)
    if mode & umask:
        os.fchmod(fd, mode | (os.fstat(fd).st_mode & stat.S_ISGID))
    return fd


class SyncFailed(OSError):
    """An fsync failed. The kernel may have dropped the pages already, and the next fsync would call that a success
    (PostgreSQL's "fsyncgate"): what was to be synced counts as lost."""


def sync(fd: int) -> None:
    """Make a file's content and attributes durable. Raises SyncFailed."""
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


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


def sync_chain(chain: Sequence[int]) -> None:
    """Make the entries of all these directories durable, the deepest first.

    The whole chain each time, not only directories made by this call: another process may have made one a moment ago
    and not synced it yet. The deepest goes first because on a journalling filesystem its commit carries the others.
    """
    for fd in reversed(chain):
        os.fsync(fd)


def sync_directory(path: str) -> None:
    """Make the entries of one directory durable."""
    with opened_directory(path) as fd:
        os.fsync(fd)


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


def write_private(path: str, content: bytes) -> None:
    """A small private file has this content from now on, in one step; not synced. For who is alone in writing it: the
    draft has one name, so that a crash leaves no more than one."""
    draft = f"{path}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, memoryview(content), 0)
    finally:
        os.close(fd)
    os.rename(draft, path)


def read_private(path: str, most: int) -> bytes:
    """The first bytes of a small private file, at most ``most``."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(fd, min(most, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def link_private(source: str, target: str) -> None:
    """A second name for a private file. Raises FileExistsError when the name is taken, EMLINK when it has too many."""
    os.link(source, target, follow_symlinks=False)


def make_stamp(path: str, modified: float) -> None:
    """An empty private file that says a moment by the time of its last change; one that is there is left as it is."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.utime(fd, (modified, modified))
    finally:
        os.close(fd)


def remove_file(path: str) -> None:
    """Remove a private file; harmless where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_empty(folder: str) -> None:
    """Remove a private folder where nothing is in it."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


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


def make_private_directory(path: str) -> None:
    """A directory for our own use, mode 0700, parents made as needed; an existing one is left as it is."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass


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


def create_once(path: str, content: bytes) -> bytes:
    """The content of the private file at ``path``, made with ``content`` if it is missing.

    Durable, mode 0600, and the same answer for every process that starts at the same moment.
    """
    folder, name = os.path.split(path)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        draft = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            write_all(fd, memoryview(content), 0)
            os.fsync(fd)
            link_name(parent, draft.encode(), parent, name.encode())
            os.fsync(parent)
        except FileExistsError:
            pass  # another process was first: its content counts
        finally:
            os.close(fd)
            os.unlink(draft, dir_fd=parent)
    finally:
        os.close(parent)
    with open(path, "rb") as file:
        return file.read()


def replace_private(path: str, content: bytes) -> os.stat_result:
    """The private file at ``path`` has this content now, in one step and durable, mode 0600; facts about it."""
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, memoryview(content), 0)
        os.fsync(fd)
        info = os.fstat(fd)
        os.rename(draft, path)
    except BaseException:
        remove_file(draft)
        raise
    finally:
        os.close(fd)
    sync_directory(folder)
    return info
