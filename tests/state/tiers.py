"""Every tier on its real server, and rows for them."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hmacfs.state import engines
from hmacfs.state.addresses import RedisAddress, ServerAddress
from hmacfs.state.base import FileRow, SessionRow, Tier, ended
from hmacfs.state.memory import MemoryTier
from hmacfs.state.redis import RedisTier
from hmacfs.state.sql import SqlTier
from tests.support import mariadb as maria
from tests.support import postgres as pg
from tests.support import redis as red
from tests.support.mariadb import MariadbServer
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer

NOW = int(time.time()) + 3600
"""Redis compares expiry with its own clock, so rows of tests live in the present; but an hour ahead of it, since other
tests may run for long before the first one of these."""

STARTED_MS = NOW * 1000
STORED_US = NOW * 1_000_000

NAMES = ["memory", "embedded", "redis", "postgres", "mysql"]


def file_row(path: str, size: int = 1, **more: object) -> FileRow:
    values = {"content_type": "image/png", "digest": "ab" * 32, "uploader": "", "stored_us": STORED_US, "expires_at": 0}
    return FileRow(path, size, **(values | more))  # type: ignore[arg-type]


def session_key(number: int) -> str:
    return f"{number:064x}"


def session_row(
    number: int, expires_at: int = NOW + 1000, offset: int = 0, path: str = "a/b.bin", later: int = 0
) -> SessionRow:
    """Args: later: milliseconds, for another upload under the same key."""
    started_ms = STARTED_MS + later
    return SessionRow(session_key(number), path, 1 << 40, offset, "video/mp4", "tus", started_ms, expires_at)


def session_end(number: int, later: int = 0) -> SessionRow:
    return ended(session_key(number), STARTED_MS + later, NOW)


def redis_tier(server: RedisServer) -> RedisTier:
    return RedisTier(RedisAddress(ServerAddress("127.0.0.1", server.port)), red.PASSWORD)


def postgres_tier(server: PostgresServer) -> SqlTier:
    address = ServerAddress("127.0.0.1", server.port)
    return SqlTier("postgres", partial(engines.postgres, address, pg.USER, pg.PASSWORD, pg.DATABASE))


def mariadb_tier(server: MariadbServer) -> SqlTier:
    address = ServerAddress("127.0.0.1", server.port)
    return SqlTier("mysql", partial(engines.mysql, address, maria.USER, maria.PASSWORD, maria.DATABASE))


def embedded_tier(folder: Path) -> SqlTier:
    return SqlTier("embedded", partial(engines.embedded, str(folder / "state.db")))


def tier_maker(name: str, request: pytest.FixtureRequest) -> Callable[[], Tier]:
    """Makes tiers that share what they keep, as several processes do; starts the server where there is one."""
    match name:
        case "memory":
            tier = MemoryTier()
            return lambda: tier
        case "embedded":
            return partial(embedded_tier, request.getfixturevalue("tmp_path"))
        case "redis":
            return partial(redis_tier, request.getfixturevalue("redis_server"))
        case "postgres":
            return partial(postgres_tier, request.getfixturevalue("postgres"))
    return partial(mariadb_tier, request.getfixturevalue("mariadb"))
