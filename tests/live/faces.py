"""One upload in pieces, spoken in any of the three faces (protocol, section 5), to any server on its store."""

import secrets
from dataclasses import dataclass, field

from tests.support.http import Answer, Connection, Site, head_of, request
from tests.support.slot import DRAFT_BODY, LAST, MORE, TUS, TUS_BODY, Slot, tus

FACES = ("session", "tus", "draft")


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
            return self.send(site, 0, end) if end else self.ask(site)
        slot, body = self._slot(site), self.content[:end]
        answer = slot.create_tus(body or None) if self.face == "tus" else slot.create_draft(body)
        self.location = answer.get("Location") or ""
        return answer

    def head(self, site: Site, first: int, end: int) -> bytes:
        """The head of a request that brings the bytes from ``first`` to ``end``."""
        if self.face == "session":
            slot = self._slot(site)
            return slot.put_head(end - first, [slot.range(first, end - first), ("X-Session-Token", self.token)])
        told = [("Content-Length", str(end - first)), ("Upload-Offset", str(first))]
        if self.face == "tus":
            return head_of("PATCH", self.location, [*told, TUS, TUS_BODY])
        return head_of("PATCH", self.location, [*told, DRAFT_BODY, LAST if end == self.total else MORE])

    def send(self, site: Site, first: int, end: int, body: bytes | None = None) -> Answer:
        """Bring the bytes from ``first`` to ``end``. Args: body: other bytes than the file's."""
        with Connection(site.address) as connection:
            body = self.content[first:end] if body is None else body
            connection.send_all_or_until_refused(self.head(site, first, end), body)
            return connection.read_answer()

    def ask(self, site: Site) -> Answer:
        """How much is there? In the faces with a resource this ends whoever writes."""
        if self.face == "session":
            return self._slot(site).ask(self.token)
        return self._of_resource(site, "HEAD")

    def offset(self, site: Site) -> int:
        """What ``ask`` is told."""
        answer = self.ask(site)
        assert answer.status in (200, 201, 202, 204), (answer.status, answer.code)
        return int(answer["Upload-Offset"])

    def terminate(self, site: Site) -> Answer:
        """Give the upload up; not in the session face."""
        return self._of_resource(site, "DELETE")

    def _of_resource(self, site: Site, method: str) -> Answer:
        return tus(site, method, self.location) if self.face == "tus" else request(site, method, self.location)

    def _slot(self, site: Site) -> Slot:
        return Slot(site, self.path, self.total)
