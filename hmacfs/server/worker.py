"""A gevent worker made for transfers.

What differs from gunicorn's own: bodies are read into reused buffers and files sent by sendfile, 100 Continue waits for
the application, a refused body is discarded without freezing the worker or resetting the client, heads and idle
connections have deadlines of their own, and the end of the process is ours: running transfers finish, and at the limit
they are ended in order, with every ``finally``, before the master would kill us.
"""

import os
import resource
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
from gevent import monkey
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers.ggevent import GeventWorker

from hmacfs.offload import make_pool
from hmacfs.server import operations
from hmacfs.server.connection import Connection, PlainConfig
from hmacfs.server.memorylimit import MemoryLimit

SEND_THREADS = 8
_TICK_SECONDS = 0.25
_FRESH_SECONDS = 0.25
"""A connection that was accepted just before a stop may send its first request for so long: nobody repeats that one."""
_LAST_WORDS_SECONDS = 3.0
"""Between cutting off the last transfers and leaving: time for their ``finally`` and their last line of log."""

TOUCHED = {
    "gunicorn.workers.ggevent:GeventWorker": ("handle_exit", "init_process", "init_signals", "notify", "patch", "run"),
    "gunicorn.workers.base:Worker": ("alive", "cfg", "load_wsgi", "log", "pid", "sockets"),
    "gunicorn.http": ("get_parser",),
    "gunicorn.http.errors:InvalidHeader": ("hdr", "req"),
    "gunicorn.http.message:Message": ("_expected_100_continue", "body", "headers", "should_close", "version"),
    "gunicorn.http.message:Request": ("method", "path", "query", "set_body_reader", "uri"),
    "gunicorn.http.body:LengthReader": ("length",),
    "gunicorn.http.body:Body": ("reader", "failed"),
    "gunicorn.http.body:ChunkedReader": (),
    "gunicorn.http.parser:Parser": ("unreader", "finish_body"),
    "gunicorn.http.unreader:Unreader": ("take_buffered", "unread"),
    "gunicorn.http.unreader:SocketUnreader": ("chunk",),
    "gunicorn.http.wsgi:Response": (
        "default_headers", "force_close", "headers", "headers_sent", "must_close", "response_length", "send_headers",
        "is_chunked", "sent", "should_close", "start_response", "status", "status_code", "write", "_omits_body",
    ),
    "gunicorn.config:Config": ("settings", "is_ssl", "forwarded_allow_networks"),
    "gunicorn.glogging": ("loggers",),
    "gunicorn.glogging:Logger": ("reopen_files",),
    "gunicorn.util": ("http_date", "unquote_to_wsgi_str"),
    "gunicorn.arbiter:Arbiter": (
        "SIG_QUEUE", "WORKERS", "handle_hup", "handle_int", "handle_term", "kill_worker", "kill_workers", "log",
        "manage_workers", "murder_workers", "reap_workers", "reload", "spawn_worker", "stop",
    ),
}  # fmt: skip
"""Every name inside gunicorn that this package leans on; ``tests/server/test_touched.py`` looks for each."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Attributes:
    head_timeout, keepalive, write_timeout, drain: seconds.
    least_read: bytes, BufferSize.
    memory: bytes of all workers, 0 for no limit.
    error_headers: of answers to heads that cannot be understood, which the application never sees.
    operations_on_main: metrics and health are served on the main listener.
    """

    head_timeout: float = 10.0
    keepalive: float = 75.0
    write_timeout: float = 900.0
    drain: float = 30.0
    least_read: int = 65536
    memory: int = 0
    error_headers: tuple[str, ...] = ()
    operations_on_main: bool = False


class TransferWorker(GeventWorker):  # type: ignore[misc]  # gunicorn is not typed
    """Args: as gunicorn's. ``limits``, ``board`` and ``operations`` are set on a subclass by ``worker_class``."""

    limits = WorkerLimits()
    board: Any = None
    operations: frozenset[int] = frozenset()
    slot = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()
        self.lingering = 0
        self.pool: Any = None
        self.plain_cfg: Any = None
        self.memory_limit = MemoryLimit(self.limits.memory, self.board, self.cfg.workers)
        self._born = time.monotonic()
        self._measured = self._born, time.process_time()
        self._statm = -1

    def init_process(self) -> None:
        # Opened once: when descriptors have run out the clock must go on.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        if self.board is not None:
            self.board.bind(self.slot)
        super().init_process()

    def patch(self) -> None:
        super().patch()
        # gevent's own looks whether a watcher may be on the descriptor, which takes two system calls, and closes all
        # but regular files in the loop's next turn only: 5.3 instead of 2.3 µs for each folder on the way of an upload.
        # We watch sockets and the pipes of SecretCommand, and those close themselves.
        os.close = monkey.get_original("os", "close")

    def init_signals(self) -> None:
        super().init_signals()
        # A terminal signals the whole process group: workers follow the master only.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> None:
        self.pool = make_pool(SEND_THREADS)
        self.plain_cfg = PlainConfig(self.cfg)
        servers = [self._listen(sock, place in self.operations) for place, sock in enumerate(self.sockets)]
        while self.alive:
            self._tick()
            for _ in range(4):
                if self.alive:
                    gevent.sleep(_TICK_SECONDS)
        if self.board is not None:
            self.board.note_ending()
        # A server that stops can be asked how far it is until the end. At a reload the new workers are asked.
        stays = self.operations if self.board is not None and self.board.is_stopping() else ()
        for place, server in enumerate(servers):
            if place not in stays:
                server.close()
        self._drain([server.pool for server in servers if server.pool is not None])
        for server in servers:
            server.close()

    def handle(self, listener_name: Any, client: Any, addr: Any, *, for_operations: bool = False) -> None:
        client.setblocking(1)  # gevent's meaning: calls wait, without a limit of their own
        connection = Connection(self, client, addr, listener_name, for_operations=for_operations)
        self.connections.add(connection)
        try:
            connection.serve()
        finally:
            self.connections.discard(connection)

    def _listen(self, sock: Any, for_operations: bool) -> StreamServer:
        sock.setblocking(1)
        # Half of the descriptors are for connections, so that there are some for the files of their transfers.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 // (len(self.sockets) - len(self.operations))
        most = min(self.worker_connections, descriptors)
        if for_operations:
            most = operations.MOST_CONNECTIONS // self.cfg.workers
        handle = partial(self.handle, sock.getsockname(), for_operations=for_operations)
        server = StreamServer(sock, handle=handle, spawn=Pool(max(1, most)))
        if self.cfg.workers > 1:
            server.max_accept = 1  # else one worker takes all connections of a burst
        server.start()
        return server

    def _tick(self) -> None:
        self.notify()
        now = time.monotonic()
        self._cut_late(now)
        # Before the application may tell of all workers: after a reload this one may be the only one.
        if self.board is not None:
            self.board.set_memory(self._resident_bytes())
            self.board.set_load(self._cpu_percent(now), self._greenlets(), self._clients())
        tick = getattr(self.wsgi, "tick", None)
        if tick is not None:
            tick()
        if told := self.memory_limit.to_tell():
            self.log.error(told)
        if self.memory_limit.is_too_large(now - self._born, is_busy=self._is_busy()):
            self.log.warning("Over MaxMemoryMB: this worker (pid %s) is replaced", self.pid)
            self.alive = False

    def _cut_late(self, now: float) -> None:
        for connection in [each for each in self.connections if each.deadline < now]:
            connection.cut()

    def _is_busy(self) -> bool:
        return any(not connection.is_idle for connection in self.connections)

    def _resident_bytes(self) -> int:
        return int(os.pread(self._statm, 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _cpu_percent(self, now: float) -> float:
        """Of one processor, since the last question."""
        used = time.process_time()
        (then, before), self._measured = self._measured, (now, used)
        return 100 * (used - before) / max(now - then, _TICK_SECONDS)

    def _greenlets(self) -> int:
        """Those of connections, and those of threads, which gevent makes greenlets of."""
        threads = sum(not isinstance(each, threading._DummyThread) for each in threading.enumerate())
        return len(self.connections) + threads

    def _clients(self) -> int:
        return sum(not connection.for_operations for connection in self.connections)

    def _drain(self, pools: list[Pool]) -> None:
        """Let what runs finish; at the limit end it in order; leave in time either way."""
        drain = getattr(self.wsgi, "drain", None)
        if drain is not None:
            drain(self.limits.drain)
        deadline = time.monotonic() + self.limits.drain
        patience = time.monotonic() + _FRESH_SECONDS
        gevent.sleep(0)  # what has just been accepted may begin
        while self.connections and time.monotonic() < deadline:
            self._cut_late(time.monotonic())
            is_patient = time.monotonic() < patience
            for connection in [each for each in self.connections if each.is_idle]:
                if not (is_patient and connection.is_fresh):
                    connection.cut()
            self.notify()
            gevent.sleep(_TICK_SECONDS / 5)
        if self.connections:
            self.log.warning("GracefulShutdownTimeout: %s transfers are ended", len(self.connections))
            self._end_connections()
        for pool in pools:
            pool.kill(timeout=1)

    def _end_connections(self) -> None:
        for connection in list(self.connections):
            connection.end()
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while self.connections and time.monotonic() < deadline:
            if time.monotonic() > deadline - _LAST_WORDS_SECONDS / 3:
                for connection in list(self.connections):
                    connection.cut()
            self.notify()
            gevent.sleep(_TICK_SECONDS / 5)


def worker_class(limits: WorkerLimits, board: Any, operations: Iterable[int] = ()) -> type[TransferWorker]:
    """The worker class for one configuration.

    Args:
        board: the scoreboard that all workers share, or None.
        operations: places of the operations listener's sockets among all.
    """
    given = {"limits": limits, "board": board, "operations": frozenset(operations)}
    return type("TransferWorker", (TransferWorker,), given)


def raise_descriptor_limit() -> None:
    """As many descriptors as we may have: every connection is one, every transfer two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
