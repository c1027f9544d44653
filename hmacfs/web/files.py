"""The blueprint of the slots: PUT, GET, HEAD and OPTIONS on every path.

One rule takes every URL and every method, because the order of the checks is ours: a bad path comes before a method
that is not allowed, and werkzeug's redirects and decoded paths never come in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Blueprint
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Rule
from werkzeug.wsgi import get_input_stream

from hmacfs.core import clientaddr, paths
from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.core.paths import SlotPath
from hmacfs.errors import BadRequest, BadSignature, MethodNotAllowed, NotFound, RequestError, StorageFailed
from hmacfs.services.downloads import Downloads
from hmacfs.services.observer import Exchange, Observer
from hmacfs.services.uploads import Uploads
from hmacfs.web import errors, requests, responses
from hmacfs.web.body import StreamBody
from hmacfs.web.cors import Cors
from hmacfs.web.reply import Reply
from hmacfs.web.requests import Environ
from hmacfs.web.responses import Offload

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

METHODS = "GET, HEAD, OPTIONS, PUT"
_SHOWN_PATH_BYTES = 1200  # a little over the longest path that can be stored; longer ones are cut in the log


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
    """

    uploads: Uploads
    downloads: Downloads
    prefix: str
    trust: ProxyTrust
    cors: Cors
    offload: Offload
    observer: Observer
    clock: Callable[[], float]


class Files:
    """Answers every request on a slot."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def answer(self, environ: Environ) -> Reply:
        """The reply to one request; told to the observer when its last byte has gone."""
        site = self._site
        started = site.clock()
        url_path = requests.url_path(environ)
        raw = paths.under_prefix(url_path, site.prefix)
        exchange = Exchange(
            method=environ["REQUEST_METHOD"],
            path=paths.shown((url_path if raw is None else raw)[:_SHOWN_PATH_BYTES]),
            client=site.trust.client(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", "")),
        )
        try:
            reply = self._answer(environ, raw, exchange)
        except RequestError as error:
            reply = self._refusal(environ, exchange, error)
        except Exception as error:  # noqa: BLE001 - the border: people get a sentence, the log gets the trace
            site.observer.failed(exchange, error)
            reply = self._refusal(environ, exchange, RequestError())
        exchange.status = reply.status
        reply.headers += site.cors.headers(environ.get("HTTP_ORIGIN", ""))
        reply.on_close = lambda: self._finish(exchange, started)
        return reply

    def refuse(self, environ: Environ, known: RequestError, error: Exception) -> Reply:
        """The reply for an error outside of ``answer``."""
        exchange = Exchange(environ["REQUEST_METHOD"], "-", "", status=known.status)
        if known.status >= 500:
            self._site.observer.failed(exchange, error)
        reply = self._refusal(environ, exchange, known)
        reply.headers += self._site.cors.headers(environ.get("HTTP_ORIGIN", ""))
        return reply

    def _answer(self, environ: Environ, raw: bytes | None, exchange: Exchange) -> Reply:
        method = environ["REQUEST_METHOD"]
        path = paths.parse(raw) if raw else None
        if method == "OPTIONS":
            return self._options()
        if method not in ("GET", "HEAD", "PUT"):
            raise MethodNotAllowed
        if path is None:
            raise NotFound
        return self._put(environ, path, exchange) if method == "PUT" else self._get(environ, path, exchange)

    def _options(self) -> Reply:
        reply = responses.no_content(METHODS)
        reply.headers += self._site.cors.preflight(METHODS)
        return reply

    def _get(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        offload = self._site.offload
        threshold = offload.threshold(peer_is_proxy=self._site.trust.trusts(environ.get("REMOTE_ADDR", "")))
        download = self._site.downloads.open(requests.download(environ, path, threshold))
        try:
            return responses.downloaded(download, path, offload, exchange)
        except BaseException:
            if download.transfer is not None:
                download.transfer.close()
            raise

    def _put(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Reply:
        upload = requests.upload(environ, path, clientaddr.counted(exchange.client))
        exchange.protocol = upload.claim.protocol.value if upload.claim else "none"
        try:
            entity = self._site.uploads.receive(upload, StreamBody(get_input_stream(environ)))
        except BadSignature as error:
            exchange.hints = error.hints
            self._site.observer.signature_refused(exchange, error.reason, upload.total, upload.content_type)
            raise
        exchange.received = upload.total
        return responses.created(path, self._site.prefix, entity)

    def _refusal(self, environ: Environ, exchange: Exchange, error: RequestError) -> Reply:
        exchange.code = error.code
        exchange.detail = error.detail
        if isinstance(error, StorageFailed):
            self._site.observer.failed(exchange, error)
        reply = errors.reply(error, METHODS, as_json=requests.wants_json(environ))
        if environ["REQUEST_METHOD"] == "HEAD":
            reply.body = b""
        return reply

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
