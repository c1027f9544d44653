"""The blueprint of the slots: PUT, GET, HEAD, DELETE and OPTIONS on every path.

One rule takes every URL and every method, because the order of the checks is ours: a bad path comes before a method
that is not allowed, and werkzeug's redirects and decoded paths never come in.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flask import Blueprint
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Rule

from hmacfs.core import clientaddr, paths
from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.core.paths import SlotPath
from hmacfs.errors import (
    BadContentRange,
    BadRequest,
    BadSignature,
    Banned,
    MethodNotAllowed,
    NotFound,
    RequestError,
    StorageFailed,
    TakenOver,
)
from hmacfs.services.authority import Authority
from hmacfs.services.bans import BanList
from hmacfs.services.deletions import Deletions
from hmacfs.services.downloads import Download, DownloadRequest, Downloads
from hmacfs.services.history import History
from hmacfs.services.observer import SLOT, UPLOAD, Exchange, Observer
from hmacfs.services.uploads import Uploads
from hmacfs.web import errors, requests, responses, tus
from hmacfs.web.body import body_of, leave_soon
from hmacfs.web.cors import Cors
from hmacfs.web.draft import DraftFace
from hmacfs.web.face import UPLOAD_METHODS, UPLOADS, Face, Resources
from hmacfs.web.reply import Reply
from hmacfs.web.requestid import HEADER as REQUEST_ID
from hmacfs.web.requestid import RequestIds
from hmacfs.web.requests import Environ
from hmacfs.web.responses import Offload
from hmacfs.web.session import SessionFace
from hmacfs.web.tus import TusFace

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_PLAIN_METHODS = "GET, HEAD, OPTIONS, PUT"
_GOING_ON = frozenset(("HEAD", "PATCH", "DELETE"))
"""What may be done to an upload resource; any other method is 405, for a banned client too."""

CLOSE_AT_ONCE = "hmacfs.close_at_once"
"""In the environ: our server closes the connection as soon as the answer is sent. Others ignore it."""

_SHOWN_PATH_BYTES = 1200  # a little over the longest path that can be stored; longer ones are cut in the log


_RESUMING = frozenset(("HTTP_CONTENT_RANGE", "HTTP_X_SESSION_TOKEN", "HTTP_UPLOAD_COMPLETE"))
"""A PUT with one of these may be a part of something larger."""


class AnyPath(BaseConverter):
    """Matches every path, line breaks too; we decode and judge the path ourselves."""

    regex = r"[\s\S]*"
    part_isolating = False


@dataclass(frozen=True)
class Site:
    """What the blueprint needs to know.

    Attributes:
        prefix: UploadSubDir, normalised.
        clock: monotonic seconds.
        verify_checksums: ChecksumVerification.
        resources: for resumable uploads; None where they are off.
        history: of files that were replaced; None where versioning is off.
    """

    uploads: Uploads
    downloads: Downloads
    deletions: Deletions
    authority: Authority
    prefix: str
    trust: ProxyTrust
    cors: Cors
    offload: Offload
    observer: Observer
    bans: BanList
    clock: Callable[[], float]
    verify_checksums: bool = True
    resources: Resources | None = None
    history: History | None = None


class Files:
    """Answers every request on a slot or an upload resource."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ids = RequestIds(site.trust)

    @property
    def _methods(self) -> str:
        """Of a slot. Whether there is a DELETE may change with a secret that is read again."""
        methods = _PLAIN_METHODS if self._site.resources is None else f"{_PLAIN_METHODS}, POST"
        return f"{methods}, DELETE" if self._site.deletions.are_possible else methods

    def answer(self, environ: Environ) -> Reply:
        """The reply to one request; told to the observer when its last byte has gone."""
        site = self._site
        started = site.clock()
        if not site.verify_checksums:
            requests.forget_checksums(environ)
        url_path = requests.url_path(environ)
        raw = paths.under_prefix(url_path, site.prefix)
        exchange = Exchange(
            method=environ["REQUEST_METHOD"],
            path=_shown(url_path if raw is None else raw),
            client=site.trust.client(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", "")),
            request_id=self._ids.of(environ),
        )
        if raw is not None:
            exchange.route = UPLOAD if raw.startswith(UPLOADS) else SLOT
        face: Face | None = None
        try:
            face = self._face(environ, raw, exchange)
            if face is not None and (not raw or not raw.startswith(UPLOADS) or requests.method(environ) in _GOING_ON):
                site.bans.check(exchange.client)
            reply = self._answer(environ, raw, exchange) if face is None else face.answer(environ, exchange)
        except RequestError as error:
            reply = self._refusal(environ, exchange, error, face)
        except Exception as error:  # noqa: BLE001 - the border: people get a sentence, the log gets the trace
            site.observer.failed(exchange, error)
            reply = self._refusal(environ, exchange, RequestError())
        exchange.status = reply.status
        reply.headers.append((REQUEST_ID, exchange.request_id))
        reply.headers += site.cors.headers(environ.get("HTTP_ORIGIN", ""))
        reply.on_close = lambda: self._finish(exchange, started)
        return reply

    def refuse(self, environ: Environ, known: RequestError, error: Exception) -> Reply:
        """The reply for an error outside of ``answer``."""
        started = self._site.clock()
        exchange = Exchange(environ["REQUEST_METHOD"], "-", "", status=known.status, request_id=self._ids.of(environ))
        if known.status >= 500:
            self._site.observer.failed(exchange, error)
        reply = self._refusal(environ, exchange, known)
        reply.headers.append((REQUEST_ID, exchange.request_id))
        reply.headers += self._site.cors.headers(environ.get("HTTP_ORIGIN", ""))
        reply.on_close = lambda: self._finish(exchange, started)
        return reply

    def _face(self, environ: Environ, raw: bytes | None, exchange: Exchange) -> Face | None:
        """Which face of resumable uploads the request speaks; None for a plain one. Raises BadPath."""
        resources, method = self._site.resources, environ["REQUEST_METHOD"]
        if resources is None or raw is None or method == "OPTIONS":
            return None
        client = clientaddr.counted(exchange.client)
        is_tus = "HTTP_TUS_RESUMABLE" in environ
        if raw.startswith(UPLOADS):
            upload_id = raw.removeprefix(UPLOADS).decode("latin-1")
            return TusFace(resources, upload_id, client) if is_tus else DraftFace(resources, upload_id, client)
        if method == "POST" and is_tus and raw:
            return TusFace(resources, paths.parse(raw), client)
        if method != "PUT" or _RESUMING.isdisjoint(environ):
            return None
        path = paths.parse(raw)
        if "HTTP_UPLOAD_COMPLETE" in environ:
            return DraftFace(resources, path, client)
        return SessionFace(resources, path, client)

    def _answer(self, environ: Environ, raw: bytes | None, exchange: Exchange) -> Reply:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS" and self._site.resources is not None and raw and raw.startswith(UPLOADS):
            return self._options(UPLOAD_METHODS)
        path = paths.parse(raw) if raw else None
        if method == "OPTIONS":
            return self._options(self._methods)
        if method not in ("GET", "HEAD", "PUT") and (method != "DELETE" or not self._site.deletions.are_possible):
            raise MethodNotAllowed
        self._site.bans.check(exchange.client)
        if path is None:
            raise NotFound
        if method == "DELETE":
            return self._delete(environ, path, exchange)
        return self._put(environ, path, exchange) if method == "PUT" else self._get(environ, path, exchange)

    def _options(self, allow: str) -> Reply:
        """Args: allow: methods of the resource."""
        resources = self._site.resources
        if resources is None:
            return Reply(204, [("Allow", allow), *self._site.cors.preflight(allow)])
        offered = tus.options(resources.max_size, checksums=self._site.verify_checksums)
        headers = [("Allow", allow), ("Upload-Limit", resources.limits), *offered]
        methods = dict.fromkeys((*self._methods.split(", "), "PATCH", "DELETE"))
        return Reply(204, headers + self._site.cors.preflight(", ".join(methods)))

    def _get(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        threshold = self._site.offload.threshold(peer_is_proxy=self._site.trust.trusts(environ.get("REMOTE_ADDR", "")))
        accepts = self._site.authority.accepts_reading
        asked = requests.download(environ, path, threshold, accepts, exchange.client)
        exchange.protocol = asked.claim.protocol.value if asked.claim else "none"
        if self._site.history is not None and (number := requests.version(environ)) is not None:
            return self._old(asked, exchange, self._site.history, number)
        return self._sent(self._site.downloads.open(asked), path, exchange)

    def _old(self, asked: DownloadRequest, exchange: Exchange, history: History, number: int) -> Reply:
        """Args: number: of the version, 0 for the list of them."""
        asked = replace(asked, offload_from=None)  # the proxy in front cannot reach versions
        if not number:
            return responses.version_list(history.listed(asked), asked.path, head=asked.head)
        return self._sent(history.open(asked, number), asked.path, exchange)

    def _sent(self, download: Download, path: SlotPath, exchange: Exchange) -> Reply:
        try:
            return responses.downloaded(download, path, self._site.offload, exchange)
        except BaseException:
            if download.transfer is not None:
                download.transfer.close()
            raise

    def _put(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        if "HTTP_CONTENT_RANGE" in environ:
            raise BadContentRange  # RFC 9110 section 14.4: refused where it is not understood, never ignored
        client, accepts = clientaddr.counted(exchange.client), self._site.authority.accepts
        upload = requests.upload(environ, path, client, accepts=accepts)
        exchange.protocol = upload.claim.protocol.value if upload.claim else "none"
        entity = self._site.uploads.receive(upload, body_of(environ, exchange))
        exchange.kept = upload.total
        return responses.created(path, self._site.prefix, entity)

    def _delete(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        accepts = self._site.authority.accepts_deleting
        asked = requests.deletion(environ, path, clientaddr.counted(exchange.client), accepts)
        exchange.protocol = asked.claim.protocol.value if asked.claim else "none"
        self._site.deletions.delete(asked)
        return Reply(204, [])

    def _refusal(self, environ: Environ, exchange: Exchange, error: RequestError, face: Face | None = None) -> Reply:
        exchange.code = error.code
        exchange.detail = error.detail
        if isinstance(error, Banned):
            self._close_at_once(environ)
        elif isinstance(error, BadSignature):
            if error.reason == "wrong":
                self._site.bans.failed(exchange.client)
            exchange.hints = error.hints
            self._site.observer.signature_refused(exchange, error.reason, error.size, error.content_type)
        elif isinstance(error, TakenOver):
            leave_soon(environ)
        elif isinstance(error, StorageFailed):
            self._site.observer.failed(exchange, error)
        allow = self._methods if face is None else face.allow
        status = None if face is None else face.statuses.get(error.code)
        reply = errors.reply(error, allow, as_json=requests.wants_json(environ), status=status)
        if face is not None:
            face.dress(reply, error)
        if environ["REQUEST_METHOD"] == "HEAD":
            reply.body = b""
        return reply

    def _close_at_once(self, environ: Environ) -> None:
        """A banned client's connection costs us nothing more: it is closed without waiting for what it still sends.

        Not a proxy's: it serves others too, and would answer 502 in the middle of a body.
        """
        if not self._site.trust.trusts(environ.get("REMOTE_ADDR", "")):
            environ[CLOSE_AT_ONCE] = True

    def _finish(self, exchange: Exchange, started: float) -> None:
        exchange.seconds = self._site.clock() - started
        self._site.observer.answered(exchange)


def blueprint(files: Files) -> Blueprint:
    """The blueprint with its one catch-all rule."""
    slots = Blueprint("files", __name__)

    def view(**_url: str) -> "WSGIApplication":
        # Flask takes a WSGI callable as a view's answer: no second form of our replies is needed.
        return lambda environ, start_response: files.answer(environ).wsgi(start_response)

    def register(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["any_path"] = AnyPath
        # Flask's own add_url_rule would pin the methods; without a list the rule takes every one.
        state.app.url_map.add(Rule("/<any_path:url>", endpoint="files.any"))
        state.app.view_functions["files.any"] = view

    def unforeseen(error: Exception) -> "WSGIApplication":
        # What fails inside Flask itself: a request that werkzeug cannot read, or nothing that we know of.
        known = BadRequest() if isinstance(error, HTTPException) and (error.code or 500) < 500 else RequestError()
        return lambda environ, start_response: files.refuse(environ, known, error).wsgi(start_response)

    slots.record(register)
    slots.app_errorhandler(Exception)(unforeseen)
    return slots


def _shown(raw: bytes) -> str:
    """A path for the log."""
    return paths.shown(paths.without_ids(raw[: 2 * _SHOWN_PATH_BYTES])[:_SHOWN_PATH_BYTES])
