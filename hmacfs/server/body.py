"""The two kinds of request bodies: with a Content-Length, and in chunks."""

import errno
from collections.abc import Callable
from typing import Any

import gevent

from hmacfs.server.chunked import CHUNKS_AT_ONCE, BadChunk, ChunkDecoder
from hmacfs.server.socketbody import SocketBody

_BLOCK = 64 * 1024
"""Bytes that ``ChunkedBody.read`` collects at a time."""

_PIECE = 16 * 1024
"""Bytes of one read where chunk heads are expected; the data of longer chunks go straight to their place."""

_DROPPED = memoryview(bytearray(_PIECE))
"""Where data goes that nobody wants. Its content means nothing."""


class TransferBody(SocketBody):
    """The body of a request with a Content-Length.

    Args:
        ahead: the first bytes of the body; at most ``length``.
        length: declared bytes.
    """

    def __init__(self, sock: Any, ahead: bytes, length: int, *, expects_continue: bool, least_read: int) -> None:
        super().__init__(sock, ahead, expects_continue=expects_continue, least_read=least_read)
        self.remaining = length

    @property
    def is_at_hand(self) -> bool:
        """Whether the rest of the body has arrived already, so that it costs nothing to skip it."""
        return len(self._ahead) - self._at == self.remaining

    def read(self, size: int = -1) -> bytes:
        """As WSGI wants it: ``size`` bytes, fewer only at the end."""
        return self._collect(self.remaining if size < 0 else min(size, self.remaining))

    def skip_ahead(self) -> None:
        """Drop what has arrived already; only where ``is_at_hand``."""
        self.remaining -= len(self._ahead) - self._at
        self._at = len(self._ahead)

    def settle(self) -> None:
        """The length tells where the end is: nothing need be read to see it."""

    def _receive(self, room: memoryview) -> int:
        count = min(len(self._ahead) - self._at, len(room))
        if count:
            room[:count] = memoryview(self._ahead)[self._at : self._at + count]
            self._at += count
        else:
            count = self._read(room[: self.remaining])
        self.remaining -= count
        return count

    def _has_more(self) -> bool:
        return self.remaining > 0 and not self.failed

    def _least(self) -> int:
        return self.remaining


class ChunkedBody(SocketBody):
    """The body of a request with ``Transfer-Encoding: chunked``. Its connection may go on once its end has been read.

    Args:
        ahead: may reach beyond the end of the body.
        give_back: takes the bytes behind the end, which belong to the next request; called at most once.
    """

    def __init__(
        self, sock: Any, ahead: bytes, give_back: Callable[[bytes], None], *, expects_continue: bool, least_read: int
    ) -> None:
        super().__init__(sock, ahead, expects_continue=expects_continue, least_read=least_read)
        self._decoder = ChunkDecoder()
        self._give_back = give_back
        self._next_turn = CHUNKS_AT_ONCE

    @property
    def is_at_hand(self) -> bool:
        """Whether the end of the body has been read, trailers and all."""
        return self._decoder.is_over

    def read(self, size: int = -1) -> bytes:
        """As WSGI wants it: ``size`` bytes, fewer only at the end. Raises as ``fill`` where the body is broken."""
        blocks = []
        while size:
            wanted = _BLOCK if size < 0 else min(size, _BLOCK)
            blocks.append(self._collect(wanted))
            if len(blocks[-1]) < wanted:
                break
            size -= wanted
        return b"".join(blocks)

    def settle(self) -> None:
        # An application that knows how much data comes does not read on to the end, which may have arrived meanwhile.
        if self._is_ended or self._decoder.is_over or (self._expects_continue and not self._ahead):
            return
        try:
            for _ in range(2):  # what came with the head, and what came since
                if self._has_more():
                    self._receive(_DROPPED)
        except (OSError, BadChunk):
            pass  # it has not arrived, or never will

    def skip_ahead(self) -> None:
        """Nothing is left where ``is_at_hand``."""

    def _receive(self, room: memoryview) -> int:
        if not self._ahead:
            if self._decoder.missing >= _PIECE:
                count = self._read_on(room[: self._decoder.missing])
                self._decoder.took(count)
                return count
            # No more than there is room for, framing included: whatever comes finds its place at once.
            piece = memoryview(bytearray(min(len(room), _PIECE)))
            self._ahead = bytes(piece[: self._read_on(piece)])
        copied = self._take_apart(room)
        if self._decoder.chunks >= self._next_turn:
            # gevent runs 50 callbacks (CALLBACK_CHECK_COUNT) before it looks at its sockets again, and this is one: a
            # turn of 6 ms, as 16 KiB of one-byte chunks take, held up everybody for 0.4 s.
            self._next_turn = self._decoder.chunks + CHUNKS_AT_ONCE
            gevent.sleep(0)
        return copied

    def _take_apart(self, room: memoryview) -> int:
        self._at, copied = self._decoder.feed(self._ahead, self._at, len(self._ahead), room)
        if self._decoder.is_over and self._at < len(self._ahead):
            self._give_back(self._ahead[self._at :])
        if self._decoder.is_over or self._at == len(self._ahead):
            self._ahead, self._at = b"", 0  # a body that falls silent holds no memory
        return copied

    def _read_on(self, room: memoryview) -> int:
        """As ``_read``, but the end of the connection is an error: the body has not ended."""
        count = self._read(room)
        if not count:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection ended before the last chunk")
        return count

    def _has_more(self) -> bool:
        return not (self._decoder.is_over or self._is_ended)

    def _least(self) -> int:
        return max(1, self._decoder.missing)
