"""Waiting for a condition instead of for time to pass."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which a condition counts as never to come; generous, since only failures wait that long."""


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true value of ``condition``; AssertionError naming ``what`` when it does not come in time."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain: {what}"
        time.sleep(0.01)
    return value
