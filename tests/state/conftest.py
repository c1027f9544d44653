"""Real servers for the tiers: started once, clean and well for each test."""

from collections.abc import Iterator

import pytest

from tests.support.mariadb import MariadbServer
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer


@pytest.fixture(scope="session")
def started_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def started_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def started_mariadb() -> Iterator[MariadbServer]:
    with MariadbServer() as server:
        yield server


@pytest.fixture
def redis_server(started_redis: RedisServer) -> RedisServer:
    started_redis.recover()
    return started_redis


@pytest.fixture
def postgres(started_postgres: PostgresServer) -> PostgresServer:
    started_postgres.recover()
    return started_postgres


@pytest.fixture
def mariadb(started_mariadb: MariadbServer) -> MariadbServer:
    started_mariadb.recover()
    return started_mariadb
