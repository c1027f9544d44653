"""A TCP proxy that misbehaves on purpose: it cuts, delays and trickles.

Plain threads, two for each connection: one for each direction.
"""

import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType

_BLOCK = 16384


@dataclass(frozen=True)
class Way:
    """What happens to the bytes of one direction.

    Attributes:
        cut_after: after so many bytes the connection is reset on both sides; None for never.
        delay: seconds that every piece is held back.
        rate: bytes per second at most; 0 for no limit.
    """

    cut_after: int | None = None
    delay: float = 0.0
    rate: int = 0


class Proxy:
    """``with Proxy(target) as proxy:`` forwards what connects to ``proxy.address``.

    Args:
        up, down: towards the server, and back from it.
    """

    def __init__(self, target: tuple[str, int] | str, *, up: Way = Way(), down: Way = Way()) -> None:
        self._target = target
        self._up = up
        self._down = down
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._ended = False

    @property
    def address(self) -> tuple[str, int]:
        name: tuple[str, int] = self._listener.getsockname()
        return name

    def __enter__(self) -> "Proxy":
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        with self._lock:
            for sock in self._open:
                _shut(sock)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            with self._lock:
                self._open |= {client, server}
            self._carry(client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Start what forwards one connection; it calls ``_left`` when both sockets are closed."""
        pair = _Pair(client, server)
        self._start(self._forward, pair, client, server, self._up)
        self._start(self._forward, pair, server, client, self._down)

    def _left(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            self._open -= {client, server}

    def _forward(self, pair: "_Pair", source: socket.socket, sink: socket.socket, way: Way) -> None:
        left = way.cut_after
        block = max(1, min(_BLOCK, way.rate // 10)) if way.rate else _BLOCK
        try:
            while left is None or left > 0:
                data = source.recv(block if left is None else min(block, left))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if pause := way.delay + (len(data) / way.rate if way.rate else 0.0):
                    time.sleep(pause)
                sink.sendall(data)
                left = None if left is None else left - len(data)
            pair.reset()
        except OSError:
            pair.reset()
        finally:
            if pair.leave():
                self._left(pair.client, pair.server)


class _Pair:
    """The two sockets of one connection; the thread that leaves last closes them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self._lock = threading.Lock()
        self._inside = 2

    def reset(self) -> None:
        """End both so that both peers see a reset and not an end."""
        for sock in (self.client, self.server):
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass  # closed already
            try:
                sock.shutdown(socket.SHUT_RD)  # wakes the other thread, which closes; SHUT_WR would send a FIN first
            except OSError:
                pass

    def leave(self) -> bool:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return False
        self.client.close()
        self.server.close()
        return True


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
