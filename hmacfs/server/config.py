"""Settings to gunicorn settings and hooks; ``gunicorn.conf.py`` and ``hmacfs serve`` both use it.

Imported by the master before any worker patches the process for gevent, so it imports next to nothing.
"""

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hmacfs.server.cpus import usable_cpus
from hmacfs.server.reopening import ReopeningLogger
from hmacfs.server.turnover import TurningArbiter
from hmacfs.server.worker import WorkerLimits, raise_descriptor_limit, worker_class
from hmacfs.settings import Settings, operations_on_main

Hook = Callable[[Any], None]

KEEPALIVE_SECONDS = 75
"""Longer than nginx keeps an idle connection to us (60 s by default), so that it is never we who close a connection
that nginx is about to use."""


def worker_count(settings: Settings) -> int:
    """NumCores, or one worker for each processor that we may use."""
    return settings.num_cores or usable_cpus()


def gunicorn_settings(
    settings: Settings,
    bind: Sequence[str],
    board: Any,
    *,
    may_reload: Callable[[], bool | None],
    when_ready: Hook,
    on_exit: Hook,
    operations: Iterable[int] = (),
) -> dict[str, Any]:
    """gunicorn's settings for ours.

    Args:
        bind: ``fd://N`` of every listening socket.
        board: the scoreboard of all workers: ``claim()`` and ``release(slot)`` are called in the master. It bounds
            how many workers a reload can start, and how many of earlier ones may still be about to end.
        may_reload: called in the master at SIGHUP; False leaves everything as it is, None is asked again soon.
        when_ready: called with the arbiter once it listens.
        on_exit: called with the arbiter at the very end.
        operations: places of the operations listener's sockets in ``bind``.
    """
    return {
        "bind": list(bind),
        "workers": min(worker_count(settings), board.most_workers),
        "worker_class": worker_class(_limits(settings), board, operations),
        "worker_connections": 10000,  # idle connections are cheap; transfers have a limit of their own (MaxWorkers)
        "graceful_timeout": settings.graceful_shutdown_timeout + 5,  # the worker's own drain ends first
        "timeout": 90,  # heartbeat of the event loop only; slow disks make honest stalls
        "keepalive": KEEPALIVE_SECONDS,
        "max_requests": 0,
        "preload_app": False,  # modules imported before gevent's patch keep native locks
        "sendfile": False,  # gevent's is an 8 KiB loop that never yields
        "worker_tmp_dir": "/dev/shm",  # noqa: S108 - a heartbeat on a busy disk can block the loop
        "control_socket_disable": True,
        "http_parser": "python",
        "umask": 0o007,
        "permit_unconventional_http_method": True,  # an odd method is our 405, not a malformed head
        "limit_request_line": 8190,  # signed URLs with long names in percent-encoded UTF-8
        "limit_request_fields": 64,
        "limit_request_field_size": 8190,
        "forwarded_allow_ips": "*",  # nothing depends on it, with the two settings below, and it spares a lookup
        "forwarder_headers": "",  # no header of a client may change SCRIPT_NAME or PATH_INFO
        "secure_scheme_headers": {},  # the scheme is of no interest to us
        "errorlog": None,  # telemetry.logs gives the logger its handler
        "logger_class": ReopeningLogger,
        "accesslog": None,  # its request line shows query strings
        "loglevel": "debug" if settings.log_level == "debug" else "warning",
        "on_starting": _on_starting(may_reload, board),
        "when_ready": when_ready,
        "pre_fork": lambda _arbiter, worker: setattr(worker, "slot", board.claim()),
        "post_fork": _post_fork,
        "child_exit": lambda _arbiter, worker: board.release(worker.slot),
        "on_exit": on_exit,
    }


def _limits(settings: Settings) -> WorkerLimits:
    return WorkerLimits(
        head_timeout=settings.head_timeout,
        keepalive=KEEPALIVE_SECONDS,
        write_timeout=settings.write_timeout,
        drain=settings.graceful_shutdown_timeout,
        least_read=settings.buffer_size,
        memory=settings.max_memory_mb * 1024 * 1024,
        error_headers=(
            ("Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X-Error-Code")
            if settings.cors_origins == ("*",)
            else ("Vary: Origin",)
        ),
        operations_on_main=operations_on_main(settings),
    )


def _on_starting(may_reload: Callable[[], bool | None], board: Any) -> Hook:
    def hook(arbiter: Any) -> None:
        raise_descriptor_limit()
        TurningArbiter.become(arbiter, board.most_workers, may_reload)  # the board has places for twice as many
        stop = arbiter.handle_term

        def told_stop() -> None:
            board.note_stopping()  # the workers cannot tell it from a reload by their signal
            stop()

        # Ctrl-C drains, as SIGTERM does. While it waits for the workers the arbiter itself takes a second one as "at
        # once".
        arbiter.handle_term = arbiter.handle_int = told_stop

    return hook


def _post_fork(arbiter: Any, worker: Any) -> None:
    # Until the worker sets its own handlers it has the arbiter's, which put signals into a queue that nobody reads
    # here: a SIGTERM or SIGQUIT during a worker's start would be lost, and the stop take the whole
    # GracefulShutdownTimeout; a lost SIGUSR1 would leave it writing to a renamed log. Workers follow the master only,
    # and a terminal sends SIGINT to the whole group.
    early = {
        signal.SIGTERM: worker.handle_exit,
        signal.SIGQUIT: lambda _number, _frame: os._exit(0),  # nothing has begun that could be ended in order
        signal.SIGUSR1: lambda _number, _frame: worker.log.reopen_files(),
    }
    for number, handler in early.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while not arbiter.SIG_QUEUE.empty():
        number = arbiter.SIG_QUEUE.get()
        if number in early:
            early[number](number, None)
