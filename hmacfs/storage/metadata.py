"""Where a file's content type is kept: in extended attributes, or beside the store where the filesystem has none.

Either way it is written before the file is published, and read without any database.
"""

import errno
import json
import os
import re
from typing import Protocol

from hmacfs.core import contenttype
from hmacfs.errors import BadHeader
from hmacfs.storage import fsutil
from hmacfs.storage.base import Entity, Metadata

TYPE_ATTRIBUTE = "user.mime_type"
"""The name that freedesktop.org gives it (shared MIME-info, "user.mime_type")."""
SHA256_ATTRIBUTE = "user.hmacfs.sha256"
TOKEN_ATTRIBUTE = "user.hmacfs.token"  # noqa: S105 - the name of an attribute
UPLOADER_ATTRIBUTE = "user.hmacfs.uploader"
EXPIRES_ATTRIBUTE = "user.hmacfs.expires"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SECONDS = re.compile(r"[0-9]{1,12}")


_FIELDS = ("content_type", "sha256", "token_digest", "uploader", "expires_at")


class MetadataKeeper(Protocol):
    def write(self, fd: int, metadata: Metadata, *, sync: bool) -> None:
        """Keep ``metadata`` for the file that is open as ``fd`` and complete. Args: sync: make it durable."""

    def read(self, fd: int, entity: Entity) -> Metadata: ...
    def forget(self, entity: Entity) -> None:
        """The file will not be published after all."""

    def claimed_end(self, place: bytes, entity: Entity) -> int:
        """When the file at an absolute path is to go by its uploader's claim, in Unix seconds; 0 for never.

        Of all that is kept the sweep wants only this, and without opening the file.
        """


class Attributes:
    """Extended attributes of the file itself."""

    def write(self, fd: int, metadata: Metadata, *, sync: bool) -> None:  # noqa: ARG002 - synced with the file itself
        if metadata.content_type is not None:
            os.setxattr(fd, TYPE_ATTRIBUTE, metadata.content_type.encode("ascii"))
        for name, digest in ((SHA256_ATTRIBUTE, metadata.sha256), (TOKEN_ATTRIBUTE, metadata.token_digest)):
            if digest:
                os.setxattr(fd, name, digest.encode("ascii"))
        if metadata.uploader:
            os.setxattr(fd, UPLOADER_ATTRIBUTE, metadata.uploader.encode())
        if metadata.expires_at:
            os.setxattr(fd, EXPIRES_ATTRIBUTE, b"%d" % metadata.expires_at)

    def read(self, fd: int, entity: Entity) -> Metadata:  # noqa: ARG002 - the file itself answers
        names = (TYPE_ATTRIBUTE, SHA256_ATTRIBUTE, TOKEN_ATTRIBUTE, UPLOADER_ATTRIBUTE, EXPIRES_ATTRIBUTE)
        return _checked(*(_attribute(fd, name) for name in names))

    def forget(self, entity: Entity) -> None:
        """Nothing to do: the attributes go with the file."""

    def claimed_end(self, place: bytes, entity: Entity) -> int:  # noqa: ARG002 - the file itself answers
        try:
            return _seconds(os.getxattr(place, EXPIRES_ATTRIBUTE, follow_symlinks=False).decode("latin-1"))
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return 0
            raise


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
        values = {
            "content_type": metadata.content_type,
            "sha256": metadata.sha256,
            "token_digest": metadata.token_digest,
            "uploader": metadata.uploader,
            "expires_at": str(metadata.expires_at or ""),
        }
        content = json.dumps(values).encode()
        sidecar = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(sidecar, content)
            if sync:
                fsutil.fsync(sidecar)
        finally:
            os.close(sidecar)
        for directory in (folder, self._directory) if sync else ():
            fsutil.sync_directory(directory)

    def read(self, fd: int, entity: Entity) -> Metadata:  # noqa: ARG002 - named after the entity
        try:
            with open(self._path(entity), encoding="utf-8") as file:
                values = json.load(file)
                return _checked(*(str(values.get(key) or "") for key in _FIELDS))
        except (FileNotFoundError, ValueError, AttributeError):
            return Metadata()

    def forget(self, entity: Entity) -> None:
        try:
            os.unlink(self._path(entity))
        except FileNotFoundError:
            pass

    def claimed_end(self, place: bytes, entity: Entity) -> int:  # noqa: ARG002 - named after the entity
        try:
            with open(self._path(entity), encoding="utf-8") as file:
                return _seconds(str(json.load(file).get("expires_at") or ""))
        except (FileNotFoundError, ValueError, AttributeError):
            return 0

    def _path(self, entity: Entity) -> str:
        return os.path.join(
            self._directory, f"{entity.inode & 0xFF:02x}", f"{entity.inode:x}-{entity.modified_ns:x}.json"
        )


def _attribute(fd: int, name: str) -> str:
    try:
        return os.getxattr(fd, name).decode("utf-8", "replace")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return ""
        raise


def _seconds(text: str) -> int:
    return int(text) if _SECONDS.fullmatch(text) else 0


def _checked(content_type: str, sha256: str, token_digest: str, uploader: str, expires_at: str) -> Metadata:
    """Other programs write these too: only what is well-formed counts, and the type only if a header may hold it."""
    content, token = (digest if _DIGEST.fullmatch(digest) else "" for digest in (sha256, token_digest))
    try:
        typed = contenttype.declared(content_type) if content_type else None
    except BadHeader:
        typed = None
    return Metadata(typed, content, token, uploader, _seconds(expires_at))
