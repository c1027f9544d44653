"""Whether a store can be written, found out as an upload would: a block in a file without a name, and gone again."""

import os

from hmacfs.core.health import Store
from hmacfs.core.wallclock import Swept
from hmacfs.errors import RequestError
from hmacfs.storage import fsutil
from hmacfs.storage.staging import StagingArea
from hmacfs.storage.sweepfile import SweepFile

_BLOCK = memoryview(bytes(4096))

ANOTHER = "its folder is not the one that the server started with; a mount has come or gone"


class StoreProbe:
    """Make it when the store has been opened: what lies at its path then is what has to be there ever after.

    Args:
        store_dir: absolute path of a prepared store.
        staging: where uploads begin.
    """

    def __init__(self, store_dir: str, staging: StagingArea) -> None:
        self._root = store_dir
        self._staging = staging
        self._notes = SweepFile(store_dir)
        self._identity = _identity(store_dir)

    def look(self) -> Store:
        """For a pool thread: blocks as long as the disk does, and raises nothing for what is wrong with it.

        Nothing is synced: on a disk that is busy that may take longer than anybody waits here.
        """
        try:
            # Uploads go to the folder that was opened at the start, also when its mount has gone from the path since,
            # where nobody would find them again.
            if _identity(self._root) != self._identity:
                return Store(ANOTHER)
            info = os.statvfs(self._root)
        except OSError as error:
            return Store(_told(error))
        free, swept = info.f_bavail * info.f_frsize, self._swept()
        try:
            self._write()
        except OSError as error:
            return Store(_told(error), free, swept)
        return Store("", free, swept)

    def _write(self) -> None:
        fd, name = self._staging.create()
        try:
            fsutil.write_all(fd, _BLOCK, 0)
        finally:
            self._staging.forget(name)
            os.close(fd)

    def _swept(self) -> Swept | None:
        try:
            return self._notes.load()
        except RequestError:
            return None


def _told(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _identity(path: str) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino
