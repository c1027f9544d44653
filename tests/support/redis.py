"""A real Redis."""

import redis

from tests.support.servers import StateServer, as_nobody, program

PASSWORD = "redis-for-tests"


class RedisServer(StateServer):
    title = "redis"

    def command(self) -> list[str]:
        # Snapshots only at an orderly end, which tests do not give it: a restart is one without data
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data), "--save", ""]
        return as_nobody([program("redis-server"), *options, "--requirepass", PASSWORD])

    def client(self) -> redis.Redis:
        """A connection of the test's own."""
        return redis.Redis("127.0.0.1", self.port, password=PASSWORD, socket_timeout=5, decode_responses=True)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def make_clean(self) -> None:
        with self.client() as client:
            client.flushall()
