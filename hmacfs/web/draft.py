"""Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload, interop version 8; protocol, section 5.3).

Interop version 6 uses the same fields, and is served too.
"""

import json
from collections.abc import Mapping
from typing import Any

from hmacfs.core import structured
from hmacfs.core.paths import SlotPath
from hmacfs.errors import (
    BadContentRange,
    BadHeader,
    BadMediaType,
    BadUploadLength,
    BodyTooLong,
    MethodNotAllowed,
    RequestError,
    UploadComplete,
    WrongOffset,
)
from hmacfs.services.observer import Exchange
from hmacfs.services.progress import Progress
from hmacfs.services.resumable import Appending
from hmacfs.web import requests
from hmacfs.web.body import body_of, send_interim
from hmacfs.web.errors import PROBLEM_TYPE
from hmacfs.web.face import UPLOAD_METHODS, Resources, offset_headers
from hmacfs.web.reply import PHRASES, Headers, Reply
from hmacfs.web.requests import Environ

BODY_TYPE = "application/partial-upload"
INTEROP_VERSION = 8
_PROBLEMS = "https://iana.org/assignments/http-problem-types#"
_COMPLETE, _INCOMPLETE = ("Upload-Complete", "?1"), ("Upload-Complete", "?0")


class DraftFace:
    """One request, on a slot or on an upload resource.

    Args:
        target: the slot that is uploaded to, or the id of an upload.
    """

    statuses: Mapping[str, int] = {}

    def __init__(self, resources: Resources, target: SlotPath | str, client: str) -> None:
        self._resources = resources
        self._target = target
        self._client = client
        self.allow = UPLOAD_METHODS

    def answer(self, environ: Environ, exchange: Exchange) -> Reply:
        if isinstance(self._target, SlotPath):
            return self._put(environ, self._target, exchange)
        method = requests.method(environ)
        if method == "HEAD":
            progress = self._resources.resumable.head(self._target)
            return Reply(204, [*offset_headers(progress), _completeness(progress), self._limit])
        if method == "PATCH":
            return self._patch(environ, self._target, exchange)
        if method == "DELETE":
            self._resources.resumable.terminate(self._target)
            return Reply(204, [])
        raise MethodNotAllowed

    def dress(self, reply: Reply, error: RequestError) -> None:
        """The problem types that the draft defines are always told as such: clients act on them."""
        problem = _problem(error)
        if problem is not None:
            reply.body = (json.dumps(problem) + "\n").encode()
            reply.headers = [pair for pair in reply.headers if pair[0] not in ("Content-Type", "Content-Length")]
            reply.headers += [("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(reply.body)))]
        if not isinstance(error, UploadComplete):
            reply.headers.append(_INCOMPLETE)
        if error.status == 413:
            reply.headers.append(self._limit)

    @property
    def _limit(self) -> tuple[str, str]:
        return "Upload-Limit", self._resources.limits

    def _put(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        if "HTTP_CONTENT_RANGE" in environ:
            raise BadContentRange  # RFC 9110 section 14.4: it means nothing here, so it is refused and never ignored
        is_last = structured.boolean(environ["HTTP_UPLOAD_COMPLETE"], "Upload-Complete")
        length = requests.body_length(environ)
        declared = _declared(environ)
        if declared is None and not is_last:
            raise BadHeader("Upload-Length is missing: the total is signed")
        if declared is not None and length is not None and (length > declared or (is_last and length != declared)):
            raise BadUploadLength
        # Without Upload-Length it is Content-Length that declares the total, or 411.
        upload = requests.upload(environ, path, self._client, total=declared, accepts=self._resources.accepts)
        exchange.protocol = upload.claim.protocol.value if upload.claim else "none"
        interim = self._resources.interim and _takes_104(environ)
        if is_last and length is not None and not interim:
            entity = self._resources.uploads.receive(upload, body_of(environ, exchange))
            exchange.kept = upload.total
            file_headers = self._resources.file_headers(path, entity)
            return Reply(201, [_COMPLETE, *file_headers, ("Content-Length", "0")])

        def tell(upload_id: str) -> None:
            version = ("Upload-Draft-Interop-Version", str(INTEROP_VERSION))
            send_interim(environ, 104, [("Location", self._resources.location(upload_id)), self._limit, version])

        appending = Appending(0, length, self._client, upload.wanted, is_last)
        first = appending, body_of(environ, exchange)
        progress = self._resources.resumable.create(upload, "draft", "", first, tell if interim else None)
        location = ("Location", self._resources.location(progress.secret))
        headers: Headers = [location, *offset_headers(progress), _completeness(progress), ("Content-Length", "0")]
        if progress.entity is not None:
            return Reply(201, [*headers, ("ETag", progress.entity.etag)])
        return Reply(201, [*headers, self._limit])

    def _patch(self, environ: Environ, upload_id: str, exchange: Exchange) -> Reply:
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != BODY_TYPE:
            raise BadMediaType
        is_last = structured.boolean(environ.get("HTTP_UPLOAD_COMPLETE", ""), "Upload-Complete")
        offset = structured.integer(environ.get("HTTP_UPLOAD_OFFSET", ""), "Upload-Offset")
        appending = Appending(
            offset, requests.body_length(environ), self._client, requests.wanted(environ), is_last, _declared(environ)
        )
        try:
            progress = self._resources.resumable.append(upload_id, appending, body_of(environ, exchange))
        except BodyTooLong:
            self._resources.resumable.terminate(upload_id)  # the client's idea of the file is another one than ours
            exchange.kept = 0
            raise
        exchange.is_continued = offset > 0 and exchange.kept > 0
        if not progress.is_complete:
            return Reply(204, [*offset_headers(progress), _INCOMPLETE])
        file_headers = self._resources.file_headers(progress.path, progress.entity)
        return Reply(201, [*offset_headers(progress), _COMPLETE, *file_headers, ("Content-Length", "0")])


def _declared(environ: Environ) -> int | None:
    if "HTTP_UPLOAD_LENGTH" not in environ:
        return None
    return structured.integer(environ["HTTP_UPLOAD_LENGTH"], "Upload-Length")


def _takes_104(environ: Environ) -> bool:
    """Whether the client speaks our interop version, and an HTTP that has interim responses (RFC 9110 section 15.2)."""
    text = environ.get("HTTP_UPLOAD_DRAFT_INTEROP_VERSION", "")
    is_ours = bool(text) and structured.integer(text, "Upload-Draft-Interop-Version") == INTEROP_VERSION
    return is_ours and environ["SERVER_PROTOCOL"] != "HTTP/1.0"


def _completeness(progress: Progress) -> tuple[str, str]:
    return _COMPLETE if progress.is_complete else _INCOMPLETE


def _problem(error: RequestError) -> dict[str, Any] | None:
    """The draft's own problem type for an error; None where it has none."""
    names = {
        WrongOffset: "mismatching-upload-offset",
        BadUploadLength: "inconsistent-upload-length",
        UploadComplete: "completed-upload",
    }
    name = next((name for kind, name in names.items() if isinstance(error, kind)), None)
    if name is None:
        return None
    problem: dict[str, Any] = {
        "type": _PROBLEMS + name,
        "title": PHRASES[error.status],
        "status": error.status,
        "detail": error.sentence,
        "code": error.code,
    }
    if isinstance(error, WrongOffset):
        problem |= {"expected-offset": error.offset, "provided-offset": error.provided}
    return problem
