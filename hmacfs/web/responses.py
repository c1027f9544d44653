"""Answers that are not errors."""

from collections.abc import Callable
from email.utils import formatdate

from flask import Response

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.errors import StorageFailed
from hmacfs.services.downloads import Download
from hmacfs.services.observer import Exchange
from hmacfs.storage.base import Entity, Stored

BLOCK = 256 * 1024
"""Bytes of one read of a download: large enough that the hop to the disk pool does not count."""

SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)
"""Stored files come from strangers: a browser must neither run, frame nor guess at them (XEP-0363, section 11)."""


def created(path: SlotPath, prefix: str, entity: Entity) -> Response:
    """201 for a published file."""
    answer = Response(status=201, headers=[("Location", paths.url_path(path.raw, prefix)), ("ETag", entity.etag)])
    del answer.headers["Content-Type"]
    answer.headers["Content-Length"] = "0"
    return answer


def downloaded(download: Download, exchange: Exchange) -> Response:
    """200, 206 or 304; the body, where there is one, closes the file and counts what was sent."""
    entity = download.entity
    headers = [
        ("ETag", entity.etag),
        ("Last-Modified", formatdate(entity.modified, usegmt=True)),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", download.cache_control),
        *SAFE_HEADERS,
    ]
    if download.disposition:
        headers.append(("Content-Disposition", download.disposition))
    if download.status == 206:
        last = download.first + download.length - 1
        headers.append(("Content-Range", f"bytes {download.first}-{last}/{entity.size}"))
    if download.status != 304:
        headers.append(("Content-Length", str(download.length)))
    body: FileBody | tuple[()] = ()
    if download.stored is not None:
        body = FileBody(download.stored, download.first, download.length, exchange)
    answer = Response(body, download.status, headers, content_type=download.content_type)
    if isinstance(body, FileBody):
        answer.direct_passthrough = True  # werkzeug hands our object itself to the server, which closes it
        body.on_close = answer.close
    return answer


def no_content(methods: str) -> Response:
    """204 for OPTIONS."""
    answer = Response(status=204, headers=[("Allow", methods)])
    del answer.headers["Content-Type"]
    return answer


class FileBody:
    """A slice of an open file as a response body, read in the disk pool block by block.

    Args:
        exchange: counts what was sent.

    Attributes:
        on_close: called after the file was closed, whether all was sent or not.
    """

    def __init__(self, stored: Stored, first: int, length: int, exchange: Exchange) -> None:
        self._stored = stored
        self._next = first
        self._end = first + length
        self._exchange = exchange
        self.on_close: Callable[[], None] | None = None

    def __iter__(self) -> "FileBody":
        return self

    def __next__(self) -> bytes:
        if self._next >= self._end:
            raise StopIteration
        block = self._stored.read(self._next, min(BLOCK, self._end - self._next))
        if not block:  # the file was cut while we read it: the connection must not look complete
            raise StorageFailed("the file became shorter while it was sent")
        self._next += len(block)
        self._exchange.sent += len(block)
        return block

    def close(self) -> None:
        self._stored.close()
        closed, self.on_close = self.on_close, None
        if closed is not None:
            closed()
