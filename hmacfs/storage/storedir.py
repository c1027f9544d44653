"""StoreDir itself: what must be there before the first file, and what a crash may have left.

What is ours lies in ``StoreDir/.hmacfs``, a name that no slot can have.
"""

import errno
import os
import re

from hmacfs.errors import ConfigError
from hmacfs.storage import fsutil, private, staging

PRIVATE = ".hmacfs"

GROUP, SLOT = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{32}")
"""How folders in ours are called that hold those of slots, and what a slot's is called there (``slotlocks``)."""


def folders_in(folder: str, pattern: re.Pattern[str]) -> list[str]:
    """Names of the folders in one of ours that match; nothing where it is gone or no folder. Raises OSError.

    What somebody else left there, such as the .nfs files of a network filesystem, is passed over.
    """
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    with entries:
        return [each.name for each in entries if pattern.fullmatch(each.name) and each.is_dir(follow_symlinks=False)]


def prepare(store_dir: str) -> None:
    """Make the store and what we need in it, and prove that it can hold files.

    Raises:
        ConfigError: one sentence that says what is wrong with StoreDir and what to do.
    """
    area = os.path.join(store_dir, PRIVATE, "staging")
    try:
        os.makedirs(store_dir, exist_ok=True)
        private.make_private_directory(os.path.join(store_dir, PRIVATE))
        private.make_private_directory(area)
        if not os.path.isdir(area):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), area)
        if os.stat(area).st_dev != os.stat(store_dir).st_dev:
            raise ConfigError(
                [
                    f"StoreDir: {area} lies on another filesystem than {store_dir}, so files could not be published "
                    "in one step. Remove the mount or link at that place."
                ]
            )
        _prove_links(area)
    except OSError as error:
        raise ConfigError([f"StoreDir: {_explained(error, store_dir)}"]) from error


def _explained(error: OSError, store_dir: str) -> str:
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else store_dir
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} may not be written by this user. Change its owner, or StoreDir."
    if error.errno == errno.EROFS:
        return f"{where} is on a read-only filesystem. Choose another StoreDir."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{where} is not a directory. Choose another StoreDir."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"there is no space left for {where}."
    return f"{where} cannot be used: {error.strerror}. Choose another StoreDir."


def _prove_links(area: str) -> None:
    """A file must be able to get a second name here: that is how publishing never replaces anything."""
    try:
        fsutil.prove_hard_links(area)
    except PermissionError as error:
        if error.errno == errno.EACCES:
            raise
        problem = (
            f"StoreDir: the filesystem of {area} has no hard links ({error.strerror}). Choose one like ext4 or xfs."
        )
        raise ConfigError([problem]) from error


def sweep_leftovers(store_dir: str) -> int:
    """Remove unfinished uploads that a crash left in a prepared store; returns how many files.

    Files that another server on the same store is still writing are locked, and stay.
    """
    try:
        return staging.sweep(os.path.join(store_dir, PRIVATE, "staging"))
    except OSError as error:
        raise ConfigError([f"StoreDir: {_explained(error, store_dir)}"]) from error
