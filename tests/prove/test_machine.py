"""The state machine of the slots for much longer than a test may take."""

from pathlib import Path

from tests.machine.running import HouseMachine, live_machine, run, started_redis


def test_thousands_of_sequences_in_this_process_agree_with_the_model() -> None:
    run(HouseMachine, examples=2400, steps=50, explores=True)


def test_hundreds_of_sequences_against_a_server_that_dies_agree_with_the_model(tmp_path: Path) -> None:
    with started_redis() as redis, live_machine(tmp_path, redis) as machine:
        run(machine, examples=200, steps=40, explores=True)
