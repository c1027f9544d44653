"""The blueprint of the slots: PUT, GET, HEAD and OPTIONS on every path.

One rule takes every URL and every method, because the order of the checks is ours: a bad path comes before a method
that is not allowed, and werkzeug's redirects and decoded paths never come in.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter, Rule

from hmacfs.core import paths
from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.core.paths import SlotPath
from hmacfs.errors import BadSignature, MethodNotAllowed, NotFound, RequestError, StorageFailed
from hmacfs.services.downloads import Downloads
from hmacfs.services.observer import Exchange, Observer
from hmacfs.services.uploads import Uploads
from hmacfs.web import errors, requests, responses
from hmacfs.web.body import StreamBody
from hmacfs.web.cors import Cors
from hmacfs.web.requests import Environ

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
    observer: Observer
    clock: Callable[[], float]


class Files:
    """The views."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def view(self, **_url: str) -> Response:
        """Answer one request; told to the observer when the last byte has gone."""
        environ = request.environ
        started = self._site.clock()
        url_path = requests.url_path(environ)
        raw = paths.under_prefix(url_path, self._site.prefix)
        exchange = Exchange(
            method=environ["REQUEST_METHOD"],
            path=paths.shown((url_path if raw is None else raw)[:_SHOWN_PATH_BYTES]),
            client=self._site.trust.client(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", "")),
        )
        try:
            answer = self._answer(environ, raw, exchange)
        except RequestError as error:
            answer = self._refusal(environ, exchange, error)
        except Exception as error:  # noqa: BLE001 - the border: people get a sentence, the log gets the trace
            self._site.observer.failed(exchange, error)
            answer = self._refusal(environ, exchange, RequestError())
        exchange.status = answer.status_code
        answer.headers.extend(self._site.cors.headers(environ.get("HTTP_ORIGIN", "")))
        answer.call_on_close(lambda: self._finish(exchange, started))
        return answer

    def _answer(self, environ: Environ, raw: bytes | None, exchange: Exchange) -> Response:
        method = environ["REQUEST_METHOD"]
        path = paths.parse(raw) if raw else None
        if method == "OPTIONS":
            return self._options()
        if method not in ("GET", "HEAD", "PUT"):
            raise MethodNotAllowed
        if path is None:
            raise NotFound
        if method == "PUT":
            return self._put(environ, path, exchange)
        return responses.downloaded(self._site.downloads.open(requests.download(environ, path)), exchange)

    def _options(self) -> Response:
        answer = responses.no_content(METHODS)
        answer.headers.extend(self._site.cors.preflight(METHODS))
        return answer

    def _put(self, environ: Environ, path: SlotPath, exchange: Exchange) -> Response:
        upload = requests.upload(environ, path)
        exchange.protocol = upload.claim.protocol.value if upload.claim else "none"
        try:
            entity = self._site.uploads.receive(upload, StreamBody(request.stream))
        except BadSignature as error:
            exchange.hints = error.hints
            self._site.observer.signature_refused(exchange, error.reason, upload.total, upload.content_type)
            raise
        exchange.received = upload.total
        return responses.created(path, self._site.prefix, entity)

    def _refusal(self, environ: Environ, exchange: Exchange, error: RequestError) -> Response:
        exchange.code = error.code
        exchange.detail = error.detail
        if isinstance(error, StorageFailed):
            self._site.observer.failed(exchange, error)
        return errors.response(error, METHODS, as_json=requests.wants_json(environ))

    def _finish(self, exchange: Exchange, started: float) -> None:
        exchange.seconds = self._site.clock() - started
        self._site.observer.answered(exchange)


def blueprint(site: Site) -> Blueprint:
    """The blueprint with its one catch-all rule."""
    files = Blueprint("files", __name__)
    view = Files(site).view

    def register(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["any_path"] = AnyPath
        # Flask's own add_url_rule would pin the methods; without a list the rule takes every one.
        state.app.url_map.add(Rule("/<any_path:url>", endpoint="files.any"))
        state.app.view_functions["files.any"] = view

    files.record(register)
    return files
