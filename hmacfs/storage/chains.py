"""The folders from the root of the store down to a file, open all together: made, synced, and removed where empty.

One path segment at a time, each relative to the descriptor of the one above. Functions raise OSError.
"""

import errno
import os
import stat
from collections.abc import Sequence

from hmacfs.storage.fsutil import DIRECTORY


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


def sync_chain(chain: Sequence[int]) -> None:
    """Make the entries of all these directories durable, the deepest first.

    The whole chain each time, not only directories made by this call: another process may have made one a moment ago
    and not synced it yet. The deepest goes first because on a journalling filesystem its commit carries the others.
    """
    for fd in reversed(chain):
        os.fsync(fd)


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
