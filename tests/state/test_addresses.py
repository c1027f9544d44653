"""What people write in RedisAddr and FallbackDBHost."""

import pytest

from hmacfs.state.addresses import RedisAddress, ServerAddress, parse_redis, parse_server

SERVERS = {
    "db.example.org": ServerAddress("db.example.org", 5432),
    "db.example.org:6432": ServerAddress("db.example.org", 6432),
    "192.0.2.1": ServerAddress("192.0.2.1", 5432),
    " 192.0.2.1:1 ": ServerAddress("192.0.2.1", 1),
    "[2001:db8::1]:6432": ServerAddress("2001:db8::1", 6432),
    "[2001:db8::1]": ServerAddress("2001:db8::1", 5432),
    "2001:db8::1": ServerAddress("2001:db8::1", 5432),
    "/run/postgresql/.s.PGSQL.5432": ServerAddress(path="/run/postgresql/.s.PGSQL.5432"),
    ":6432": ServerAddress("127.0.0.1", 6432),
    "": ServerAddress("127.0.0.1", 5432),
}


@pytest.mark.parametrize("text", SERVERS)
def test_a_database_host_is_understood(text: str) -> None:
    assert parse_server(text, 5432) == SERVERS[text]


@pytest.mark.parametrize(
    "text", ["h:0", "h:65536", "h:port", "h:-1", "[::1", "[::1]x", "[]:1", "postgres://u:secret@h", "u:secret@h", "a b"]
)
def test_a_host_that_is_none_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="host:port") as caught:
        parse_server(text, 5432)

    assert "secret" not in str(caught.value)


REDIS = {
    "localhost:6379": RedisAddress(ServerAddress("localhost", 6379)),
    ":6380": RedisAddress(ServerAddress("127.0.0.1", 6380)),
    "cache": RedisAddress(ServerAddress("cache", 6379)),
    "[::1]:6380": RedisAddress(ServerAddress("::1", 6380)),
    "/run/redis.sock": RedisAddress(ServerAddress(path="/run/redis.sock")),
    "redis://cache": RedisAddress(ServerAddress("cache", 6379)),
    "redis://:pa%3Ass@cache:6380/3": RedisAddress(ServerAddress("cache", 6380), password="pa:ss", database=3),
    "rediss://me:word@[::1]/": RedisAddress(ServerAddress("::1", 6379), True, "me", "word"),
    "unix:///run/redis/redis.sock?db=2": RedisAddress(ServerAddress(path="/run/redis/redis.sock"), database=2),
    "unix://:word@/run/redis.sock": RedisAddress(ServerAddress(path="/run/redis.sock"), password="word"),
}


@pytest.mark.parametrize("text", REDIS)
def test_a_redis_address_is_understood(text: str) -> None:
    assert parse_redis(text) == REDIS[text]


@pytest.mark.parametrize("text", ["http://secret", "redis://h:secret", "redis://h/secret", "unix://", "unix:///s?db=x"])
def test_an_address_that_is_none_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="redis://") as caught:
        parse_redis(text)

    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    assert "word" not in repr(parse_redis("redis://me:word@cache"))
