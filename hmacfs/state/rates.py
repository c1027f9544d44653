"""RequestRateLimit: requests of one address, counted by the ``limits`` library in a sliding window.

In Redis while it lives, for all workers and servers together; its breaker is that of shared state, so a dead Redis
costs one time limit and then nothing. Otherwise in this process's memory, where each worker allows its part of the
limit.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import redis
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from hmacfs.errors import StateUnavailable

T = TypeVar("T")

_PREFIX = "hmacfs:1:rate"
_MOST_KEYS = 100_000
"""In memory. Over it all counts begin anew: nobody is refused for want of memory."""


class OverRedis(Protocol):
    def __call__(self, work: Callable[[redis.Redis], T], /) -> T:
        """``work`` with a client for Redis. Raises StateUnavailable, at once while Redis is known to be dead."""


class Rates:
    """How often an address may come.

    Args:
        rate: like "120/minute".
        over_redis: None where there is no Redis.
        workers: processes among which the limit is divided while each counts alone.
    """

    def __init__(self, rate: str, over_redis: OverRedis | None, workers: int = 1) -> None:
        self._whole = parse(rate)
        self._part = type(self._whole)(max(1, self._whole.amount // workers), self._whole.multiples)
        self._over_redis = over_redis
        self._storage = MemoryStorage()
        self._here = SlidingWindowCounterRateLimiter(self._storage)
        self._there: SlidingWindowCounterRateLimiter | None = None

    def wait(self, client: str) -> int:
        """Count one request. Answers the seconds after which ``client``, an address, may come again; 0 for now."""
        if self._over_redis is not None:
            try:
                return self._over_redis(lambda connection: _judged(self._limiter(connection), self._whole, client))
            except StateUnavailable:
                pass  # memory decides
        if len(self._storage.storage) > _MOST_KEYS:
            self._storage.reset()
        return _judged(self._here, self._part, client)

    def _limiter(self, connection: redis.Redis) -> SlidingWindowCounterRateLimiter:
        if self._there is None:
            storage = RedisStorage("redis://", connection_pool=connection.connection_pool, key_prefix=_PREFIX)
            self._there = SlidingWindowCounterRateLimiter(storage)
        return self._there


def _judged(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, client: str) -> int:
    if limiter.hit(item, client):
        return 0
    left = limiter.get_window_stats(item, client).reset_time - time.time()
    return max(1, min(item.get_expiry(), math.ceil(left)))
