"""A real server with several workers and a Redis, both of which are killed, stopped and started again."""

import hashlib
import os
import signal
import socket
from pathlib import Path

from tests.machine.wire import Body, Request
from tests.support.http import Answer, Connection, head_of
from tests.support.polling import until
from tests.support.redis import RedisServer
from tests.support.server import Server, open_files, stat_fields

STEPS = 40
"""The largest ``kill_at``; it is a share of the body here."""

_READ_SECONDS = 5.0


class Site:
    """A Driver.

    Args:
        folder: of the paths, as a slot spells it: each example has files of its own.
    """

    def __init__(self, server: Server, redis: RedisServer, folder: str) -> None:
        self._server = server
        self._redis = redis
        self._folder = folder

    def send(self, request: Request, kill_at: int | None = None) -> Answer | None:
        with Connection(self._server.address) as connection:
            head = head_of(request.method, request.target, [*request.headers, *_framing(request)])
            if kill_at is None:
                connection.send_all_or_until_refused(head, _framed(request.body))
                if request.body.is_cut:
                    connection.half_close()
                return connection.read_answer(bodiless=request.method == "HEAD")
            try:
                return self._send_and_kill(connection, request, head, kill_at)
            except (OSError, EOFError):
                return None

    def _send_and_kill(self, connection: Connection, request: Request, head: bytes, kill_at: int) -> Answer:
        framed = _framed(request.body)
        sent = len(framed) * min(kill_at, STEPS) // STEPS
        connection.send(head + framed[:sent])
        if kill_at % 2 and sent < len(framed):
            until(lambda: not _waiting(connection.sock)[0], "all bytes so far were read", _READ_SECONDS)
        self.kill_worker(connection)
        connection.send(framed[sent:])
        return connection.read_answer(bodiless=request.method == "HEAD")

    def kill_worker(self, connection: Connection | None = None) -> None:
        """SIGKILL to the worker that has the connection, or to any."""
        workers = self._server.worker_pids()
        if connection is not None:
            name = f"socket:[{_waiting(connection.sock)[1]}]"
            workers = [pid for pid in workers if name in open_files(pid)] or workers
        for pid in workers[:1]:
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: stat_fields(pid)[:1] in ([], ["Z"]), "it is dead")  # type: ignore[misc]

    def age(self, seconds: int) -> None:
        for path in (self._server.store_dir / ".hmacfs" / "partials").glob("??/*/*"):
            info = path.stat()
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns - seconds * 10**9))

    def stored(self) -> dict[str, bytes]:
        root = self._server.store_dir
        others = {path.name for path in root.iterdir()} - {".hmacfs"}
        assert self._folder in others or not (root / self._folder).exists()
        files = [path for path in (root / self._folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    def partial_files(self, path: str) -> int:
        slot = hashlib.sha256(path.encode()).hexdigest()[:32]
        return len(list((self._server.store_dir / ".hmacfs" / "partials" / slot[:2] / slot).glob("*.part")))

    # The tier

    def strike_redis(self, how: str) -> None:
        """Args: how: "kill", "stop", "empty" (killed, and started with nothing), "back"."""
        redis = self._redis
        if how == "stop" and redis.is_running:
            redis.pause()
        elif how == "kill":
            redis.kill()
        elif how == "empty":
            redis.restart(empty=True)
        elif how == "back":
            redis.recover()


def _framing(request: Request) -> list[tuple[str, str]]:
    if not request.body.has_length:
        return [("Transfer-Encoding", "chunked")]
    has_body = request.method in ("PUT", "POST", "PATCH")
    return [("Content-Length", str(len(request.body.content)))] if has_body else []


def _framed(body: Body) -> bytes:
    """What goes over the wire, up to where it breaks off."""
    if body.has_length:
        return body.arrived
    if not body.content:
        return b"0\r\n\r\n"
    chunk = b"%x\r\n" % len(body.content) + body.arrived
    return chunk if body.is_cut else chunk + b"\r\n0\r\n\r\n"


def _waiting(sock: socket.socket) -> tuple[int, int]:
    """Bytes that the server has not read from the connection yet, and the inode of its socket; 0 for none."""
    ours, theirs = sock.getsockname()[1], sock.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        local, remote = (int(each.rpartition(":")[2], 16) for each in fields[1:3])
        if (local, remote) == (theirs, ours):
            return int(fields[4].rpartition(":")[2], 16), int(fields[9])
    return 0, 0
