"""Bodies on a pair of sockets, filled and looked at."""

import os
import socket
import struct
from typing import Any

from hmacfs.server.body import ChunkedBody, TransferBody

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SHORTLY = 0.001
Body = TransferBody | ChunkedBody
PATIENCE = 20.0


def transfer(sock: Any, length: int, ahead: bytes = b"", *, expects: bool = False, least: int = 1) -> TransferBody:
    return TransferBody(sock, ahead, length, expects_continue=expects, least_read=least)


def filled(body: Body, size: int) -> bytes | None:
    """What one fill of a fresh buffer gives."""
    buffer = bytearray(size)
    count = body.fill(memoryview(buffer))
    return None if count is None else bytes(buffer[:count])


def everything(body: Body, size: int) -> bytes:
    """The whole body, read in buffers of ``size``."""
    parts = []
    while True:
        part = filled(body, size)
        if part is None:
            assert body.wait(PATIENCE)
        elif part:
            parts.append(part)
        else:
            return b"".join(parts)


def waiting(sock: socket.socket) -> bytes:
    """What has arrived and was not read."""
    sock.setblocking(False)
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""
    finally:
        sock.settimeout(PATIENCE)


def left_for_the_next(ours: Any) -> bytes:
    """What the next reader of our side finds."""
    try:
        return os.read(ours.fileno(), 65536)
    except BlockingIOError:
        return b""


def reset(client: socket.socket) -> None:
    """Closes with a reset instead of an orderly end."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def mark(ours: Any) -> int:
    return int(ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
