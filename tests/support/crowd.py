"""Clients that upload at once, each in a thread, until a test has seen enough."""

import threading
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

Client = Callable[[int, Callable[[], bool]], None]
"""Takes its number, and what tells it that it is time to stop."""


@contextmanager
def running(client: Client, count: int, told: Sized, after: int) -> Iterator[None]:
    """A ``with`` block in which so many clients run.

    Args:
        told: what all of them have been told so far.
        after: how much of it is enough for one that is alone: what it is told is the same in each run, then.
    """
    ended = threading.Event()

    def is_over() -> bool:
        return ended.is_set() or (count == 1 and len(told) >= after)

    threads = [threading.Thread(target=client, args=(number, is_over)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
