"""The file of the embedded tier: begun, told from another one under the same name, and set aside when it is damaged.

Nothing in it is needed to serve a file, so a damaged one is replaced by itself. Several processes have it open: who
begins or replaces it does so under a lock, and what is opened remembers which file it was.
"""

import fcntl
import glob
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

_BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside the file: of another file's it would take what was never in this one."""

_DAMAGES = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


class Renewed(OSError):
    """The file was replaced by an empty one: what failed may be tried once more."""


def begun(path: str) -> int:
    """The inode of the file, which is made, for our eyes only, where it is missing. Raises OSError.

    A file that is there is not opened: closing any descriptor of it would drop the locks that SQLite has on it.
    """
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with _locked(path, fcntl.LOCK_EX):
            if not os.path.lexists(path):
                _begin(path)
            return os.stat(path).st_ino


@contextmanager
def steady(path: str) -> Iterator[int]:
    """A ``with`` block in which nobody replaces the file; gets its inode. The file is made where it is missing.

    Raises OSError.
    """
    while True:
        begun(path)
        with _locked(path, fcntl.LOCK_SH):
            try:
                inode = os.stat(path).st_ino
            except FileNotFoundError:
                continue  # deleted since
            yield inode
            return


def is_same(path: str, inode: int) -> bool:
    """Whether the file is still the one that had this inode: not deleted, moved or replaced."""
    try:
        return os.stat(path).st_ino == inode
    except OSError:
        return False


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says that the file is no database, or not a whole one."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(_DAMAGES)


def set_aside(path: str, inode: int) -> None:
    """Move a damaged file away and begin a new one; nothing where another process has done so. Raises OSError.

    One damaged file is kept, the last one.
    """
    with _locked(path, fcntl.LOCK_EX):
        if not is_same(path, inode):
            return
        kept = f"{path}.damaged-{time.strftime('%Y-%m-%d', time.gmtime())}"
        for older in glob.glob(f"{glob.escape(path)}.damaged-*"):
            os.unlink(older)
        os.rename(path, kept)
        _begin(path)
    logging.getLogger(__name__).error(
        "%s was damaged: it is now %s, and a new one was begun. `hmacfs reindex` rebuilds the catalogue", path, kept
    )


def _begin(path: str) -> None:
    """An empty database in its place. It appears in WAL mode: of several processes that change the mode of a new file
    at the same moment SQLite refuses all but one, without waiting."""
    draft = f"{path}.new"
    for name in (*(path + suffix for suffix in _BESIDE), draft, *(draft + suffix for suffix in _BESIDE)):
        with suppress(FileNotFoundError):
            os.unlink(name)
    # SQLite gives -wal and -shm the mode of the file itself
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(draft)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    os.rename(draft, path)


@contextmanager
def _locked(path: str, how: int) -> Iterator[None]:
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)
