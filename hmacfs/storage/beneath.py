"""Opening beneath a root, without following a symlink and, where it is asked for, without waiting for a disk.

Everything is relative to a descriptor of the root, so nothing outside of it can be named. Functions raise OSError;
``base.translated`` gives it a face.
"""

import ctypes
import errno
import os

from hmacfs.storage.fsutil import DIRECTORY

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


def is_missing(error: OSError) -> bool:
    """Whether the error says that there is no such file, symlinks counted as absent."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
