"""A minimal HTTP client for large bodies: sendfile out of memory, receive and discard, so that it costs little."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.outcome import Outcome, waits_of
from bench.slots import CONTENT_TYPE

Address = tuple[str, int]

_PATTERN = 64 * 1024 * 1024
_BLOCK = 1024 * 1024
_SILENCE = 60  # seconds without a byte after which a transfer has failed


@dataclass(frozen=True)
class Answer:
    """Attributes: status: 0 where the connection broke before an answer. length: of the body. body: what came of it."""

    status: int
    length: int = 0
    body: bytes = b""
    head: bytes = b""


def connect(address: Address) -> socket.socket:
    """A blocking connection whose calls give up after a while."""
    sock = socket.create_connection(address, timeout=10)
    sock.settimeout(None)  # with a Python timeout the descriptor would be non-blocking, and sendfile would not wait
    limit = struct.pack("ll", _SILENCE, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def request_head(method: str, target: str, address: Address, size: int | None = None, *more: str) -> bytes:
    """Args: more: header lines."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {address[0]}:{address[1]}", *more]
    if size is not None:
        lines += [f"Content-Type: {CONTENT_TYPE}", f"Content-Length: {size}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_answer(sock: socket.socket) -> Answer:
    """Status and length, and as much of the body as came along."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = sock.recv(65536)
        except OSError:
            more = b""
        if not more:
            return Answer(0)
        data += more
    return parsed(data)


def parsed(data: bytes) -> Answer:
    """The answer whose head is complete in ``data``."""
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return Answer(int(head.split(b" ", 2)[1]), length, body, head)


def exchange(sock: socket.socket, head: bytes, body: bytes = b"") -> Answer:
    """One small request and its whole answer on an open connection."""
    sock.sendall(head + body)
    answer = read_answer(sock)
    received = len(answer.body)
    while received < answer.length:
        block = sock.recv(65536)
        if not block:
            return Answer(0)
        received += len(block)
    return answer


def pattern() -> int:
    """A descriptor of random bytes in memory: zeros may be cheaper than files really are."""
    fd = os.memfd_create("bench")
    block = os.urandom(_BLOCK)
    for _ in range(_PATTERN // _BLOCK):
        os.write(fd, block)
    return fd


def upload(address: Address, target: str, size: int, source: int, *more: str) -> Answer:
    """PUT ``size`` bytes. Like many clients it goes on sending whatever the server may have answered already."""
    with connect(address) as sock:
        sock.sendall(request_head("PUT", target, address, size, *more))
        sent = 0
        try:
            while sent < size:
                offset = sent % _PATTERN
                sent += os.sendfile(sock.fileno(), source, offset, min(_PATTERN - offset, size - sent))
        except OSError:
            pass  # refused: the answer may still lie in the receive buffer
        return read_answer(sock)


def download(address: Address, target: str) -> tuple[Answer, int]:
    """GET; the answer and how many bytes of the body came."""
    buffer = memoryview(bytearray(_BLOCK))
    with connect(address) as sock:
        sock.sendall(request_head("GET", target, address))
        answer = read_answer(sock)
        received = len(answer.body)
        while received < answer.length:
            count = sock.recv_into(buffer)
            if not count:
                break
            received += count
        return answer, received


def uploads(address: Address, targets: Sequence[str], size: int, *more: str) -> Outcome:
    """All targets at once, one connection each. Args: more: header lines."""
    source = pattern()

    def stored(target: str) -> bool:
        return upload(address, target, size, source, *more).status in (200, 201, 204)

    return _at_once([partial(stored, target) for target in targets], size)


def downloads(address: Address, targets: Sequence[str], size: int) -> Outcome:
    """All targets at once, one connection each."""

    def whole(target: str) -> bool:
        answer, received = download(address, target)
        return answer.status == 200 and received == size

    return _at_once([partial(whole, target) for target in targets], size)


def refused_upload(address: Address, target: str, size: int) -> Outcome:
    """An upload that must be answered with 403; the amount is what was offered."""
    source = pattern()
    started = time.perf_counter()
    answer = upload(address, target, size, source)
    seconds = time.perf_counter() - started
    note = f"answered {answer.status}" if answer.status else "the answer was lost in a reset"
    return Outcome(size, seconds, failed=int(answer.status != 403), note=note)


def _at_once(transfers: Sequence[Callable[[], bool]], size: int) -> Outcome:
    good: list[float] = []
    barrier = threading.Barrier(len(transfers))

    def run(transfer: Callable[[], bool]) -> None:
        barrier.wait()
        began = time.perf_counter()
        try:
            if transfer():
                good.append(time.perf_counter() - began)
        except OSError:
            pass  # counted below as one that did not arrive

    threads = [threading.Thread(target=run, args=(transfer,)) for transfer in transfers]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    return Outcome(size * len(good), seconds, waits_of(good), len(transfers) - len(good))
