"""One upload in pieces, spoken in any of the three faces (protocol, section 5), to any server on its store."""

import secrets
from dataclasses import dataclass, field

from tests.support.http import Answer, Connection, Headers, Site, head_of, query_of, request, url_of

FACES = ("session", "tus", "draft")

_TUS = ("Tus-Resumable", "1.0.0")
_TUS_BODY = ("Content-Type", "application/offset+octet-stream")
_DRAFT_BODY = ("Content-Type", "application/partial-upload")


@dataclass
class Upload:
    """Args:
    face: one of FACES.
    path: of the slot; the file is ``content``.
    token: of the session face, as the client chooses it.

    Attributes:
        location: of the upload resource, once ``begin`` was answered; empty in the session face.
    """

    face: str
    path: str
    content: bytes
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    location: str = field(default="", repr=False)

    @property
    def total(self) -> int:
        return len(self.content)

    def begin(self, site: Site, end: int = 0) -> Answer:
        """The first request. Args: end: how many bytes of the file it brings."""
        if self.face == "session":
            return self.send(site, 0, end) if end else self._ask_session(site)
        told = [("Upload-Length", str(self.total)), ("Content-Length", str(end))]
        if self.face == "tus":
            told += [_TUS, _TUS_BODY] if end else [_TUS]
        else:
            told += [("Upload-Complete", "?0")]
        method = "POST" if self.face == "tus" else "PUT"
        answer = request(site, method, self._slot(site), told, self.content[:end])
        self.location = answer.get("Location") or ""
        return answer

    def head(self, site: Site, first: int, end: int) -> bytes:
        """The head of a request that brings the bytes from ``first`` to ``end``."""
        length = ("Content-Length", str(end - first))
        if self.face == "session":
            span = ("Content-Range", f"bytes {first}-{end - 1}/{self.total}")
            return head_of("PUT", self._slot(site), [length, span, self._token])
        at = ("Upload-Offset", str(first))
        if self.face == "tus":
            return head_of("PATCH", self.location, [length, _TUS, _TUS_BODY, at])
        last = ("Upload-Complete", "?1" if end == self.total else "?0")
        return head_of("PATCH", self.location, [length, _DRAFT_BODY, at, last])

    def send(self, site: Site, first: int, end: int, body: bytes | None = None) -> Answer:
        """Bring the bytes from ``first`` to ``end``. Args: body: other bytes than the file's."""
        with Connection(site.address) as connection:
            body = self.content[first:end] if body is None else body
            connection.send_all_or_until_refused(self.head(site, first, end), body)
            return connection.read_answer()

    def ask(self, site: Site) -> Answer:
        """How much is there? In the faces with a resource this ends whoever writes."""
        if self.face == "session":
            return self._ask_session(site)
        headers: Headers = [_TUS] if self.face == "tus" else []
        return request(site, "HEAD", self.location, headers)

    def offset(self, site: Site) -> int:
        """What ``ask`` is told."""
        answer = self.ask(site)
        assert answer.status in (200, 201, 202, 204), (answer.status, answer.code)
        return int(answer["Upload-Offset"])

    def terminate(self, site: Site) -> Answer:
        """Give the upload up; not in the session face."""
        return request(site, "DELETE", self.location, [_TUS] if self.face == "tus" else [])

    @property
    def _token(self) -> tuple[str, str]:
        return "X-Session-Token", self.token

    def _slot(self, site: Site) -> str:
        return f"{url_of(site, self.path)}?{query_of(site, self.path, self.total)}"

    def _ask_session(self, site: Site) -> Answer:
        span = ("Content-Range", f"bytes */{self.total}")
        return request(site, "PUT", self._slot(site), [("Content-Length", "0"), span, self._token])
