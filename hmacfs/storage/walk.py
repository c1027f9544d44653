"""Every file of a store that a slot could have, in the order of their paths' bytes: the order of the catalogue.

Memory does not grow with the store. A folder's entries are taken in portions, the smallest names first, and a folder
with more than one portion is read once for each.
"""

import heapq
import os
from collections.abc import Iterator

from hmacfs.core import paths
from hmacfs.core.paths import MAX_SEGMENTS, SlotPath
from hmacfs.errors import BadPath
from hmacfs.storage import beneath, fsutil
from hmacfs.storage.base import os_errors_translated

PORTION = 50_000
"""Names of one folder that are held at a time, some 5 MB; no more than MAX_SEGMENTS folders are open at once."""


def slots(store_dir: str) -> Iterator[SlotPath]:
    """The paths of all regular files below ``store_dir`` that can be a slot's, ordered by their bytes.

    Our own folder, symlinks and names that no slot can have are left out. Files that come or go during the walk may be
    in it or not; a folder that goes ends with what was read of it.

    Raises:
        StorageFailed: the store cannot be opened, or one of its folders not be read.
    """
    with os_errors_translated():
        root = os.open(store_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from _below(root, b"", 1)
        finally:
            os.close(root)


def _below(folder: int, prefix: bytes, depth: int) -> Iterator[SlotPath]:
    for name in _names(folder):
        path = _slot(prefix + name.rstrip(b"/"))
        if path is None:
            continue
        if not name.endswith(b"/"):
            yield path
        elif depth < MAX_SEGMENTS:
            try:
                inner = os.open(name[:-1], fsutil.DIRECTORY, dir_fd=folder)
            except OSError as error:
                if beneath.is_missing(error):  # it went meanwhile, or something else is there now
                    continue
                raise
            try:
                yield from _below(inner, prefix + name, depth + 1)
            finally:
                os.close(inner)


def _slot(raw: bytes) -> SlotPath | None:
    try:
        return paths.parse(raw)
    except BadPath:
        return None


def _names(folder: int) -> Iterator[bytes]:
    """Names of files and, with a slash behind, of folders. The slash gives a folder the place of what is in it."""
    last = b""
    while True:
        with os.scandir(folder) as entries:
            portion = heapq.nsmallest(PORTION, (name for entry in entries if (name := _named(entry)) > last))
        yield from portion
        if len(portion) < PORTION:
            return
        last = portion[-1]


def _named(entry: "os.DirEntry[str]") -> bytes:
    """Empty for what is neither a regular file nor a folder."""
    if entry.is_dir(follow_symlinks=False):
        return os.fsencode(entry.name) + b"/"
    return os.fsencode(entry.name) if entry.is_file(follow_symlinks=False) else b""
