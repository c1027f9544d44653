"""Any sequence of requests while workers and the Redis die: the model and a real server agree on all of it."""

from pathlib import Path

from tests.machine.running import live_machine, run, started_redis


def test_whatever_is_sent_and_whoever_dies_the_model_is_right(tmp_path: Path) -> None:
    with started_redis() as redis, live_machine(tmp_path, redis) as machine:
        run(machine, examples=10, steps=20)
