"""What every request body on a socket has in common: filling the application's buffers, waiting, and 100 Continue.

Three things differ from gunicorn's: bytes go into a reused buffer instead of fresh ``bytes`` objects, a read waits for
a moment at most, and 100 Continue is sent at the first read, which the application makes only after it has admitted
the upload.
"""

import fcntl
import os
import socket
import termios
import time
from abc import ABC, abstractmethod
from typing import Any

from gevent.socket import wait_read

from hmacfs.server.chunked import BadChunk

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

PAUSE_SECONDS = 0.05
"""How long ``fill`` waits for more, in all, with a buffer in its hands. A fast sender fills it in many small arrivals,
and one write of a full buffer is cheaper than twenty; a slow one must not hold it."""

LOOK_SECONDS = 1.0
"""How often a silent body is looked at."""


class SocketBody(ABC):
    """A body of which a subclass knows where it ends.

    Args:
        sock: the connection, non-blocking underneath.
        ahead: what was read together with the head.
        expects_continue: the client waits for 100 Continue.
        least_read: bytes that should have arrived before the process is woken (BufferSize).

    Attributes:
        failed: the connection has broken or ended, and nothing more can come.
        linger_seconds: how long a client that is refused in the middle of the body may go on sending at most; None for
            as long as anybody.
    """

    def __init__(self, sock: Any, ahead: bytes, *, expects_continue: bool, least_read: int) -> None:
        self._sock = sock
        self._ahead = ahead
        self._at = 0
        self._expects_continue = expects_continue
        self._least_read = least_read
        self._mark = 1
        self._is_ended = False
        self.failed = False
        self.linger_seconds: float | None = None

    @abstractmethod
    def _receive(self, room: memoryview) -> int:
        """Put what came with the head, or one read of the socket, to the start of ``room``; how many bytes.

        Raises as ``fill``, and BlockingIOError when nothing has arrived.
        """

    @abstractmethod
    def _has_more(self) -> bool:
        """Whether anything may still come."""

    @abstractmethod
    def _least(self) -> int:
        """Bytes that are sure to come."""

    def fill(self, buffer: memoryview) -> int | None:
        """Fill ``buffer`` from its start until it is full or the sender pauses.

        Returns the bytes read; 0 at the end of the body; None when nothing has arrived yet. A connection that ended
        early is 0 too where the length tells, and an OSError in a chunked body.

        Raises:
            OSError: the connection broke. What had arrived before is returned first.
            BadChunk: so did the framing, with the same promise.
        """
        if self._is_ended:
            return 0
        self._continue()
        filled = 0
        patience = PAUSE_SECONDS
        while filled < len(buffer) and self._has_more():
            try:
                filled += self._receive(buffer[filled:])
            except BlockingIOError:
                if not filled:
                    return None
                begun = time.monotonic()
                if patience <= 0 or not self._arrives(patience):
                    break
                patience -= time.monotonic() - begun
            except (OSError, BadChunk):
                if not filled:
                    raise
                break
        return filled

    def wait(self, seconds: float) -> bool:
        """Until more has arrived or the connection is over; False when neither happened in time."""
        if self._at < len(self._ahead) or not self._has_more():
            return True
        while seconds > 0 and not self._is_ended:
            # The kernel says nothing of fewer bytes than the mark, which a slow sender may well have sent: look now and
            # then. So does a stopping server notice that the body is to be ended.
            if self._arrives(min(seconds, LOOK_SECONDS)) or self._has_some():
                return True
            seconds -= LOOK_SECONDS
        return self._is_ended

    def interim(self, answer: bytes) -> None:
        """Send a whole 1xx answer ahead of the real one."""
        self._sock.sendall(answer)

    def end(self) -> None:
        """Whoever reads this body finds it over within a second, as if the client had gone; the answer can be sent."""
        self._is_ended = True

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    def release(self) -> None:
        """The next reader of this socket wants to be woken by every byte."""
        self._set_mark(1)

    @abstractmethod
    def settle(self) -> None:
        """The application has read what it wanted: see, without waiting, whether the end of the body has arrived."""

    def _has_some(self) -> bool:
        """Whether any bytes have arrived."""
        return fcntl.ioctl(self._sock.fileno(), termios.FIONREAD, bytes(4)) != bytes(4)

    def _arrives(self, seconds: float) -> bool:
        """Until so much has arrived that it is worth a read; False when that did not happen in time."""
        self._set_mark(min(self._least_read, self._least()))
        try:
            wait_read(self._sock.fileno(), seconds)
        except TimeoutError:
            return False
        return True

    def _read(self, room: memoryview) -> int:
        """What has arrived. Raises BlockingIOError when nothing has."""
        try:
            count = os.readv(self._sock.fileno(), (room,))
        except BlockingIOError:
            raise
        except OSError:
            self.failed = True
            raise
        self.failed = not count
        return count

    def _collect(self, wanted: int) -> bytes:
        """``wanted`` bytes, fewer only at the end."""
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
