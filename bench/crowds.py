"""Many connections from one process: uploads that trickle in, and connections that say nothing."""

import heapq
import selectors
import socket
import struct
import time
from collections.abc import Sequence

from bench.outcome import Outcome, waits_of
from bench.transfers import Address, connect, exchange, request_head

_STEP = 8192
_AT_ONCE = 256  # connections being made: fewer than any listen backlog


class _Slow:
    """One upload that sends ``_STEP`` bytes at a time."""

    def __init__(self, sock: socket.socket, head: bytes, size: int) -> None:
        self.sock = sock
        self._pending = memoryview(head)
        self._left = size

    def step(self) -> bool:
        """Send the next piece, or what is left of one; whether everything is sent."""
        if not self._pending:
            self._pending = memoryview(b"0" * min(_STEP, self._left))
            self._left -= len(self._pending)
        try:
            self._pending = self._pending[self.sock.send(self._pending) :]
        except BlockingIOError:
            pass
        return not self._left and not self._pending


def slow_uploads(address: Address, targets: Sequence[str], size: int, rate: int) -> Outcome:
    """All targets at once, each at ``rate`` bytes per second; the amount is what was stored."""
    started = time.perf_counter()
    interval = _STEP / rate
    end = started + 3 * size / rate + 30
    socks = _connected(address, len(targets), started + 15)
    turns: list[tuple[float, int]] = []
    uploads = []
    with selectors.DefaultSelector() as selector:
        now = time.perf_counter()
        for number, (sock, target) in enumerate(zip(socks, targets, strict=False)):
            uploads.append(_Slow(sock, request_head("PUT", target, address, size), size))
            heapq.heappush(turns, (now + interval * number / len(targets), number))
            selector.register(sock, selectors.EVENT_READ, sock)
        stored = _trickle(uploads, turns, selector, interval, end)
    for sock in socks:
        sock.close()
    return Outcome(stored * size, time.perf_counter() - started, failed=len(targets) - stored)


def _trickle(
    uploads: list[_Slow], turns: list[tuple[float, int]], selector: selectors.BaseSelector, interval: float, end: float
) -> int:
    """Run until every upload has an answer; how many were stored."""
    stored = answered = 0
    over: set[int] = set()
    while answered < len(uploads) and time.perf_counter() < end:
        now = time.perf_counter()
        while turns and turns[0][0] <= now:
            due, number = heapq.heappop(turns)
            if uploads[number].sock.fileno() not in over and not _stepped(uploads[number]):
                heapq.heappush(turns, (due + interval, number))
        pause = max(0.0, min(turns[0][0] - time.perf_counter(), 0.1)) if turns else 0.1
        for key, _ in selector.select(pause):
            selector.unregister(key.fileobj)
            over.add(key.fd)
            answered += 1
            stored += _status(key.data) in (200, 201, 204)
    return stored


def _stepped(upload: _Slow) -> bool:
    try:
        return upload.step()
    except OSError:
        return True  # broken: the selector tells


def _status(sock: socket.socket) -> int:
    """Of an answer whose status line is here; 0 where the connection broke instead."""
    try:
        return int(sock.recv(65536).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return 0


def idle(address: Address, target: str, count: int, seconds: float) -> Outcome:
    """Open ``count`` connections, say nothing on them, and see whether newcomers are still served.

    The amount is the connections that were made, the seconds those it took to make them.
    """
    started = time.perf_counter()
    socks = _connected(address, count, started + 30)
    took = time.perf_counter() - started
    time.sleep(seconds)
    fresh, lost = _newcomers(address, target)
    still_open = sum(_is_open(sock) for sock in socks)
    for sock in socks:
        # Reset instead of a farewell: thousands of TIME_WAIT entries would be in the way of the next run.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    waits = waits_of(fresh)
    told = f"newcomers {waits[0]:.1f} / {waits[2]:.1f} ms (p50 / max)" if waits else "no newcomer served"
    note = f"{still_open} still open after {seconds:g} s, {told}" + (f", {lost} of 20 newcomers failed" if lost else "")
    return Outcome(len(socks), took, failed=count - len(socks) + lost, note=note)


def _newcomers(address: Address, target: str) -> tuple[list[float], int]:
    waits: list[float] = []
    lost = 0
    for _ in range(20):
        began = time.perf_counter()
        try:
            with connect(address) as sock:
                # The kernel accepts for a server that does not, so only an answer counts.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
                good = exchange(sock, request_head("GET", target, address)).status == 200
        except OSError:
            good = False
        if good:
            waits.append(time.perf_counter() - began)
        lost += not good
    return waits, lost


def _is_open(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _connected(address: Address, count: int, end: float) -> list[socket.socket]:
    """As many of ``count`` non-blocking connections as can be made until ``end``."""
    done: list[socket.socket] = []
    begun = 0
    with selectors.DefaultSelector() as selector:
        waiting = 0
        while len(done) < count and time.perf_counter() < end and (waiting or begun < count):
            while waiting < _AT_ONCE and begun < count:
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(address)
                selector.register(sock, selectors.EVENT_WRITE)
                begun += 1
                waiting += 1
            for key, _ in selector.select(0.1):
                sock = key.fileobj  # type: ignore[assignment]
                selector.unregister(sock)
                waiting -= 1
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    sock.close()
                else:
                    done.append(sock)
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return done
