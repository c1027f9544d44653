"""Requests of one address in Redis and in memory: how many may come, and when again."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import redis

from hmacfs.errors import StateUnavailable
from hmacfs.state.rates import Rates
from tests.state.tiers import redis_tier
from tests.support.redis import RedisServer

T = TypeVar("T")


def test_so_many_may_come_and_the_next_is_told_when() -> None:
    rates = Rates("3/hour", None)

    waits = [rates.wait("a") for _ in range(5)]

    assert waits[:3] == [0, 0, 0]
    assert all(0 < wait <= 3600 for wait in waits[3:])
    assert rates.wait("b") == 0


@pytest.mark.parametrize(("workers", "allowed"), [(1, 8), (2, 4), (8, 1), (100, 1)])
def test_in_memory_each_worker_allows_its_part(workers: int, allowed: int) -> None:
    rates = Rates("8/day", None, workers)

    assert [rates.wait("a") == 0 for _ in range(10)].count(True) == allowed


def test_in_redis_all_workers_count_together(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    one, two = Rates("4/hour", tier.run, 2), Rates("4/hour", tier.run, 2)

    waits = [rates.wait("2001:db8::/64") for rates in (one, two) * 4]

    assert [wait == 0 for wait in waits] == [True] * 4 + [False] * 4
    assert all(0 < wait <= 3600 for wait in waits[4:])
    with redis_server.client() as client:
        names = list(client.scan_iter("hmacfs:*rate*"))
        assert names
        assert all(client.ttl(name) > 0 for name in names)
    tier.close()


def test_without_redis_memory_decides() -> None:
    asked = []

    def dead(work: Callable[[redis.Redis], T]) -> T:
        asked.append(work)
        raise StateUnavailable("gone")

    rates = Rates("4/hour", dead, 2)

    assert [rates.wait("a") == 0 for _ in range(4)] == [True, True, False, False]
    assert len(asked) == 4
