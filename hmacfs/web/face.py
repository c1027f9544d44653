"""What the three faces of resumable uploads share: their protocol, and the headers that tell where an upload stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from hmacfs.core import paths, signature, structured
from hmacfs.core.paths import SlotPath
from hmacfs.errors import RequestError
from hmacfs.services.authority import Authority
from hmacfs.services.observer import Exchange
from hmacfs.services.progress import Progress
from hmacfs.services.resumable import Resumable
from hmacfs.services.sessions import Sessions
from hmacfs.services.uploads import Uploads
from hmacfs.storage.base import Entity
from hmacfs.web.reply import Headers, Reply
from hmacfs.web.requests import Environ

UPLOADS = b".uploads/"
"""Where upload resources live, behind the prefix: a name that no slot can have."""

UPLOAD_METHODS = "HEAD, OPTIONS, PATCH, POST, DELETE"
"""Of an upload resource. POST carries X-HTTP-Method-Override."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a face works with.

    Attributes:
        prefix: UploadSubDir, normalised.
        max_size: UploadMaxSize in bytes, 0 for no limit.
        interim: EnableInterimResponses.
    """

    sessions: Sessions
    resumable: Resumable
    uploads: Uploads
    prefix: str
    max_size: int
    interim: bool
    authority: Authority

    @property
    def accepts(self) -> tuple[signature.Protocol, ...]:
        """What may carry the signature of an upload, best first."""
        return self.authority.accepts

    @property
    def limits(self) -> str:
        """Upload-Limit (draft-ietf-httpbis-resumable-upload, section on the header field)."""
        limits = {"max-size": self.max_size} if self.max_size else {}
        return structured.serialise_integers(limits | {"min-size": 0, "max-age": int(self.resumable.rules.ttl)})

    def location(self, upload_id: str) -> str:
        """Path-absolute, of an upload resource."""
        return paths.url_path(UPLOADS + upload_id.encode(), self.prefix)

    def file_headers(self, path: SlotPath, entity: Entity | None) -> Headers:
        """Of an answer that tells of a published file."""
        headers = [("Location", paths.url_path(path.raw, self.prefix))]
        return [*headers, ("ETag", entity.etag)] if entity is not None else headers


class Face(Protocol):
    """One way of speaking about resumable uploads."""

    allow: str
    """Methods of the resource, for 405."""

    statuses: Mapping[str, int]
    """By stable code: where the face's own document wants another status than ours."""

    def answer(self, environ: Environ, exchange: Exchange) -> Reply:
        """Raises RequestError."""

    def dress(self, reply: Reply, error: RequestError) -> None:
        """Give a refusal what this face adds to it."""


def offset_headers(progress: Progress) -> Headers:
    """Upload-Offset, Upload-Length, and when the upload will be forgotten."""
    return [
        ("Upload-Offset", str(progress.offset)),
        ("Upload-Length", str(progress.total)),
        ("Upload-Expires", formatdate(progress.expires_at, usegmt=True)),
        ("Cache-Control", "no-store"),
    ]
