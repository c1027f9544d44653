"""Locks on ranges of a file's bytes, by open file description (fcntl, F_OFD_SETLK).

The kernel gives them back when the holder is gone, however it went, and they hold between greenlets, processes and
servers on one store alike. The bytes need not be there.
"""

import errno
import fcntl
import os
import struct

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid (0 for locks by open file description)


def try_lock(fd: int, first: int, end: int) -> bool:
    """Hold the range alone until ``unlock`` or the end of this descriptor; False when somebody holds a part."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, first, end))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(fd: int, first: int, end: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, first, end))


def is_held(fd: int, first: int, end: int) -> bool:
    """Whether somebody else holds a part of the range; takes nothing."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, first, end))
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _flock(kind: int, first: int, end: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, first, end - first, 0)
