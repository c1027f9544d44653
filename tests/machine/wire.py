"""Requests as values, and who answers them."""

import hashlib
import random
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import quote

from tests.support.http import Answer, sign_v2
from tests.support.server import SECRET

PREFIX = "/upload/"
DRAFT_TYPE = "application/partial-upload"
TUS_TYPE = "application/offset+octet-stream"


class Slot(NamedTuple):
    path: str
    total: int
    type: str


@dataclass(frozen=True)
class Body:
    """What a request brings.

    Attributes:
        content: all that the request promises.
        sent: how much of it comes before the connection breaks; all of it where it does not.
        length: whether Content-Length tells it; chunked otherwise.
    """

    content: bytes = b""
    sent: int = 0
    has_length: bool = True

    @property
    def is_cut(self) -> bool:
        return self.sent < len(self.content)

    @property
    def arrived(self) -> bytes:
        return self.content[: self.sent]


NOTHING = Body()


def body(number: int, length: int, cut_at: int | None = None, *, has_length: bool = True) -> Body:
    """Other content for each ``number``: a byte that was written twice would show."""
    content = random.Random(number).randbytes(length)
    return Body(content, length if cut_at is None else min(cut_at, length), has_length)


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: Body = field(default=NOTHING)

    def __str__(self) -> str:
        fields = ", ".join(f"{name}: {value}" for name, value in self.headers)
        sent = f" {self.body.sent} of {len(self.body.content)} bytes" if self.body.content else ""
        return f"{self.method} {self.target.partition('?')[0]} [{fields}]{sent}"


class Driver(Protocol):
    """A server with the application in it."""

    def send(self, request: Request, kill_at: int | None = None) -> Answer | None:
        """The answer; None when the worker was killed before it could give one.

        Args:
            kill_at: kill the worker at the so manieth step of the request, if it comes so far.
        """

    def age(self, seconds: int) -> None:
        """Let so much time pass for every unfinished upload."""

    def stored(self) -> dict[str, bytes]:
        """Every file in StoreDir outside of .hmacfs, by path."""

    def partial_files(self, path: str) -> int:
        """Data files of the slot's unfinished uploads."""


def slot_url(path: str) -> str:
    return PREFIX + quote(path, safe="/")


def signed(slot: Slot, *, is_valid: bool = True) -> str:
    """The slot's URL with its signature, or without one (which never counts against the client)."""
    url = slot_url(slot.path)
    return f"{url}?v2={sign_v2(SECRET, slot.path.encode(), slot.total, slot.type)}" if is_valid else url


def put(slot: Slot, token: str, body: Body, fields: list[tuple[str, str]]) -> Request:
    """A PUT on the slot."""
    tokens = [("X-Session-Token", token)] if token else []
    return Request("PUT", signed(slot), [("Content-Type", slot.type), *tokens, *fields], body)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def base64(content: bytes) -> str:
    return b64encode(content).decode()


def wrong(content: Body) -> bytes:
    """A digest that the body does not have."""
    return sha256(content.content + b"another byte")
