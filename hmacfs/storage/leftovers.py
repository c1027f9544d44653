"""What lies in ``StoreDir/.hmacfs`` beside the files: how much the partials hold, and sidecars that no file has.

A sidecar (``storage.metadata``) is named after inode and time of its file. Which files there are is told by a set of
fixed size, so one sidecar in many is taken for somebody's and stays until another sweep, with another seed.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from hmacfs.core.bloom import Seen
from hmacfs.offload import Pool
from hmacfs.storage.base import os_errors_translated
from hmacfs.storage.partialfolders import DATA
from hmacfs.storage.storedir import PRIVATE

SPARED_SECONDS = 86400
"""A sidecar is written before its file gets a name: a young one may be that of an upload on its way."""

_NOT_FILES = ("meta", "graves")
_SIDECAR = re.compile(r"([0-9a-f]+)-(-?[0-9a-f]+)\.json")


class LocalLeftovers:
    """Args:
    store_dir: absolute path of a prepared store.
    clock: Unix seconds.
    """

    def __init__(self, store_dir: str, disk: Pool, clock: Callable[[], float]) -> None:
        self._private = os.path.join(store_dir, PRIVATE)
        self._meta = os.path.join(self._private, "meta")
        self._disk = disk
        self._clock = clock

    def partial_bytes(self) -> Iterator[int]:
        """What the unfinished uploads take on the disk, in parts; their holes are not counted."""
        root = os.path.join(self._private, "partials")
        with os_errors_translated():
            groups = self._disk.run(os.listdir, root) if self._disk.run(os.path.isdir, root) else []
            for group in groups:
                yield self._disk.run(_partial_bytes, os.path.join(root, group))

    def has_sidecars(self) -> bool:
        with os_errors_translated():
            return self._disk.run(os.path.isdir, self._meta)

    def see_private(self, seen: Seen, batch: int) -> Iterator[int]:
        """Add the files that are kept under no slot's name (versions, partials, bodies on their way), job by job."""
        with os_errors_translated():
            found = self._private_files()
            while count := self._disk.run(_add_next, found, batch, seen):
                yield count

    def orphans(self, seen: Seen, batch: int, *, removes: bool) -> Iterator[list[str]]:
        """Names of the sidecars that belong to no file of ``seen``, job by job.

        Args:
            batch: sidecars of one job at most.
            removes: remove them.
        """
        with os_errors_translated():
            names = self._unknown(seen)
            while (found := self._disk.run(_next, names, batch, removes)) is not None:
                yield found

    def _private_files(self) -> Iterator[os.stat_result]:
        for name in os.listdir(self._private):
            if name not in _NOT_FILES:
                yield from (info for _, info in _walk(os.path.join(self._private, name)))

    def _unknown(self, seen: Seen) -> Iterator[str | None]:
        """Paths of orphans; None for each sidecar that stays."""
        latest = self._clock() - SPARED_SECONDS
        for path, info in _walk(self._meta):
            found = _SIDECAR.fullmatch(os.path.basename(path))
            is_old = found is not None and info.st_mtime < latest
            if found is not None and is_old and not seen.knows(int(found[1], 16), int(found[2], 16)):
                yield path
            else:
                yield None


def _partial_bytes(group: str) -> int:
    infos = (info for name, info in _walk(group) if name.endswith(DATA))
    return sum(min(info.st_size, 512 * info.st_blocks) for info in infos)


def _add_next(infos: Iterator[os.stat_result], most: int, seen: Seen) -> int:
    count = 0
    for info in islice(infos, most):
        seen.add(info.st_ino, info.st_mtime_ns)
        count += 1
    return count


def _next(names: Iterator[str | None], most: int, removes: bool) -> list[str] | None:
    looked = list(islice(names, most))
    if not looked:
        return None
    found = [path for path in looked if path is not None]
    for path in found if removes else ():
        with suppress(FileNotFoundError):
            os.unlink(path)
    return [os.path.basename(path) for path in found]


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file below ``folder``, while they come and go; nothing where there is no such folder."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
                continue
            with suppress(FileNotFoundError):
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    yield entry.path, info
