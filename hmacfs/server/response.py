"""Answers on the wire: head and small body in one send, files by sendfile in the pool."""

import os
import re
import socket
import time
from typing import Any

from gevent.socket import wait_write
from gunicorn.http.wsgi import Response
from gunicorn.util import http_date

from hmacfs.offload import Pool

SENDFILE_BLOCK = 1024 * 1024
"""Bytes of one sendfile job at most, so that a job on a cold disk is short."""


_UNSAFE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class _Date:
    """The Date header's value, made once a second."""

    second = 0
    text = ""

    @classmethod
    def now(cls) -> str:
        second = int(time.time())
        if second != cls.second:
            cls.second, cls.text = second, http_date()
        return cls.text


class TransferResponse(Response):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's answer, with the head kept back until the first bytes of the body go with it."""

    headers_sent: bool
    status: str | None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """As PEP 3333 wants it; a value that could split the head is refused when the head is made."""
        if exc_info is not None or self.status is not None:
            return super().start_response(status, headers, exc_info)
        self.status = status
        self.status_code = int(status[:3])
        self.headers = headers
        self._omits_body = self.req.method == "HEAD" or self.status_code in (204, 304)
        for name, value in headers:
            if name.lower() == "content-length":
                self.response_length = int(value)
        self.chunked = self.is_chunked()
        return self.write

    def default_headers(self) -> list[str]:
        connection = "close" if self.should_close() else "keep-alive"
        headers = [
            f"HTTP/1.{min(1, self.req.version[1])} {self.status}\r\n",
            f"Date: {_Date.now()}\r\n",
            f"Connection: {connection}\r\n",
        ]
        if self.chunked:
            headers.append("Transfer-Encoding: chunked\r\n")
        return headers

    def take_head(self) -> bytes:
        """The head, to be sent by the caller; empty when it has gone already."""
        if self.headers_sent:
            return b""
        self.headers_sent = True
        lines = self.default_headers()
        fields = [f"{name}: {value}" for name, value in self.headers]
        if any(_UNSAFE.search(field) for field in fields):
            raise ValueError("a header field holds a control character")
        return ("".join(lines) + "\r\n".join((*fields, "\r\n"))).encode("latin-1")

    def write(self, arg: bytes) -> None:
        if self.headers_sent or self.chunked or self._omits_body or self.response_length != len(arg):
            super().write(arg)
            return
        self.sent += len(arg)
        self.sock.sendall(self.take_head() + arg)

    def send_headers(self) -> None:
        if head := self.take_head():
            self.sock.sendall(head)


def send_file(
    sock: Any, head: bytes, fd: int, first: int, count: int, pool: Pool, timeout: float, progress: Any
) -> None:
    """Send ``head`` and ``count`` bytes of ``fd`` from ``first`` on, without ever blocking the loop.

    Args:
        timeout: seconds that the receiver may pause (WriteTimeout).
        progress: called with the bytes of each step.

    Raises:
        TimeoutError: the receiver paused for longer.
        OSError: the connection broke, or the file became shorter.
    """
    sock.sendall(head, socket.MSG_MORE)  # the head leaves with the first bytes of the file
    target = sock.fileno()
    end = first + count
    while first < end:
        sent, is_full = pool.run(_sendfile, target, fd, first, min(SENDFILE_BLOCK, end - first))
        if sent:
            first += sent
            progress(sent)
        if is_full:
            wait_write(target, timeout)


def _sendfile(target: int, fd: int, first: int, count: int) -> tuple[int, bool]:
    """The bytes that went, and whether the socket takes no more for now."""
    done = 0
    while done < count:
        try:
            sent = os.sendfile(target, fd, first + done, count - done)
        except BlockingIOError:
            return done, True
        if not sent:
            raise OSError("the file became shorter while it was sent")
        done += sent
    return done, False
