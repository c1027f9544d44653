"""Settings to the tiers of shared state; the server, and the commands that look at it, use the same ones."""

import os
from collections.abc import Callable

from hmacfs.offload import make_pool
from hmacfs.settings import Settings
from hmacfs.state import engines
from hmacfs.state.addresses import parse_redis, parse_server
from hmacfs.state.failover import SharedState
from hmacfs.state.members import Serving
from hmacfs.state.redis import RedisTier
from hmacfs.state.sql import SqlTier

EMBEDDED_FILE = "state.db"
"""SQLite's, in StateDir; two more files of its own stand beside it."""

_LOCK_FILE = "state.lock"
_THREADS = 4
_PORTS = {"postgres": 5432, "mysql": 3306}


def shared_state(settings: Settings, on_change: Callable[[Serving], None] | None = None) -> SharedState:
    """The tiers that ``settings`` name, behind one port. Call it in the process that uses them.

    Nothing is connected and no file made before the first use.

    Args:
        on_change: told which tiers serve, at first and whenever it changes.
    """
    folder = settings.state_dir
    threads = make_pool(_THREADS)
    return SharedState(
        SqlTier("embedded", lambda: engines.embedded(os.path.join(folder, EMBEDDED_FILE)), threads),
        os.path.join(folder, _LOCK_FILE),
        server=_server(settings) if settings.fallback_enabled else None,
        cache=_redis(settings) if settings.redis_addr else None,
        on_change=on_change,
    )


def _redis(settings: Settings) -> RedisTier:
    return RedisTier(parse_redis(settings.redis_addr), settings.redis_password, settings.redis_db)


def _server(settings: Settings) -> SqlTier:
    kind = settings.fallback_db_type
    address = parse_server(settings.fallback_db_host, _PORTS[kind])
    user, password, name = settings.fallback_db_user, settings.fallback_db_password, settings.fallback_db_name
    if kind == "mysql":  # its client blocks; threads of its own, so that a hung server keeps nobody from SQLite
        return SqlTier(kind, lambda: engines.mysql(address, user, password, name), make_pool(_THREADS))
    return SqlTier(kind, lambda: engines.postgres(address, user, password, name))


def told(serving: Serving) -> str:
    """One line for the log: which tier serves, and why those above it do not."""
    down = "".join(f"{name} is down ({reason}), " for name, reason in serving.down.items())
    if serving.sessions == serving.catalog == "none":
        return f"State tier: {down}none serves. Files are taken and served without it"
    if serving.sessions == serving.catalog:
        return f"State tier: {down}{serving.sessions} serves"
    return f"State tier: {down}{serving.sessions} serves unfinished uploads, {serving.catalog} the catalogue"
