"""Serving a file: find it, judge the conditions, plan the range. Sending is the web layer's part."""

from dataclasses import dataclass

from hmacfs.core import contenttype, preconditions, ranges
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import Conditions, Outcome
from hmacfs.errors import PreconditionFailed
from hmacfs.storage.base import Entity, Storage, Stored

CACHE_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """A GET or HEAD. ``range`` is the Range header, empty where absent."""

    path: SlotPath
    conditions: Conditions
    range: str = ""
    head: bool = False


@dataclass(frozen=True, slots=True)
class Download:
    """The answer to be sent.

    Attributes:
        status: 200, 206 or 304.
        first, length: the slice in bytes; ``length`` is what Content-Length says, also for HEAD.
        disposition: Content-Disposition, None for inline.
        stored: the open file, to be closed by the sender; None where no body follows.
    """

    status: int
    entity: Entity
    content_type: str
    disposition: str | None
    cache_control: str
    first: int
    length: int
    stored: Stored | None


class Downloads:
    """The use case of GET and HEAD."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def open(self, request: DownloadRequest) -> Download:
        """Find the file and decide what to send of it.

        Raises:
            NotFound, PreconditionFailed, RangeNotSatisfiable.
        """
        stored = self._storage.open(request.path)
        try:
            download = _plan(request, stored)
        except BaseException:
            stored.close()
            raise
        if download.stored is None:
            stored.close()
        return download


def _plan(request: DownloadRequest, stored: Stored) -> Download:
    entity = stored.entity
    outcome = preconditions.judge(request.conditions, entity.etag, entity.modified)
    if outcome is Outcome.FAILED:
        raise PreconditionFailed
    status, first, length = 200, 0, entity.size
    if outcome is Outcome.NOT_MODIFIED:
        status, length = 304, 0
    # RFC 9110 section 14.2: Range is defined for GET only, so HEAD answers as if it were absent.
    elif (
        request.range
        and not request.head
        and preconditions.range_applies(request.conditions, entity.etag, entity.modified)
    ):
        slice_ = ranges.plan(request.range, entity.size)
        if slice_ is not None:
            status, (first, length) = 206, slice_
    content_type = stored.metadata.content_type or contenttype.by_extension(request.path.name)
    return Download(
        status=status,
        entity=entity,
        content_type=content_type,
        disposition=contenttype.disposition(content_type, request.path.name),
        cache_control=CACHE_FOREVER,
        first=first,
        length=length,
        stored=None if request.head or status == 304 or not length else stored,
    )
