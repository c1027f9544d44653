"""What only Redis has: lifetimes of keys, a memory that may lie after an outage, and one attempt for each command."""

import time

import pytest

from hmacfs.errors import StateUnavailable
from hmacfs.state.addresses import RedisAddress, ServerAddress
from hmacfs.state.base import END_SECONDS, ended
from hmacfs.state.redis import PREFIX, RedisTier
from tests.state.tiers import NOW, STARTED_MS, file_row, redis_tier, session_end, session_key, session_row
from tests.support.redis import RedisServer


def test_every_key_has_our_prefix_and_a_lifetime(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    tier.ping()
    tier.record_files([file_row("a"), file_row("b")])
    tier.fill_file(file_row("c"))
    tier.forget_files(["b", "unknown"])
    tier.save_sessions([session_row(1), session_row(2, NOW + 10**9)])
    tier.save_sessions([session_end(2)])
    tier.list_sessions(NOW, 10)
    tier.lease("sweep", "here", 60, NOW)

    with redis_server.client() as client:
        lives = {key: client.ttl(key) for key in client.keys("*")}

    assert len(lives) == 10
    assert all(key.startswith(PREFIX) for key in lives)
    assert all(0 < life <= 90 * 86400 for life in lives.values()), lives
    tier.close()


def test_nothing_looks_over_all_keys(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    with redis_server.client() as client:
        client.config_resetstat()

        tier.ping()
        tier.record_files([file_row("a")])
        tier.cached_file("a")
        tier.forget_files(["a"])
        tier.save_sessions([session_row(1)])
        tier.list_sessions(NOW, 10)
        tier.save_sessions([session_end(1)])

        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert used.isdisjoint({"keys", "scan", "sscan", "hscan", "zscan", "flushdb", "flushall"})
    tier.close()


def test_the_list_of_sessions_is_bounded(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hmacfs.state.redis._MOST_SESSIONS", 3)
    tier = redis_tier(redis_server)

    tier.save_sessions([session_row(number, NOW + 100 + number) for number in range(5)])

    assert [row.key for row in tier.list_sessions(NOW, 10)] == [session_key(number) for number in (2, 3, 4)]
    tier.close()


def test_the_end_of_an_upload_is_remembered_for_ten_minutes_and_not_in_the_list(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    tier.save_sessions([session_row(1), session_row(2)])

    tier.save_sessions([ended(session_key(1), STARTED_MS, time.time())])

    with redis_server.client() as client:
        assert 0 < client.ttl(f"{PREFIX}session:{session_key(1)}") <= END_SECONDS == 600
        assert client.zrange(f"{PREFIX}sessions", 0, -1) == [session_key(2)]
    tier.close()


def test_what_was_remembered_before_an_outage_is_distrusted(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    tier.record_files([file_row("a", 1)])

    tier.distrust()

    assert tier.cached_file("a") == (False, None)
    tier.fill_file(file_row("a", 2))
    assert tier.cached_file("a") == (True, file_row("a", 2))
    tier.close()


def test_an_older_row_that_was_remembered_before_an_outage_and_one_after_it_is_no_order(
    redis_server: RedisServer,
) -> None:
    tier = redis_tier(redis_server)
    tier.record_files([file_row("a", 1, stored_us=2)])
    tier.distrust()

    tier.record_files([file_row("a", 2, stored_us=1)])

    assert tier.cached_file("a") == (True, file_row("a", 2, stored_us=1))
    tier.close()


def test_another_redis_process_is_distrusted_at_the_first_ping(redis_server: RedisServer) -> None:
    tier, other = redis_tier(redis_server), redis_tier(redis_server)
    tier.ping()
    other.ping()
    tier.record_files([file_row("a")])
    tier.ping()
    still_known = tier.cached_file("a")[0]

    redis_tier(redis_server).ping()

    assert still_known
    assert tier.cached_file("a") == (False, None)
    tier.close()
    other.close()


def test_a_forgotten_file_is_known_to_be_gone(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    tier.record_files([file_row("a")])

    tier.forget_files(["a"])

    assert tier.cached_file("a") == (True, None)
    assert tier.cached_file("unknown") == (False, None)
    tier.close()


def test_a_dead_redis_is_asked_once(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    tier.ping()
    redis_server.pause()

    begun = time.monotonic()
    with pytest.raises(StateUnavailable) as caught:
        tier.save_sessions([session_row(1)])
    took = time.monotonic() - begun

    assert caught.value.detail == "no answer in time"
    assert took < 1.5
    tier.close()


def test_a_password_in_an_error_is_not_told(redis_server: RedisServer) -> None:
    tier = RedisTier(RedisAddress(ServerAddress("127.0.0.1", redis_server.port)), "s3cret-wrong")

    with pytest.raises(StateUnavailable) as caught:
        tier.ping()

    assert "s3cret" not in f"{caught.value.detail} {caught.value.__cause__!r}"
    tier.close()


def test_a_redis_that_only_reads_is_of_no_use(redis_server: RedisServer) -> None:
    tier = redis_tier(redis_server)
    with redis_server.client() as client:
        client.replicaof("127.0.0.1", 1)

        with pytest.raises(StateUnavailable) as caught:
            tier.ping()

        client.replicaof("NO", "ONE")
    assert "Read" in caught.value.detail or "READONLY" in caught.value.detail
    tier.close()
