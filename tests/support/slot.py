"""A signed slot as clients use it: the requests of the three faces of resumable uploads, byte by byte on the wire."""

import itertools
from base64 import b64encode
from dataclasses import dataclass, replace

from tests.support.http import Answer, Connection, Headers, Site, head_of, query_of, request, url_of

WRONG = f"v2={'0' * 64}"
TUS = ("Tus-Resumable", "1.0.0")
TUS_BODY = ("Content-Type", "application/offset+octet-stream")
DRAFT_BODY = ("Content-Type", "application/partial-upload")
LAST, MORE = ("Upload-Complete", "?1"), ("Upload-Complete", "?0")

_numbers = itertools.count()


def content(size: int) -> bytes:
    """Bytes of which no two neighbouring kilobytes are equal."""
    return b"".join(number.to_bytes(4, "big") for number in range((size + 3) // 4))[:size]


@dataclass(frozen=True)
class Slot:
    """A URL that somebody signed for a file of ``total`` bytes.

    Args:
        content_type: TYPE; empty: none is said, so the default is signed.
        query: another query than the right one.
    """

    site: Site
    path: str
    total: int
    content_type: str = ""
    protocol: str = "v2"
    query: str | None = None

    @property
    def unsigned(self) -> "Slot":
        """The same with a well-formed MAC that is wrong."""
        return replace(self, query=WRONG)

    @property
    def target(self) -> str:
        query = self.query
        if query is None:
            query = query_of(self.site, self.path, self.total, self.content_type, self.protocol)
        return f"{url_of(self.site, self.path)}?{query}"

    def put_head(self, length: int, headers: Headers = ()) -> bytes:
        """A PUT of ``length`` bytes, with the Content-Type that was signed."""
        typed = [("Content-Type", self.content_type)] if self.content_type else []
        return head_of("PUT", self.target, [("Content-Length", str(length)), *typed, *headers])

    def put(self, body: bytes = b"", headers: Headers = ()) -> Answer:
        """A PUT that sends its whole body before it reads the answer, unless it is cut off."""
        with Connection(self.site.address) as connection:
            connection.send_all_or_until_refused(self.put_head(len(body), headers), body)
            return connection.read_answer()

    def ask(self, token: str = "", headers: Headers = ()) -> Answer:
        """How much of it is there? (protocol, section 5.1)"""
        return self.put(b"", [("Content-Range", f"bytes */{self.total}"), *token_header(token), *headers])

    def range(self, first: int, length: int) -> tuple[str, str]:
        return "Content-Range", f"bytes {first}-{first + length - 1}/{self.total}"

    def piece(self, first: int, body: bytes, token: str = "", headers: Headers = ()) -> Answer:
        """The bytes from ``first`` on."""
        return self.put(body, [self.range(first, len(body)), *token_header(token), *headers])

    def create_tus(self, body: bytes | None = None, headers: Headers = ()) -> Answer:
        """A tus creation; with a body, creation-with-upload."""
        kind = metadata(filetype=self.content_type) if self.content_type else []
        sent: Headers = [TUS_BODY] if body is not None else []
        length = ("Content-Length", str(len(body or b"")))
        told = [TUS, ("Upload-Length", str(self.total)), length, *kind, *sent, *headers]
        return request(self.site, "POST", self.target, told, body or b"")

    def create_draft(self, body: bytes = b"", headers: Headers = ()) -> Answer:
        """The first request of the draft, which brings less than the whole file."""
        return self.put(body, [MORE, ("Upload-Length", str(self.total)), *headers])


def face(answer: Answer) -> tuple[int, str | None]:
    """Status and code of an answer."""
    return answer.status, answer.code


def fresh_token() -> str:
    """A session token that nobody else uses: it belongs to one slot."""
    return f"a-token_of-these-tests-{next(_numbers)}"


def tus_location(slot: Slot, body: bytes | None = None) -> str:
    """Where a new tus upload is."""
    answer = slot.create_tus(body)
    assert answer.status == 201
    return answer["Location"]


def draft_location(slot: Slot, body: bytes = b"") -> str:
    """Where a new upload of the draft is."""
    answer = slot.create_draft(body)
    assert answer.status == 201
    return answer["Location"]


def token_header(token: str) -> Headers:
    return [("X-Session-Token", token)] if token else []


def metadata(**pairs: str) -> list[tuple[str, str]]:
    """Upload-Metadata of tus."""
    words = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs.items())
    return [("Upload-Metadata", words)]


def tus(site: Site, method: str, location: str, headers: Headers = ()) -> Answer:
    """A request without a body on an upload resource."""
    return request(site, method, location, [TUS, *headers])


def tus_patch(site: Site, location: str, offset: int, body: bytes, headers: Headers = ()) -> Answer:
    told = [TUS, TUS_BODY, ("Upload-Offset", str(offset)), ("Content-Length", str(len(body))), *headers]
    return request(site, "PATCH", location, told, body)


def draft_patch(
    site: Site, location: str, offset: int, body: bytes, complete: tuple[str, str] = LAST, headers: Headers = ()
) -> Answer:
    told = [DRAFT_BODY, complete, ("Upload-Offset", str(offset)), ("Content-Length", str(len(body))), *headers]
    return request(site, "PATCH", location, told, body)


def chunked(*pieces: bytes) -> bytes:
    """A body in the chunked coding."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def refusal(site: Site, head: bytes) -> Answer:
    """The first answer to a head whose body is never sent: a refusal, or 100 Continue."""
    with Connection(site.address) as connection:
        connection.send(head)
        return connection.read_head()
