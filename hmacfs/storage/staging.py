"""Files on their way: without a name where the filesystem can do that, so that a crash leaves nothing to sweep."""

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hmacfs.storage import fsutil

_TMPFILE = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_NAMED = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StagingArea:
    """The private directory on the store's filesystem where bodies are collected.

    Args:
        directory: absolute path; it exists.
        mode: permissions of the files, as published.
    """

    def __init__(self, directory: str, mode: int, umask: int) -> None:
        self._mode = mode
        self._umask = umask
        self.fd = os.open(directory, fsutil.DIRECTORY)
        self.anonymous = self._can_link_anonymous()

    def create(self) -> tuple[int, bytes | None]:
        """A new empty file: its descriptor, and its name in the staging directory unless it has none."""
        if self.anonymous:
            fd, name = os.open(".", _TMPFILE, self._mode, dir_fd=self.fd), None
        else:
            name = secrets.token_hex(16).encode()
            fd = os.open(name, _NAMED, self._mode, dir_fd=self.fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # tells the sweeper that somebody is at work
        if self._mode & self._umask:
            os.fchmod(fd, self._mode)
        return fd, name

    def create_at(self, path: str) -> None:
        """A new empty file with the permissions of a published one, at an absolute path of this filesystem."""
        fd = os.open(path, _NAMED, self._mode)
        try:
            if self._mode & self._umask:
                os.fchmod(fd, self._mode)
        finally:
            os.close(fd)

    def link(self, fd: int, name: bytes | None, parent: int, target: bytes) -> None:
        """Publish the staged file as ``target`` in the directory ``parent``. Raises FileExistsError when taken."""
        if name is None:
            fsutil.link_descriptor(fd, parent, target)
        else:
            fsutil.link_name(self.fd, name, parent, target)

    def forget(self, name: bytes | None) -> None:
        """Remove the staging name, whether or not the file was published under another."""
        if name is not None:
            try:
                os.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                pass  # swept meanwhile

    def _can_link_anonymous(self) -> bool:
        """Whether files without a name work here: O_TMPFILE is missing on some filesystems, /proc in some sandboxes."""
        probe = f"{fsutil.PROBE}{os.getpid()}-{secrets.token_hex(4)}".encode()
        try:
            fd = os.open(".", _TMPFILE, 0o600, dir_fd=self.fd)
        except OSError:
            return False
        try:
            fsutil.link_descriptor(fd, self.fd, probe)
            os.unlink(probe, dir_fd=self.fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


@contextmanager
def named(area: StagingArea, fd: int, link: Callable[[int, bytes], None]) -> Iterator[bytes]:
    """A ``with`` block in which a complete file has a name in the staging area, from where it may be renamed.

    It is locked meanwhile, so that no other server takes it for abandoned; what a crash leaves, the next start removes.

    Args:
        fd: the file, open.
        link: gives it a name: descriptor of the directory, name.
    """
    draft = secrets.token_hex(16).encode()
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: a file whose content is shared may be here twice
    try:
        link(area.fd, draft)
        yield draft
    finally:
        area.forget(draft)


def sweep(directory: str) -> int:
    """Remove files that a crash left in a staging directory: those that nobody holds locked. Returns how many.

    Probes of a server that is starting are held by nobody and live for a moment only: they are left alone.
    """
    area = os.open(directory, fsutil.DIRECTORY)
    removed = 0
    try:
        for name in os.listdir(area):
            if _is_abandoned(area, name):
                try:
                    os.unlink(name, dir_fd=area)
                    removed += 1
                except FileNotFoundError:
                    pass  # another server that starts on this store was faster
    finally:
        os.close(area)
    return removed


def _is_abandoned(area: int, name: str) -> bool:
    if name.startswith(fsutil.PROBE):
        return False
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=area, follow_symlinks=False).st_mode):
            return False  # none of ours
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=area)
    except FileNotFoundError:
        return False
    try:
        return fsutil.try_flock(fd)
    finally:
        os.close(fd)
