"""How long a tier may take, and how a wait is cut short under gevent and without it."""

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VERB_SECONDS = 0.9
"""For one verb on a server, connecting included: a hung one counts as dead within a second."""


class TimeLimit(Exception):
    """The time for a verb is over."""


def on_gevent() -> bool:
    """Whether this process's sockets are gevent's, so that waiting for one lets others run."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Under gevent TimeLimit interrupts the block after ``seconds``, name resolution included; elsewhere every wait
    has a limit of its own and this does nothing."""
    if not on_gevent():
        yield
        return
    import gevent

    timeout = gevent.Timeout.start_new(seconds)
    try:
        yield
    except gevent.Timeout as struck:
        if struck is not timeout:
            raise
        raise TimeLimit from None
    finally:
        timeout.close()


def wait_readable(descriptor: int, seconds: float) -> None:
    """Raises TimeLimit when there is nothing to read for ``seconds``."""
    _wait(descriptor, select.POLLIN, seconds)


def wait_writable(descriptor: int, seconds: float) -> None:
    """Raises TimeLimit when nothing can be written for ``seconds``."""
    _wait(descriptor, select.POLLOUT, seconds)


def _wait(descriptor: int, event: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(seconds * 1000):
        raise TimeLimit
