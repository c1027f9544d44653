"""X-Session-Token with Content-Range (protocol, section 5.1)."""

from collections.abc import Mapping

from hmacfs.core import contentrange
from hmacfs.core.paths import SlotPath
from hmacfs.core.upload import Piece
from hmacfs.errors import RequestError
from hmacfs.services.observer import Exchange
from hmacfs.services.progress import Progress
from hmacfs.web import requests
from hmacfs.web.body import body_of
from hmacfs.web.face import Resources, offset_headers
from hmacfs.web.reply import Headers, Reply
from hmacfs.web.requests import Environ


class SessionFace:
    """One request on a slot. Every answer carries the token, so that a client can go on whatever it was."""

    allow = ""
    statuses: Mapping[str, int] = {}

    def __init__(self, resources: Resources, path: SlotPath, client: str) -> None:
        self._resources = resources
        self._path = path
        self._client = client
        self._token = ""

    def answer(self, environ: Environ, exchange: Exchange) -> Reply:
        self._token = requests.token(environ)
        said = requests.content_range(environ)
        total = None if said is None else said.total
        upload = requests.upload(environ, self._path, self._client, total=total, accepts=self._resources.accepts)
        exchange.protocol = upload.claim.protocol.value if upload.claim else "none"
        sessions = self._resources.sessions
        if isinstance(said, contentrange.Ask):
            return self._told(sessions.ask(upload))
        body = body_of(environ, exchange)
        if said is None:
            progress = sessions.put_whole(upload, body)
        else:
            progress = sessions.put_piece(upload, Piece(said.first, said.last + 1), body, self._found)
            exchange.is_continued = said.first > 0 and exchange.kept > 0
        return self._told(progress)

    def dress(self, reply: Reply, error: RequestError) -> None:  # noqa: ARG002 - whatever it was
        if self._token:
            reply.headers.append(("X-Session-Token", self._token))

    def _found(self, token: str) -> None:
        self._token = token

    def _told(self, progress: Progress) -> Reply:
        headers: Headers = []
        if progress.secret:
            headers.append(("X-Session-Token", progress.secret))
        headers += [*offset_headers(progress), ("Content-Length", "0")]
        if progress.is_complete:
            return Reply(201, headers + self._resources.file_headers(self._path, progress.entity))
        return Reply(202, headers)
