"""A request body that fills the application's buffers straight from the socket.

Two things differ from gunicorn's: bytes go into a reused buffer instead of fresh ``bytes`` objects, and 100 Continue is
sent at the first read, which the application makes only after it has admitted the upload.
"""

import fcntl
import os
import socket
import termios
import time
from typing import Any

import gevent
from gevent.socket import wait_read

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

PAUSE_SECONDS = 0.05
"""How long ``fill`` waits for more, in all, with a buffer in its hands. A fast sender fills it in many small arrivals,
and one write of a full buffer is cheaper than twenty; a slow one must not hold it."""

LOOK_SECONDS = 1.0
"""How often a silent body is looked at."""


class TransferBody:
    """The body of a request with a Content-Length.

    Args:
        sock: the connection, non-blocking underneath.
        ahead: the first bytes of the body, read together with the head; at most ``length``.
        length: declared bytes.
        expects_continue: the client waits for 100 Continue.
        least_read: bytes that should have arrived before the process is woken (BufferSize).
    """

    def __init__(self, sock: Any, ahead: bytes, length: int, *, expects_continue: bool, least_read: int) -> None:
        self._sock = sock
        self._ahead = memoryview(ahead)
        self.remaining = length
        self._expects_continue = expects_continue
        self._least_read = least_read
        self._mark = 1
        self._is_ended = False
        self.failed = False
        """The connection cannot be used again: its next request starts at an unknown place."""

    @property
    def is_at_hand(self) -> bool:
        """Whether the rest of the body has arrived already, so that it costs nothing to skip it."""
        return len(self._ahead) == self.remaining

    def fill(self, buffer: memoryview) -> int | None:
        """Fill ``buffer`` from its start until it is full or the sender pauses.

        Returns the bytes read; 0 at the end of the body or of the connection; None when nothing has arrived yet.
        """
        if self._is_ended:
            return 0
        self._continue()
        wanted = min(len(buffer), self.remaining)
        filled = self._take_ahead(buffer, wanted)
        fd = self._sock.fileno()
        patience = PAUSE_SECONDS
        while filled < wanted:
            try:
                count = os.readv(fd, (buffer[filled:wanted],))
            except BlockingIOError:
                if not filled:
                    return None
                begun = time.monotonic()
                if patience <= 0 or not self._arrives(patience):
                    break
                patience -= time.monotonic() - begun
                continue
            except OSError:
                self.failed = True
                raise
            if not count:
                self.failed = True
                break
            filled += count
            self.remaining -= count
        return filled

    def wait(self, seconds: float) -> bool:
        """Until more has arrived or the connection is over; False when neither happened in time."""
        while seconds > 0 and not self._is_ended:
            # The kernel says nothing of fewer bytes than the mark, which a slow sender may well have sent: look now and
            # then. So does a stopping server notice that the body is to be ended.
            if self._arrives(min(seconds, LOOK_SECONDS)) or self._has_some():
                return True
            seconds -= LOOK_SECONDS
        return self._is_ended

    def end(self) -> None:
        """Whoever reads this body finds it over within a second, as if the client had gone; the answer can be sent."""
        self._is_ended = True

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    def _has_some(self) -> bool:
        """Whether any bytes have arrived."""
        return fcntl.ioctl(self._sock.fileno(), termios.FIONREAD, bytes(4)) != bytes(4)

    def _arrives(self, seconds: float) -> bool:
        """Until so much has arrived that it is worth a read; False when that did not happen in time."""
        self._set_mark(min(self._least_read, self.remaining))
        try:
            wait_read(self._sock.fileno(), seconds)
        except TimeoutError:
            return False
        return True

    def interim(self, answer: bytes) -> None:
        """Send a whole 1xx answer ahead of the real one."""
        self._sock.sendall(answer)

    def read(self, size: int = -1) -> bytes:
        """As WSGI wants it: ``size`` bytes, fewer only at the end."""
        wanted = self.remaining if size < 0 else min(size, self.remaining)
        block = memoryview(bytearray(wanted))
        done = 0
        while done < wanted:
            count = self.fill(block[done:])
            if count is None:
                self.wait(1.0)
            elif not count:
                break
            else:
                done += count
        return bytes(block[:done])

    def skip_ahead(self) -> None:
        """Drop what has arrived already; only where ``is_at_hand``."""
        self.remaining -= len(self._ahead)
        self._ahead = memoryview(b"")

    def release(self) -> None:
        """The next reader of this socket wants to be woken by every byte."""
        self._set_mark(1)

    def _take_ahead(self, buffer: memoryview, wanted: int) -> int:
        count = min(len(self._ahead), wanted)
        if count:
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            self.remaining -= count
        return count

    def _continue(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            if not self._ahead:  # RFC 9110 section 10.1.1: no need once the body has begun to arrive
                self._sock.sendall(CONTINUE)

    def _set_mark(self, mark: int) -> None:
        # The kernel then wakes us once for so many bytes instead of for every segment (and always at the end).
        if mark != self._mark:
            self._mark = mark
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
            except OSError:
                pass  # a Unix socket of an old kernel; every segment wakes us then


class ChunkedBody:
    """A chunked body, read by gunicorn's parser, with 100 Continue at the first read. Args: inner: gunicorn's body."""

    def __init__(self, sock: Any, inner: Any, *, expects_continue: bool) -> None:
        self._sock = sock
        self._inner = inner
        self._expects_continue = expects_continue
        self.is_at_hand = False

    @property
    def failed(self) -> bool:
        return bool(self._inner.failed)

    @failed.setter
    def failed(self, value: bool) -> None:
        self._inner.failed = value

    def read(self, size: int = -1) -> bytes:
        if self._expects_continue:
            self._expects_continue = False
            self._sock.sendall(CONTINUE)
        data: bytes = self._inner.read(None if size < 0 else size)
        if not data and size:
            self.is_at_hand = True
        gevent.sleep(0)
        return data

    def end(self) -> None:
        """Whoever reads on finds the connection over."""
        self.failed = True

    @property
    def is_ended(self) -> bool:
        return self.failed

    def skip_ahead(self) -> None:
        """Nothing is left."""

    def release(self) -> None:
        """Nothing was set."""
