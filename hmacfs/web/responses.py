"""Answers that are not errors."""

from collections.abc import Iterator
from email.utils import formatdate

from flask import Response

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
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
    stored = download.stored
    blocks = _blocks(stored, download.first, download.length, exchange) if stored else ()
    answer = Response(blocks, download.status, headers, content_type=download.content_type, direct_passthrough=True)
    if stored:
        answer.call_on_close(stored.close)
    return answer


def no_content(methods: str) -> Response:
    """204 for OPTIONS."""
    answer = Response(status=204, headers=[("Allow", methods)])
    del answer.headers["Content-Type"]
    return answer


def _blocks(stored: Stored, first: int, length: int, exchange: Exchange) -> Iterator[bytes]:
    end = first + length
    while first < end:
        block = stored.read(first, min(BLOCK, end - first))
        if not block:  # the file was cut while we read it; the connection must not look complete
            raise OSError("the file became shorter while it was sent")
        yield block
        first += len(block)
        exchange.sent += len(block)
