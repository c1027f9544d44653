"""Any sequence of requests, cuts, kills and restarts, in this process: the model and the server agree on all of it."""

from tests.machine.running import HouseMachine, run


def test_whatever_is_sent_in_whatever_order_the_model_is_right() -> None:
    run(HouseMachine, examples=40, steps=40)
