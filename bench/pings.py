"""How long another client waits meanwhile: GETs of a one-byte file on keep-alive connections, one every 2 ms.

Several connections take turns, because a connection belongs to one worker process: a single one could sit beside the
worker that stands still. A connection that still waits is passed over, so one long wait does not hide the others.
"""

import selectors
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event

from bench.transfers import Address, connect, parsed, request_head

INTERVAL = 0.002
CONNECTIONS = 8
_LONGEST = 600.0


@dataclass
class Waits:
    """Attributes: seconds: one for each ping. failed: answers other than 200, and broken connections."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


class _Pinger:
    """One keep-alive connection."""

    def __init__(self, address: Address, target: str) -> None:
        self._address = address
        self._request = request_head("GET", target, address)
        self.sent_at: float | None = None
        self._data = b""
        self.sock = self._connected()

    def _connected(self) -> socket.socket:
        sock = connect(self._address)
        sock.setblocking(False)
        return sock

    def send(self) -> None:
        self._data = b""
        self.sent_at = time.perf_counter()
        self.sock.send(self._request)

    def receive(self) -> bool | None:
        """Whether the answer was 200; None while it is incomplete."""
        data = self.sock.recv(65536)
        if not data:
            return False
        self._data += data
        if b"\r\n\r\n" not in self._data:
            return None
        answer = parsed(self._data)
        return answer.status == 200 if len(answer.body) >= answer.length else None

    def reconnect(self) -> None:
        self.sock.close()
        self.sent_at = None
        self.sock = self._connected()


def ping(address: Address, target: str, running: Event, stop: Event) -> Waits:
    """Ping until ``stop`` is set; ``running`` is set once every connection has had an answer."""
    waits = Waits()
    pingers = [_Pinger(address, target) for _ in range(CONNECTIONS)]
    for pinger in pingers:  # not counted: the first request of a connection pays for its making
        pinger.sock.setblocking(True)
        pinger.send()
        while pinger.receive() is None:
            pass
        pinger.sent_at = None
        pinger.sock.setblocking(False)
    running.set()
    with selectors.DefaultSelector() as selector:
        for pinger in pingers:
            selector.register(pinger.sock, selectors.EVENT_READ, pinger)
        _rounds(pingers, selector, stop, waits)
    now = time.perf_counter()
    waits.seconds += [now - p.sent_at for p in pingers if p.sent_at is not None and now - p.sent_at > INTERVAL]
    return waits


def _rounds(pingers: list[_Pinger], selector: selectors.BaseSelector, stop: Event, waits: Waits) -> None:
    turn = 0
    due = time.perf_counter()
    end = due + _LONGEST
    while not stop.is_set() and due < end:
        now = time.perf_counter()
        if now >= due:
            pinger = pingers[turn % CONNECTIONS]
            turn += 1
            due = max(due + INTERVAL, now - INTERVAL)  # after a pause of our own, no burst
            if pinger.sent_at is None:
                _guarded(pinger, selector, waits, sending=True)
            continue
        for key, _ in selector.select(due - now):
            _guarded(key.data, selector, waits, sending=False)


def _guarded(pinger: _Pinger, selector: selectors.BaseSelector, waits: Waits, *, sending: bool) -> None:
    try:
        if sending:
            pinger.send()
            return
        good = pinger.receive()
        if good is None:
            return
        if good and pinger.sent_at is not None:
            waits.seconds.append(time.perf_counter() - pinger.sent_at)
            pinger.sent_at = None
            return
    except OSError:
        pass
    selector.unregister(pinger.sock)
    # A kept connection that the server closes between two requests is its right, not a failure.
    waits.failed += int(pinger.sent_at is not None)
    pinger.reconnect()
    selector.register(pinger.sock, selectors.EVENT_READ, pinger)
