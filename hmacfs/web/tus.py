"""tus 1.0.0 (https://tus.io/protocols/resumable-upload; protocol, section 5.2).

Not offered: creation-defer-length and concatenation, because the signature covers the total.
"""

from collections.abc import Mapping

from hmacfs.core import tus
from hmacfs.core.paths import SlotPath
from hmacfs.errors import (
    BadContentRange,
    BadHeader,
    BadMediaType,
    MethodNotAllowed,
    RequestError,
    UnsupportedTus,
)
from hmacfs.services.observer import Exchange
from hmacfs.services.progress import Progress
from hmacfs.services.resumable import Appending
from hmacfs.web import requests
from hmacfs.web.body import body_of
from hmacfs.web.face import UPLOAD_METHODS, Resources, offset_headers
from hmacfs.web.reply import Headers, Reply
from hmacfs.web.requests import Environ

BODY_TYPE = "application/offset+octet-stream"
_OURS = ("Tus-Resumable", tus.VERSION)


def options(max_size: int, *, checksums: bool) -> Headers:
    """What OPTIONS tells.

    Args:
        max_size: bytes, 0 for no limit.
        checksums: ChecksumVerification; without it the extension is not offered.
    """
    headers: Headers = [_OURS, ("Tus-Version", tus.VERSION)]
    if checksums:
        headers += [("Tus-Extension", tus.EXTENSIONS), ("Tus-Checksum-Algorithm", tus.CHECKSUM_ALGORITHMS)]
    else:
        headers.append(("Tus-Extension", tus.EXTENSIONS.replace("checksum,", "")))
    if max_size:
        headers.append(("Tus-Max-Size", str(max_size)))
    return headers


class TusFace:
    """One request, on a slot or on an upload resource.

    Args:
        target: the slot that an upload is created for, or the id of one.
    """

    statuses: Mapping[str, int] = {"upload-complete": 403, "checksum-mismatch": 460}

    def __init__(self, resources: Resources, target: SlotPath | str, client: str) -> None:
        self._resources = resources
        self._target = target
        self._client = client
        self.allow = UPLOAD_METHODS

    def answer(self, environ: Environ, exchange: Exchange) -> Reply:
        if environ.get("HTTP_TUS_RESUMABLE") != tus.VERSION:
            raise UnsupportedTus
        if isinstance(self._target, SlotPath):
            return self._create(environ, self._target, exchange)
        method = requests.method(environ)
        if method == "HEAD":
            return self._head(self._target)
        if method == "PATCH":
            return self._patch(environ, self._target, exchange)
        if method == "DELETE":
            self._resources.resumable.terminate(self._target)
            return Reply(204, [_OURS])
        raise MethodNotAllowed

    def dress(self, reply: Reply, error: RequestError) -> None:
        reply.headers.append(_OURS)
        if isinstance(error, UnsupportedTus):
            reply.headers.append(("Tus-Version", tus.VERSION))

    def _create(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        for name in ("HTTP_UPLOAD_DEFER_LENGTH", "HTTP_UPLOAD_CONCAT"):
            if name in environ:
                raise BadHeader("an extension of tus that is not offered")
        if "HTTP_CONTENT_RANGE" in environ:
            raise BadContentRange  # it tells a total too (protocol, section 2, SIZE), and pieces are not created so
        total = tus.number(environ.get("HTTP_UPLOAD_LENGTH", ""), "Upload-Length")
        note = environ.get("HTTP_UPLOAD_METADATA", "")
        content_type = tus.file_type(tus.metadata(note))
        upload = requests.upload(
            environ, path, self._client, total=total, content_type=content_type, accepts=self._resources.accepts
        )
        exchange.protocol = upload.claim.protocol.value if upload.claim else "none"
        has_body = requests.body_length(environ) != 0
        if has_body and not _is_body_type(environ):
            self._resources.resumable.check(upload)  # policy comes after the signature and the size
            raise BadMediaType
        first = None
        if has_body or not total:
            first = Appending(0, requests.body_length(environ), self._client, upload.wanted), body_of(environ, exchange)
        progress = self._resources.resumable.create(upload, "tus", note, first)
        location = ("Location", self._resources.location(progress.secret))
        return Reply(201, [_OURS, location, ("Content-Length", "0"), *offset_headers(progress)])

    def _head(self, upload_id: str) -> Reply:
        progress = self._resources.resumable.head(upload_id)
        headers: Headers = [_OURS, *offset_headers(progress), ("Content-Length", "0")]
        if progress.note:
            headers.append(("Upload-Metadata", progress.note))
        return Reply(200, headers)

    def _patch(self, environ: Environ, upload_id: str, exchange: Exchange) -> Reply:
        if not _is_body_type(environ):
            raise BadMediaType
        offset = tus.number(environ.get("HTTP_UPLOAD_OFFSET", ""), "Upload-Offset")
        progress = self._append(environ, upload_id, offset, exchange)
        return Reply(204, [_OURS, *offset_headers(progress)])

    def _append(self, environ: Environ, upload_id: str, offset: int, exchange: Exchange) -> Progress:
        length = requests.body_length(environ)
        appending = Appending(offset, length, self._client, requests.wanted(environ))
        progress = self._resources.resumable.append(upload_id, appending, body_of(environ, exchange))
        exchange.is_continued = offset > 0 and exchange.kept > 0
        return progress


def _is_body_type(environ: Environ) -> bool:
    return bool(environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == BODY_TYPE)
