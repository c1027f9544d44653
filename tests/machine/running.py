"""The two servers that the machine is run against, and how."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from hmacfs.core import upload
from tests.machine.house import House
from tests.machine.machine import MOST_GAPS, SlotMachine
from tests.machine.model import MOST_SESSIONS, TTL
from tests.machine.site import Site
from tests.support.redis import PASSWORD, RedisServer
from tests.support.server import Server

_BLOCK = 4096
"""ChunkSize and BufferSize, the least that there may be: the larger totals are several blocks."""


def run(machine: type[SlotMachine], *, examples: int, steps: int, explores: bool = False) -> None:
    """Raises what the first, shrunk example finds that does not hold.

    Args:
        explores: other examples each time; else the same ones, so that a change breaks what it has broken itself.

    Without hypothesis's last phase, which explains an example by running many more of its kind.
    """
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not explores,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


class HouseMachine(SlotMachine):
    """Against the application in this process. Time passes, sweeps come, and the machine restarts."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._gaps = mock.patch.object(upload, "MAX_GAPS", MOST_GAPS)
        self._gaps.start()

    def driver_for(self, *, in_any_order: bool) -> House:
        self.house = House(
            Path(self._folder.name),
            chunking_enabled=in_any_order,
            chunk_size=_BLOCK,
            buffer_size=_BLOCK,
            session_ttl=TTL,
            max_sessions_per_slot=MOST_SESSIONS,
        )
        return self.house

    @rule(how=st.sampled_from(("sweep", "restart", "power cut")))
    def restart(self, how: str) -> None:
        if how == "sweep":
            self.house.sweep()
            return
        self.house.restart(power_cut=how == "power cut")
        if how == "power cut":
            for each in self.model.uploads:
                each.content.doubt()

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.close()
        self._gaps.stop()
        self._folder.cleanup()


class LiveMachine(SlotMachine):
    """Against a real server. A subclass gives it; it serves all examples, one after the other.

    Workers die while a body comes and between two requests, and the Redis dies, hangs and forgets.
    """

    server: Server
    redis: RedisServer
    orders = (True,)
    number: Iterator[int] = count()

    def driver_for(self, *, in_any_order: bool) -> Site:
        self.root = f"example-{next(self.number)}"
        self.own_tokens = tuple(f"token-{number}-of-{self.root}" for number in range(3))
        self.site = Site(self.server, self.redis, self.root)
        return self.site

    @rule(how=st.sampled_from(("worker", "stop", "kill", "empty", "back")))
    def strike(self, how: str) -> None:
        if how == "worker":
            self.site.kill_worker()
        else:
            self.site.strike_redis(how)

    def teardown(self) -> None:
        self.redis.recover()


@contextmanager
def live_machine(folder: Path, redis: RedisServer) -> Iterator[type[LiveMachine]]:
    """The machine for a server in ``folder``, which runs as long as the block."""
    with Server(
        folder,
        NumCores=2,
        RedisAddr=f"127.0.0.1:{redis.port}",
        RedisPassword=PASSWORD,
        SessionTTL=TTL,
        MaxSessionsPerSlot=MOST_SESSIONS,
        ChunkSize=_BLOCK,
        BufferSize=_BLOCK,
        MinFreeSpace=0,
        constants={"hmacfs.core.upload:MAX_GAPS": MOST_GAPS},
    ) as running:
        yield type("Machine", (LiveMachine,), {"server": running, "redis": redis, "number": count()})


@contextmanager
def started_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        assert isinstance(server, RedisServer)
        yield server
