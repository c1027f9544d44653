"""The state machine against a real server with two workers and a Redis."""

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.machine.machine import SlotMachine
from tests.machine.site import Site
from tests.support.redis import RedisServer
from tests.support.server import Server

_EXAMPLES = count()


class LiveMachine(SlotMachine):
    """A subclass gives the servers, which serve all examples, one after the other."""

    server: Server
    redis: RedisServer
    orders = (True,)

    def driver_for(self, *, in_any_order: bool) -> Site:
        folder = f"example-{next(_EXAMPLES)}"
        self.paths = (f"{folder}/file.bin", f"{folder}/place/file.bin")
        self.own_tokens = tuple(f"token-{number}-of-{folder}" for number in range(3))
        self.site = Site(self.server, self.redis, folder)
        return self.site

    @rule()
    def kill_worker(self) -> None:
        self.site.kill_worker()

    @rule(how=st.sampled_from(("stop", "kill", "empty", "back")))
    def strike_redis(self, how: str) -> None:
        self.site.strike_redis(how)

    def teardown(self) -> None:
        self.redis.recover()
