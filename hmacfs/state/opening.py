"""The tiers that the settings name, put together. Nothing is connected before it is used."""

import os
from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine

from hmacfs.offload import Pool
from hmacfs.state import engines
from hmacfs.state.addresses import parse_redis, parse_server
from hmacfs.state.base import Lower
from hmacfs.state.failover import SharedState
from hmacfs.state.members import Serving
from hmacfs.state.redis import RedisTier
from hmacfs.state.sql import SqlTier

DB_THREADS = 4
"""Threads of the pool for drivers that block."""

_MYSQL_AT_ONCE = DB_THREADS - 1
"""So that a hung MySQL leaves a thread for the embedded file, which stands in for it."""


def embedded_tier(state_dir: str, pool: Pool) -> SqlTier:
    """SQLite in StateDir, which must be on a local disk."""
    return SqlTier("embedded", partial(engines.embedded, os.path.join(state_dir, "state.db")), pool, DB_THREADS)


def server_tier(kind: str, host: str, user: str, password: str, database: str, pool: Pool) -> SqlTier:
    """PostgreSQL or MySQL.

    Args:
        kind: "postgres" or "mysql".
        host: in one of the forms of ``addresses.DATABASE_FORM``; empty for this machine.

    Raises:
        ValueError: ``kind`` or ``host`` is none of those.
    """
    make: Callable[..., Engine]
    if kind == "postgres":
        make = partial(engines.postgres, parse_server(host, 5432), user, password, database)
        return SqlTier("postgres", make)
    if kind == "mysql":
        make = partial(engines.mysql, parse_server(host, 3306), user, password, database)
        return SqlTier("mysql", make, pool, _MYSQL_AT_ONCE)
    raise ValueError("postgres or mysql")


def redis_tier(address: str, password: str, database: int) -> RedisTier:
    """Redis. Raises ValueError when ``address`` has none of the forms of ``addresses.REDIS_FORM``."""
    return RedisTier(parse_redis(address), password, database)


def shared_state(
    state_dir: str,
    pool: Pool,
    *,
    server: Lower | None = None,
    cache: RedisTier | None = None,
    on_change: Callable[[Serving], None] | None = None,
) -> SharedState:
    """All tiers as one. Call it in a worker, and then ``start()``.

    Args:
        pool: from ``make_pool(DB_THREADS)``.
    """
    lock = os.path.join(state_dir, "handover.lock")
    return SharedState(embedded_tier(state_dir, pool), lock, server=server, cache=cache, on_change=on_change)
