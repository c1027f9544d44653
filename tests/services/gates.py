"""Waiting at a gate without time, and what may happen meanwhile."""

import threading
from collections.abc import Callable

from hmacfs.errors import ServerBusy
from hmacfs.services.gate import Gate


class ScriptedEvent(threading.Event):
    """Something happens while somebody waits for it; nobody really waits."""

    deeds: list[Callable[[], object]] = []  # noqa: RUF012 - replaced by each test
    waited: list[float | None] = []  # noqa: RUF012

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        if self.deeds:
            self.deeds.pop(0)()
        return self.is_set()


class Killed(BaseException):
    """What ends a greenlet from outside."""


def free_places(gate: Gate) -> int:
    """How many enter without waiting; they leave again."""
    found = 0
    try:
        while True:
            gate.enter()
            found += 1
    except ServerBusy:
        for _ in range(found):
            gate.leave()
    return found
