"""Small files and folders of our own in ``StoreDir/.hmacfs`` and StateDir, which no client ever sees.

Functions raise OSError.
"""

import errno
import os

from hmacfs.storage import fsutil


def make_private_directory(path: str) -> None:
    """A directory for our own use, mode 0700, parents made as needed; an existing one is left as it is."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass


def create_once(path: str, content: bytes) -> bytes:
    """The content of the private file at ``path``, made with ``content`` if it is missing.

    Durable, mode 0600, and the same answer for every process that starts at the same moment.
    """
    folder, name = os.path.split(path)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        draft = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            fsutil.write_all(fd, memoryview(content), 0)
            fsutil.fsync(fd)
            fsutil.link_name(parent, draft.encode(), parent, name.encode())
            fsutil.fsync(parent)
        except FileExistsError:
            pass  # another process was first: its content counts
        finally:
            os.close(fd)
            os.unlink(draft, dir_fd=parent)
    finally:
        os.close(parent)
    with open(path, "rb") as file:
        return file.read()


def replace_private(path: str, content: bytes) -> os.stat_result:
    """The private file at ``path`` has this content now, in one step and durable, mode 0600; facts about it."""
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fsutil.write_all(fd, memoryview(content), 0)
        fsutil.fsync(fd)
        info = os.fstat(fd)
        fsutil.rename(draft, path)
    except BaseException:
        remove_file(draft)
        raise
    finally:
        os.close(fd)
    fsutil.sync_directory(folder)
    return info


def write_private(path: str, content: bytes) -> None:
    """A small private file has this content from now on, in one step; not synced. For who is alone in writing it: the
    draft has one name, so that a crash leaves no more than one."""
    draft = f"{path}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fsutil.write_all(fd, memoryview(content), 0)
    finally:
        os.close(fd)
    fsutil.rename(draft, path)


def read_private(path: str, most: int) -> bytes:
    """The first bytes of a small private file, at most ``most``."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(fd, min(most, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def make_stamp(path: str, modified: float) -> None:
    """An empty private file that says a moment by the time of its last change; one that is there is left as it is."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.utime(fd, (modified, modified))
    finally:
        os.close(fd)


def remove_file(path: str) -> None:
    """Remove a private file; harmless where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_empty(folder: str) -> None:
    """Remove a private folder where nothing is in it."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
