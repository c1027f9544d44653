"""Answers that are not errors."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import quote

from hmacfs.core import checksum, contenttype, paths
from hmacfs.core.paths import SlotPath
from hmacfs.errors import StorageFailed
from hmacfs.services.downloads import Download, Transfer
from hmacfs.services.history import CACHE_NEVER
from hmacfs.services.observer import Exchange
from hmacfs.storage.base import Entity, OldVersion
from hmacfs.web.reply import Headers, Reply

BLOCK = 256 * 1024
"""Bytes of one read of a download: large enough that the hop to the disk pool does not count."""

OFFLOAD_FROM = 64 * 1024 + 1
"""Files from this size on are left to the proxy; for smaller ones its second open costs as much as the bytes."""

SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)
"""Stored files come from strangers: a browser must neither run, frame nor guess at them (XEP-0363, section 11)."""


def created(path: SlotPath, prefix: str, entity: Entity) -> Reply:
    """201 for a published file."""
    location = paths.url_path(path.raw, prefix)
    return Reply(201, [("Location", location), ("ETag", entity.etag), ("Content-Length", "0")])


@dataclass(frozen=True, slots=True)
class Offload:
    """Whether, and how, the proxy in front sends the bytes (DirectDownloads).

    Args:
        mode: "" for never, "X-Accel-Redirect:/prefix/" for nginx, "X-Sendfile" for Apache and lighttpd.
        store_dir: absolute, for X-Sendfile.
    """

    mode: str
    store_dir: str

    def threshold(self, *, peer_is_proxy: bool) -> int | None:
        """Bytes from which on it pays; None where nobody would understand the header."""
        return OFFLOAD_FROM if self.mode and peer_is_proxy else None

    def header(self, path: SlotPath) -> tuple[str, str]:
        """All three servers decode the value once, so everything that is not plain is percent-encoded."""
        name, _, prefix = self.mode.partition(":")
        base = prefix if prefix else self.store_dir.rstrip("/") + "/"
        return name, quote(base, safe="/-._~") + quote(path.raw, safe="/-._~")


def downloaded(download: Download, path: SlotPath, offload: Offload, exchange: Exchange) -> Reply:
    """200, 206 or 304. Where the file itself is the body, the body closes it and counts what was sent."""
    headers = _download_headers(download)
    if download.offloaded:
        # nginx hands that one on and adds its own; the others set theirs too.
        headers = [pair for pair in headers if pair[0] != "Accept-Ranges"]
        return Reply(200, [*headers, ("Content-Length", "0"), offload.header(path)])
    if download.status != 304:
        headers.append(("Content-Length", str(download.length)))
    if download.transfer is None:
        exchange.sent = len(download.content)
        return Reply(download.status, headers, download.content)
    exchange.whole = download.length
    return Reply(download.status, headers, FileBody(download.transfer, download.first, download.length, exchange))


def version_list(versions: Sequence[OldVersion], path: SlotPath, *, head: bool) -> Reply:
    """200 with one JSON object for each version, the newest last."""
    listed = [
        {
            "version": each.number,
            "size": each.entity.size,
            "etag": each.entity.etag,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_dated(each.stored))),
            "type": each.metadata.content_type or contenttype.by_extension(path.name),
        }
        for each in versions
    ]
    body = json.dumps(listed).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Reply(200, [*headers, ("Cache-Control", CACHE_NEVER), *SAFE_HEADERS], b"" if head else body)


def _download_headers(download: Download) -> Headers:
    entity = download.entity
    headers = [
        ("Content-Type", download.content_type),
        ("ETag", entity.etag),
        ("Last-Modified", _http_date(entity.modified)),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", download.cache_control),
        *SAFE_HEADERS,
    ]
    if download.sha256:
        headers.append(("Repr-Digest", checksum.repr_digest(download.sha256)))
    if download.disposition:
        headers.append(("Content-Disposition", download.disposition))
    if download.status == 206:
        last = download.first + download.length - 1
        headers.append(("Content-Range", f"bytes {download.first}-{last}/{entity.size}"))
    return headers


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return formatdate(_dated(seconds), usegmt=True)


def _dated(seconds: int) -> int:
    """A file may carry a time that no HTTP date can say, such as the year 10000."""
    return min(max(seconds, 0), 253402300799)


class FileBody:
    """A slice of an open file as a response body.

    Our own worker takes ``file_slice`` and sends the file without us; any other server iterates over blocks that are
    read in the disk pool.

    Args:
        exchange: counts what was sent.
    """

    def __init__(self, transfer: Transfer, first: int, length: int, exchange: Exchange) -> None:
        self._transfer = transfer
        self._next = first
        self._end = first + length
        self._exchange = exchange

    def __iter__(self) -> "FileBody":
        return self

    def __next__(self) -> bytes:
        if self._next >= self._end:
            raise StopIteration
        block = self._transfer.stored.read(self._next, min(BLOCK, self._end - self._next))
        if not block:  # the file was cut while we read it: the connection must not look complete
            raise StorageFailed("the file became shorter while it was sent")
        self._next += len(block)
        self._exchange.sent += len(block)
        return block

    def file_slice(self) -> tuple[int, int, int]:
        """Descriptor, first byte and length of what is to be sent."""
        return self._transfer.stored.descriptor(), self._next, self._end - self._next

    def progress(self, count: int) -> None:
        """The server sent ``count`` bytes of the slice."""
        self._exchange.sent += count

    def close(self) -> None:
        self._transfer.close()
