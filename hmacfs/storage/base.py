"""The storage port: what the services need of a place that keeps bytes, and the facts about a stored file.

An adapter stages bytes where no reader sees them and publishes them whole, or not at all, without replacing anything.
Foreign errors are translated here, once: an adapter lets OSError out of no method.
"""

import errno
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core.paths import SlotPath
from hmacfs.errors import BadPath, RequestError, StorageBusy, StorageFailed, StorageFull


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels with a file. ``content_type`` is None for files that were there before us."""

    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """Identity of one stored file: it changes whenever the bytes may have changed."""

    inode: int
    size: int
    modified_ns: int

    @property
    def etag(self) -> str:
        """A strong entity tag, quoted (RFC 9110 section 8.8.3). Never from a hash: that would read the file."""
        return f'"{self.inode:x}-{self.size:x}-{self.modified_ns:x}"'

    @property
    def modified(self) -> int:
        """Whole Unix seconds, for Last-Modified."""
        return self.modified_ns // 1_000_000_000


class Stored(Protocol):
    """An open file. It stays readable when the path is deleted or replaced meanwhile."""

    @property
    def entity(self) -> Entity: ...

    @property
    def metadata(self) -> Metadata: ...

    @property
    def content(self) -> bytes | None:
        """The whole file, where it is small and was read together with opening it; it is closed already then."""

    def descriptor(self) -> int:
        """The open file, for a server that can send it without us."""

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``; fewer only at the end of the file."""

    def close(self) -> None: ...


class Staged(Protocol):
    """Bytes on their way, invisible to readers."""

    def write(self, block: memoryview) -> None:
        """Append all of ``block``. Raises StorageFull, StorageBusy or StorageFailed."""

    def publish(self, metadata: Metadata) -> Entity:
        """Make the file visible under its path, durable as configured. From the moment it is visible nothing undoes it.

        Raises FileExists when the path was taken meanwhile, PathConflict when it cannot be a file.
        """

    def discard(self) -> None:
        """Forget everything that was not published and release what is held. Safe to call at any time, twice too."""


class Storage(Protocol):
    def check_vacant(self, path: SlotPath) -> None:
        """Raises FileExists or PathConflict when ``path`` could not be published now."""

    def stage(self, path: SlotPath) -> Staged: ...

    def store(self, path: SlotPath, content: bytearray, metadata: Metadata) -> Entity:
        """Stage, write and publish a small file in one job. Raises what these raise."""

    def free_bytes(self) -> int:
        """Free space for us on the store's filesystem."""

    def open(self, path: SlotPath, *, with_content: bool) -> Stored:
        """The regular file at ``path``.

        Args:
            with_content: have a small file read at once.

        Raises:
            NotFound: for anything else: missing, a directory, behind a symlink.
        """


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_BUSY = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN))


def translated(error: OSError) -> RequestError:
    """Our error for one of the operating system's."""
    detail = f"{errno.errorcode.get(error.errno or 0, 'OSError')}: {error.strerror}"
    if error.errno in _FULL:
        return StorageFull(detail)
    if error.errno in _BUSY:
        return StorageBusy(detail)
    if error.errno == errno.ENAMETOOLONG:  # a filesystem with shorter names, such as eCryptfs
        return BadPath(detail)
    return StorageFailed(detail)


class _Translating:
    """A class and not a generator: it stands on the way of every request."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise translated(error) from error


_TRANSLATING = _Translating()


def os_errors_translated() -> _Translating:
    """A ``with`` block out of which OSError comes as ours."""
    return _TRANSLATING
