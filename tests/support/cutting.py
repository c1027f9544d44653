"""A TCP proxy that cuts an upload at an exact byte of its body.

It understands just enough of HTTP/1.1 to tell bodies from what is around them, and counts their bytes over all requests
and connections: "after 262,145 bytes" means the same to a client that sends one request and to one that sends eighty.
Every byte before the cut reaches the server. The client sees a reset; what the server sees is for the test to choose.
"""

import fcntl
import select
import socket
import struct
import termios
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto

from tests.support.polling import until
from tests.support.proxy import Proxy

_BLOCK = 65536
_MAX_HEAD = 65536
_SEND_SECONDS = 30.0


class Kind(Enum):
    """What the server sees of a cut."""

    ENDED = "ended"
    """All bytes, then an end: a proxy in front gave up."""
    RESET = "reset"
    """All bytes, then a reset: the client's process died."""
    SILENT = "silent"
    """All bytes, then nothing for ever: a telephone left its network, and comes back by another connection."""


class CuttingProxy(Proxy):
    """``with CuttingProxy(target, cuts) as proxy:`` forwards what connects to ``proxy.address``, and cuts.

    Args:
        cuts: counts of body bytes, ascending. At each the connection that carries this byte is cut, the answer to it
            never arrives, and the next connections are forwarded again.
        kind: what the server sees.

    Attributes:
        forwarded: body bytes handed to the server so far.
        pending: cuts still to be made.
    """

    def __init__(self, target: tuple[str, int] | str, cuts: Sequence[int], kind: Kind = Kind.ENDED) -> None:
        assert list(cuts) == sorted(cuts), "cuts are made in order"
        super().__init__(target)
        self.forwarded = 0
        self.pending = deque(cuts)
        self._kind = kind
        self._count = threading.Lock()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        self._start(self._relay, client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        bodies = Bodies()
        listening = [client, server]
        try:
            client.settimeout(_SEND_SECONDS)
            server.settimeout(_SEND_SECONDS)
            while listening:
                for source in select.select(listening, [], [])[0]:
                    data = source.recv(_BLOCK)
                    if not data:
                        listening.remove(source)
                        (server if source is client else client).shutdown(socket.SHUT_WR)
                    elif source is server:
                        client.sendall(data)
                    elif self._send(bodies, data, server):
                        self._cut(client, server)
                        return
        except OSError:  # one side was reset, so the other is
            _reset(client)
            _reset(server)
        finally:
            client.close()
            server.close()
            self._left(client, server)

    def _send(self, bodies: "Bodies", data: bytes, server: socket.socket) -> bool:
        """Forward ``data``, and say whether the connection is to be cut behind what was forwarded of it."""
        for piece, is_body in bodies.split(data):
            allowed, cut = self._allow(len(piece)) if is_body else (len(piece), False)
            server.sendall(piece[:allowed])
            if cut:
                return True
        return False

    def _allow(self, size: int) -> tuple[int, bool]:
        """How many of ``size`` body bytes may go, and whether a cut comes behind them."""
        with self._count:
            cut = bool(self.pending) and self.pending[0] <= self.forwarded + size
            allowed = max(0, self.pending.popleft() - self.forwarded) if cut else size
            self.forwarded += allowed
            return allowed, cut

    def _cut(self, client: socket.socket, server: socket.socket) -> None:
        until(lambda: _delivered(server), "the server's kernel has all bytes")  # a reset drops those under way
        _reset(client)
        if self._kind is Kind.RESET:
            _reset(server)
            return
        if self._kind is Kind.ENDED:
            server.shutdown(socket.SHUT_WR)
        server.settimeout(None)  # until the server closes, or this proxy ends
        while server.recv(_BLOCK):
            pass


class _Part(Enum):
    """Where in a request a stream is."""

    HEAD = auto()
    SIZE = auto()
    CHUNK_END = auto()


class Bodies:
    """Tells the bodies of the requests of one connection from heads and from chunked coding (RFC 9112)."""

    def __init__(self) -> None:
        self._part = _Part.HEAD
        self._kept = bytearray()  # of a head or line whose end has not come yet
        self._left = 0  # bytes of a body or chunk that are still to come

    def split(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """The pieces of ``data`` in order, each with whether it belongs to a body."""
        while data:
            if is_body := self._left > 0:
                taken = min(self._left, len(data))
                self._left -= taken
            else:
                taken = self._take_line(data)
            yield data[:taken], is_body
            data = data[taken:]

    def _take_line(self, data: bytes) -> int:
        """Bytes of ``data`` up to the end of a head, or of a line of chunked coding; all where it is not there yet."""
        end = b"\r\n\r\n" if self._part is _Part.HEAD else b"\r\n"
        known = len(self._kept)
        self._kept += data
        at = self._kept.find(end, max(0, known - len(end) + 1))
        if at < 0:
            assert len(self._kept) <= _MAX_HEAD, "no end of the head or line"
            return len(data)
        line = bytes(self._kept[:at])
        self._kept.clear()
        self._step(line)
        return at + len(end) - known

    def _step(self, line: bytes) -> None:
        match self._part:
            case _Part.HEAD:
                fields = _fields(line)
                self._left = int(fields.get(b"content-length", b"0"))
                if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
                    self._part = _Part.SIZE
            case _Part.SIZE:
                self._left = int(line.partition(b";")[0], 16)
                # Trailer fields look like a head without a body, and the empty line like one before the next head
                self._part = _Part.CHUNK_END if self._left else _Part.HEAD
            case _Part.CHUNK_END:
                self._part = _Part.SIZE


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _delivered(sock: socket.socket) -> bool:
    """Whether the peer's kernel has acknowledged every byte, or never will because the peer has closed."""
    (unacknowledged,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return not unacknowledged or bool(poll.poll(0))


def _reset(sock: socket.socket) -> None:
    """Close so that the peer sees a reset and not an end; nothing where it is closed already."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
