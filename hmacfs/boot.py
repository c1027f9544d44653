"""Start-up in the master, before any worker exists: settings, log, directories, secret, listening sockets.

What it keeps survives a reload (SIGHUP) and is inherited by the workers, so that all of them run on the same settings,
and a configuration that was broken meanwhile changes nothing.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hmacfs import __version__, configfile, places, rehearsal, retention, secretring
from hmacfs.core.rotation import Ring
from hmacfs.errors import ConfigError
from hmacfs.server import listeners, operations
from hmacfs.server.config import gunicorn_settings, worker_count
from hmacfs.settings import Settings, operations_address
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import storedir
from hmacfs.telemetry import audit, logs
from hmacfs.telemetry.metricsfolder import MetricsFolder, base_folder

Announce = Callable[[Settings, Sequence[str]], None]


@dataclass
class _Kept:
    """What outlives a reload. ``board`` is shared with the workers; ``bind`` and ``bound_to`` tell the open sockets,
    ``operations`` the places of those where metrics and health are asked for."""

    settings: Settings | None = None
    ring: Ring | None = None
    board: Scoreboard | None = None
    bind: list[str] = field(default_factory=list)
    bound_to: list[str] = field(default_factory=list)
    operations: frozenset[int] = frozenset()
    metrics: MetricsFolder | None = None
    attempt: rehearsal.Rehearsal | None = None


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


def current_metrics_folder() -> str:
    """Where the workers of this server count; empty where they do not."""
    return _kept.metrics.path if _kept.metrics is not None else ""


def gunicorn_options(announce: Announce | None = None) -> dict[str, Any]:
    """gunicorn's settings, at start and at every reload.

    Args:
        announce: called once the server listens, with the settings and the addresses it listens on.

    Raises:
        ConfigError: at start only. A reload that fails is logged and keeps everything as it was.
    """
    old = _kept.settings
    settings = _read() if old is None else _read_again(old)
    board = _start(settings) if _kept.board is None else _kept.board
    _kept.settings = settings
    return gunicorn_settings(
        settings,
        _kept.bind,
        board,
        may_reload=_may_reload,
        when_ready=lambda _arbiter: _tell_start(settings, announce),
        on_exit=_on_exit,
        operations=_kept.operations,
    )


def _read() -> Settings:
    """The settings of the file, with all that they need in its place. Raises ConfigError; nothing shows then."""
    loaded = configfile.load()
    settings = configfile.usable(loaded)
    places.check(settings, loaded.path)
    storedir.prepare(settings.store_dir)
    said: list[tuple[int, str]] = []
    # Everything that can fail comes before the first step that shows: a refused reload has changed nothing.
    with (
        logs.opened(settings.log_level, settings.log_file, settings.log_format) as use_log,
        audit.opened(settings.audit_log) as use_audit,
    ):
        ring = secretring.committed(
            settings,
            lambda sentence: said.append((logging.WARNING, sentence)),
            known=_kept.ring,
            tell=lambda sentence: said.append((logging.INFO, sentence)),
        )
        use_log()
        use_audit()
    for level, sentence in said:
        logs.event(level, sentence)
    if _kept.settings is None and (removed := storedir.sweep_leftovers(settings.store_dir)):
        logs.event(logging.INFO, f"Removed {removed} unfinished uploads that a crash left behind")
    for warning in loaded.warnings:
        logs.event(logging.WARNING, warning)
    if os.geteuid() == 0 and _kept.settings is None:
        logs.event(logging.WARNING, "Running as root: better start it as a user of its own")
    _kept.ring = ring
    return settings


def _read_again(old: Settings) -> Settings:
    """The settings of a reload: what the file says now, except for what needs a restart, or all as it was."""
    try:
        settings = _read()
    except ConfigError as error:
        _refuse(error.problems)
        settings = old
    else:
        audit.write("reload", reason="accepted")
    return _with_what_stays(settings, old)


def _refuse(problems: Sequence[str]) -> None:
    for problem in problems:
        logs.event(logging.ERROR, f"Reload refused, the old configuration stays: {problem}")
    audit.write("reload", reason="refused")


def _with_what_stays(settings: Settings, old: Settings) -> Settings:
    """Tell what a reload changes of deletions, and what it cannot change; the settings that it leads to."""
    if settings.listen_port != old.listen_port:
        logs.event(logging.WARNING, "ListenPort changes with a restart only; still listening on the old address")
    settings = _with_old_operations(settings, old)
    if _kept.board is not None and worker_count(settings) > _kept.board.most_workers:
        logs.event(logging.WARNING, f"More than {_kept.board.most_workers} workers (NumCores) need a restart")
    if retention.told(settings) != retention.told(old):
        for sentence in retention.told(settings) or ["Retention: files are not deleted any more"]:
            logs.event(logging.INFO, sentence)
    return settings


def _with_old_operations(settings: Settings, old: Settings) -> Settings:
    if (settings.metrics_enabled, settings.metrics_port) == (old.metrics_enabled, old.metrics_port):
        return settings
    logs.event(logging.WARNING, "MetricsEnabled and MetricsPort change with a restart only; all stays as it was")
    return replace(settings, metrics_enabled=old.metrics_enabled, metrics_port=old.metrics_port)


def _start(settings: Settings) -> Scoreboard:
    """Open what every reload keeps: the sockets, the scoreboard, and the folder that the workers count in."""
    _bind(settings)
    _kept.board = Scoreboard(worker_count(settings) + 4)
    if settings.metrics_enabled:
        _kept.metrics = MetricsFolder(base_folder(os.environ), worker_count(settings))
    return _kept.board


def _tell_start(settings: Settings, announce: Announce | None) -> None:
    logs.event(logging.INFO, f"Starting HMAC File Server - v{__version__}")
    for place, address in enumerate(_kept.bound_to):
        purpose = " for metrics and health" if place in _kept.operations else ""
        logs.event(logging.INFO, f"Listening on {address}{purpose}")
    for sentence in retention.told(settings):
        logs.event(logging.INFO, sentence)
    if announce is not None:
        announce(settings, [each for place, each in enumerate(_kept.bound_to) if place not in _kept.operations])


def _may_reload() -> bool | None:
    """Whether the configuration and the code, as they are now, make an application. None where that is not known yet:
    the master goes on with its work, and asks again."""
    problems = _rehearsed()
    if problems is None:
        return None
    _kept.attempt = None
    if problems:
        _refuse(problems)
    return not problems


def _rehearsed() -> list[str] | None:
    path = os.path.abspath(os.environ.get("HMACFS_CONFIG") or configfile.DEFAULT_PATH)
    try:
        if _kept.attempt is None:
            _kept.attempt = rehearsal.Rehearsal(path)
        return _kept.attempt.problems()
    except OSError as error:
        return [f"{path}: it could not be tried ({error.strerror})."]


def _bind(settings: Settings) -> None:
    if listeners.are_inherited(os.environ, os.getpid()):
        _kept.bind = [str(settings.listen_port)]  # gunicorn takes the inherited sockets instead
        _kept.operations = operations.among_inherited(settings, os.environ)
        _kept.bound_to = [_shown(name) for name in listeners.inherited_names(os.environ)]
        if operations_address(settings) is not None and not _kept.operations:
            logs.event(logging.WARNING, "Of the inherited sockets none is for MetricsPort: no metrics and health")
        return
    main = listeners.bind(settings)
    if any(sock.family == socket.AF_INET for sock in main) and not settings.listen_port.host:
        logs.event(logging.INFO, "This machine has no IPv6: listening on IPv4 alone")
    apart = operations.bind(settings)
    _kept.operations = frozenset(range(len(main), len(main) + len(apart)))
    for sock in (*main, *apart):
        _kept.bound_to.append(_shown(sock.getsockname()))
        _kept.bind.append(f"fd://{sock.detach()}")


def _shown(name: Any) -> str:
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _on_exit(_arbiter: Any) -> None:
    if _kept.attempt is not None:
        _kept.attempt.end()
    if _kept.metrics is not None:
        _kept.metrics.remove()
    logs.event(logging.INFO, "Stopped")
