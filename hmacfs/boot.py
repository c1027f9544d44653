"""Start-up in the master, before any worker exists: settings, log, directories, secret, listening sockets.

What it keeps survives a reload (SIGHUP) and is inherited by the workers, so that all of them run on the same settings,
and a configuration that was broken meanwhile changes nothing.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hmacfs import __version__, configfile, rehearsal, retention, secretring
from hmacfs.core.rotation import Ring
from hmacfs.errors import ConfigError
from hmacfs.server import listeners
from hmacfs.server.config import gunicorn_settings, worker_count
from hmacfs.settings import Settings
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import storedir
from hmacfs.telemetry import logs

Announce = Callable[[Settings, Sequence[str]], None]


@dataclass
class _Kept:
    """What outlives a reload. ``board`` is shared with the workers; ``bind`` and ``bound_to`` tell the open sockets."""

    settings: Settings | None = None
    ring: Ring | None = None
    board: Scoreboard | None = None
    bind: list[str] = field(default_factory=list)
    bound_to: list[str] = field(default_factory=list)


_kept = _Kept()


def current_settings() -> Settings | None:
    """The settings that the master runs on; None where it did not start through this module."""
    return _kept.settings


def current_ring() -> Ring | None:
    """The secrets that the master read last; None where it did not start through this module."""
    return _kept.ring


def current_board() -> Scoreboard | None:
    """The scoreboard of the server that this process is a worker of; None outside of one."""
    return _kept.board


def gunicorn_options(announce: Announce | None = None) -> dict[str, Any]:
    """gunicorn's settings, at start and at every reload.

    Args:
        announce: called once the server listens, with the settings and the addresses it listens on.

    Raises:
        ConfigError: at start only. A reload that fails is logged and keeps everything as it was.
    """
    try:
        settings, _kept.ring = _prepared()
    except ConfigError as error:
        if _kept.settings is None:
            raise
        for problem in error.problems:
            logs.event(logging.ERROR, f"Reload refused, the old configuration stays: {problem}")
        settings = _kept.settings
    if _kept.settings is not None and settings.listen_port != _kept.settings.listen_port:
        logs.event(logging.WARNING, "ListenPort changes with a restart only; still listening on the old address")
    if _kept.board is not None and worker_count(settings) > _kept.board.most_workers:
        logs.event(logging.WARNING, f"More than {_kept.board.most_workers} workers (NumCores) need a restart")
    if _kept.settings is not None and retention.told(settings) != retention.told(_kept.settings):
        for sentence in retention.told(settings) or ["Retention: files are not deleted any more"]:
            logs.event(logging.INFO, sentence)
    if not _kept.bind:
        _bind(settings)
    _kept.settings = settings

    def when_ready(_arbiter: Any) -> None:
        logs.event(logging.INFO, f"Starting HMAC File Server - v{__version__}")
        for address in _kept.bound_to:
            logs.event(logging.INFO, f"Listening on {address}")
        for sentence in retention.told(settings):
            logs.event(logging.INFO, sentence)
        if announce is not None:
            announce(settings, _kept.bound_to)

    if _kept.board is None:
        _kept.board = Scoreboard(worker_count(settings) + 4)
    return gunicorn_settings(
        settings, _kept.bind, _kept.board, may_reload=_may_reload, when_ready=when_ready, on_exit=_on_exit
    )


def _prepared() -> tuple[Settings, Ring]:
    loaded = configfile.load()
    settings = configfile.usable(loaded)
    storedir.prepare(settings.store_dir)
    logs.configure(settings.log_level, settings.log_file)
    ring = secretring.committed(
        settings, partial(logs.event, logging.WARNING), known=_kept.ring, tell=partial(logs.event, logging.INFO)
    )
    if _kept.settings is None and (removed := storedir.sweep_leftovers(settings.store_dir)):
        logs.event(logging.INFO, f"Removed {removed} unfinished uploads that a crash left behind")
    for warning in loaded.warnings:
        logs.event(logging.WARNING, warning)
    if os.geteuid() == 0 and _kept.settings is None:
        logs.event(logging.WARNING, "Running as root: better start it as a user of its own")
    return settings, ring


def _may_reload() -> bool:
    """Whether the configuration and the code, as they are now, make an application."""
    path = os.path.abspath(os.environ.get("HMACFS_CONFIG") or configfile.DEFAULT_PATH)
    problems = rehearsal.problems(path)
    for problem in problems:
        logs.event(logging.ERROR, f"Reload refused, the old configuration stays: {problem}")
    return not problems


def _bind(settings: Settings) -> None:
    if listeners.are_inherited(os.environ, os.getpid()):
        _kept.bind = [str(settings.listen_port)]  # gunicorn takes the inherited sockets instead
        _kept.bound_to = ["inherited sockets"]
        return
    for sock in listeners.bind(settings):
        if sock.family == socket.AF_INET and not settings.listen_port.host:
            logs.event(logging.INFO, "This machine has no IPv6: listening on IPv4 alone")
        name = sock.getsockname()
        _kept.bound_to.append(f"unix:{name}" if isinstance(name, str) else _shown(name))
        _kept.bind.append(f"fd://{sock.detach()}")


def _shown(name: tuple[Any, ...]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _on_exit(_arbiter: Any) -> None:
    logs.event(logging.INFO, "Stopped")
