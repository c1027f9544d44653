"""An answer as plain values: status, header list, body. Lighter than a framework's response, and WSGI as it is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

Headers = list[tuple[str, str]]

PHRASES = {int(status): status.phrase for status in HTTPStatus} | {460: "Checksum Mismatch"}
"""Reason phrases; 460 is tus's own (checksum extension)."""

STATUS_LINES = {status: f"{status} {phrase}" for status, phrase in PHRASES.items()}


class ClosableBody(Protocol):
    """A body that holds something open until it is closed."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Reply:
    """Attributes:
    headers: complete, with Content-Length wherever the body has one.
    body: bytes, or an iterable that the server closes.
    on_close: called once the answer has been sent or given up, after the body was closed.
    """

    status: int
    headers: Headers
    body: bytes | ClosableBody = b""
    on_close: Callable[[], None] | None = field(default=None)

    def wsgi(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        start_response(STATUS_LINES[self.status], self.headers)
        return Sending(self.body, self.on_close)


class Sending:
    """What a WSGI server iterates over and closes. A file is offered to servers that can send it themselves."""

    __slots__ = ("_body", "_on_close", "file_slice", "progress")

    def __init__(self, body: bytes | ClosableBody, on_close: Callable[[], None] | None) -> None:
        self._body = body
        self._on_close = on_close
        self.file_slice = getattr(body, "file_slice", None)
        """Descriptor, first byte and length of what is to be sent; None where the body is no file."""
        self.progress = getattr(body, "progress", None)
        """To be called with the bytes of each step by a server that sends the slice itself."""

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self._body, bytes):
            return iter((self._body,) if self._body else ())
        return iter(self._body)

    def close(self) -> None:
        body, self._body = self._body, b""
        try:
            if not isinstance(body, bytes):
                body.close()
        finally:
            done, self._on_close = self._on_close, None
            if done is not None:
                done()
