"""Where a file's content type is kept: in extended attributes, or beside the store where the filesystem has none.

Either way it is written before the file is published, and read without any database.
"""

import errno
import json
import os
from typing import Protocol

from hmacfs.core import contenttype
from hmacfs.errors import BadHeader
from hmacfs.storage import fsutil
from hmacfs.storage.base import Entity, Metadata

TYPE_ATTRIBUTE = "user.mime_type"
"""The name that freedesktop.org gives it (shared MIME-info, "user.mime_type")."""


class MetadataKeeper(Protocol):
    def write(self, fd: int, metadata: Metadata, *, sync: bool) -> None:
        """Keep ``metadata`` for the file that is open as ``fd`` and complete. Args: sync: make it durable."""

    def read(self, fd: int, entity: Entity) -> Metadata: ...
    def forget(self, entity: Entity) -> None:
        """The file will not be published after all."""


class Attributes:
    """Extended attributes of the file itself."""

    def write(self, fd: int, metadata: Metadata, *, sync: bool) -> None:  # noqa: ARG002 - synced with the file itself
        if metadata.content_type is not None:
            os.setxattr(fd, TYPE_ATTRIBUTE, metadata.content_type.encode("ascii"))

    def read(self, fd: int, entity: Entity) -> Metadata:  # noqa: ARG002 - the file itself answers
        try:
            return _checked(os.getxattr(fd, TYPE_ATTRIBUTE).decode("latin-1"))
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return Metadata()
            raise

    def forget(self, entity: Entity) -> None:
        """Nothing to do: the attributes go with the file."""


class Sidecars:
    """One small JSON file for each stored file, named after the inode and not the path: two uploads that race for one
    path cannot overwrite each other's.

    Args:
        directory: absolute path of the folder that holds them.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def write(self, fd: int, metadata: Metadata, *, sync: bool) -> None:
        info = os.fstat(fd)
        path = self._path(Entity(info.st_ino, info.st_size, info.st_mtime_ns))
        folder = os.path.dirname(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        content = json.dumps({"content_type": metadata.content_type}).encode()
        sidecar = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(sidecar, content)
            if sync:
                os.fsync(sidecar)
        finally:
            os.close(sidecar)
        for directory in (folder, self._directory) if sync else ():
            fsutil.sync_directory(directory)

    def read(self, fd: int, entity: Entity) -> Metadata:  # noqa: ARG002 - named after the entity
        try:
            with open(self._path(entity), encoding="utf-8") as file:
                return _checked(str(json.load(file).get("content_type") or ""))
        except (FileNotFoundError, ValueError, AttributeError):
            return Metadata()

    def forget(self, entity: Entity) -> None:
        try:
            os.unlink(self._path(entity))
        except FileNotFoundError:
            pass

    def _path(self, entity: Entity) -> str:
        return os.path.join(
            self._directory, f"{entity.inode & 0xFF:02x}", f"{entity.inode:x}-{entity.modified_ns:x}.json"
        )


def _checked(content_type: str) -> Metadata:
    """Other programs write this attribute too: only a value that may stand in a header counts."""
    try:
        return Metadata(contenttype.declared(content_type) if content_type else None)
    except BadHeader:
        return Metadata()
