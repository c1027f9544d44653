"""Any sequence of requests while workers and the Redis die: the model and a real server agree on all of it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.live import LiveMachine
from tests.machine.machine import MOST_GAPS
from tests.machine.model import MOST_SESSIONS, TTL
from tests.support.redis import PASSWORD, RedisServer
from tests.support.server import Server

EXAMPLES, STEPS = 10, 20


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        assert isinstance(server, RedisServer)
        yield server


@pytest.fixture(scope="module")
def server(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("machine"),
        NumCores=2,
        RedisAddr=f"127.0.0.1:{redis.port}",
        RedisPassword=PASSWORD,
        SessionTTL=TTL,
        MaxSessionsPerSlot=MOST_SESSIONS,
        ChunkSize=4096,
        BufferSize=4096,
        MinFreeSpace=0,
        constants={"hmacfs.core.upload:MAX_GAPS": MOST_GAPS},
    ) as running:
        yield running


def test_whatever_is_sent_and_whoever_dies_the_model_is_right(server: Server, redis: RedisServer) -> None:
    class Machine(LiveMachine):
        pass

    Machine.server, Machine.redis = server, redis
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
