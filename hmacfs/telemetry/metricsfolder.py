"""Where the workers' counters lie: a private folder in memory, made by the master and removed with it.

Each server has one of its own, so that the old and the new master of a binary upgrade never count in the same file. A
folder that a killed master left is removed by the next start: nobody holds its lock any more.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping

from hmacfs.errors import ConfigError

_NAME = "hmacfs-metrics-"
_LOCK = "lock"
_YOUNG_SECONDS = 60.0
"""A folder without a lock may be one that somebody has just made."""


KINDS = ("counter", "histogram")
"""The files of each worker."""

FIRST_BYTES = 1 << 16
"""What prometheus_client makes and maps of a file first."""


class MetricsFolder:
    """Makes the folder; mode 0700. Its lock is held by this process and those that it forks.

    Args:
        base: a folder to make it in.
        workers: for whose files there has to be room now.

    Raises:
        ConfigError: it cannot be made, or there is no room.
    """

    def __init__(self, base: str, workers: int = 1) -> None:
        _remove_abandoned(base)
        try:
            self.path = tempfile.mkdtemp(prefix=_NAME, dir=base)
            self._lock = os.open(os.path.join(self.path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                [
                    f"MetricsEnabled: no folder for counters can be made in {base} ({error.strerror}). Let this user "
                    "write there, or set MetricsEnabled = false."
                ]
            ) from error
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if reason := allocate(self._lock, workers * len(KINDS) * FIRST_BYTES):
            self.remove()
            os.close(self._lock)
            raise ConfigError(
                [
                    f"MetricsEnabled: there is no room for counters in {base} ({reason}). Remove what fills it, or set "
                    "MetricsEnabled = false."
                ]
            )
        os.ftruncate(self._lock, 0)

    def remove(self) -> None:
        """At the end, in the master."""
        shutil.rmtree(self.path, ignore_errors=True)


def base_folder(environ: Mapping[str, str]) -> str:
    """systemd's RuntimeDirectory where there is one, else a folder in memory, else one for temporary files."""
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    for folder in (given, "/dev/shm"):  # noqa: S108 - what we make there is private, with a name that nobody can foresee
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return tempfile.gettempdir()


def allocate(fd: int, size: int) -> str:
    """Give a file ``size`` bytes of memory, or of its disk, that nobody can take away: touching a mapped page for which
    there is none left is a SIGBUS, and the end of a worker. What is in the file stays.

    Returns:
        Why it was not possible; empty where it was.
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        return error.strerror or "unknown error"
    return ""


def _remove_abandoned(base: str) -> None:
    try:
        with os.scandir(base) as entries:
            found = [entry.path for entry in entries if entry.name.startswith(_NAME)]
    except OSError:
        return
    for path in found:
        try:
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # somebody else removes it at the same moment


def _is_abandoned(path: str) -> bool:
    info = os.lstat(path)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        return False
    try:
        fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - info.st_mtime > _YOUNG_SECONDS
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
