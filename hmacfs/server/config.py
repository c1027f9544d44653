"""Settings to gunicorn settings and hooks; ``gunicorn.conf.py`` and ``hmacfs serve`` both use it.

Imported by the master before any worker patches the process for gevent, so it imports next to nothing.
"""

import signal
from collections.abc import Callable, Sequence
from typing import Any

from hmacfs.server.cpus import usable_cpus
from hmacfs.settings import Settings

Hook = Callable[[Any], None]


def gunicorn_settings(settings: Settings, bind: Sequence[str], *, when_ready: Hook, on_exit: Hook) -> dict[str, Any]:
    """gunicorn's settings for ours.

    Args:
        bind: ``fd://N`` of every listening socket.
        when_ready: called with the arbiter once it listens.
        on_exit: called with the arbiter at the very end.
    """
    return {
        "bind": list(bind),
        "workers": settings.num_cores or usable_cpus(),
        "worker_class": "gevent",
        "worker_connections": 1000,
        "graceful_timeout": settings.graceful_shutdown_timeout,
        "timeout": 90,  # heartbeat of the event loop only; slow disks make honest stalls
        "keepalive": 10,  # also the time to receive a head
        "max_requests": 0,
        "preload_app": False,  # modules imported before gevent's patch keep native locks
        "sendfile": False,  # gevent's is an 8 KiB loop that never yields
        "worker_tmp_dir": "/dev/shm",  # noqa: S108 - a heartbeat on a busy disk can block the loop
        "control_socket_disable": True,
        "http_parser": "python",
        "umask": 0o007,
        "limit_request_line": 8190,  # signed URLs with long names in percent-encoded UTF-8
        "limit_request_fields": 64,
        "limit_request_field_size": 8190,
        "forwarder_headers": "",  # no header of a client may change SCRIPT_NAME or PATH_INFO
        "secure_scheme_headers": {},  # the scheme is of no interest to us
        "errorlog": None,  # telemetry.logs gives the logger its handler
        "accesslog": None,  # its request line shows query strings
        "loglevel": "debug" if settings.log_level == "debug" else "warning",
        "on_starting": _on_starting,
        "when_ready": when_ready,
        "post_fork": _post_fork,
        "post_worker_init": _post_worker_init,
        "on_exit": on_exit,
    }


def _on_starting(arbiter: Any) -> None:
    # Ctrl-C drains, as SIGTERM does. While it waits for the workers the arbiter itself takes a second one as "at once".
    arbiter.handle_int = arbiter.handle_term


def _post_fork(arbiter: Any, worker: Any) -> None:
    # Until the worker sets its own handlers it has the arbiter's, which put signals into a queue that nobody reads
    # here: a SIGTERM during a worker's start would be lost, and the stop take the whole GracefulShutdownTimeout.
    signal.signal(signal.SIGTERM, worker.handle_exit)
    while not arbiter.SIG_QUEUE.empty():
        if arbiter.SIG_QUEUE.get() == signal.SIGTERM:
            worker.alive = False


def _post_worker_init(worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    # A terminal signals the whole process group: workers follow the master only.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
