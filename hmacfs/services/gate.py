"""So many transfers at once; places are handed on in the order in which they were asked for."""

import threading
from collections import deque

from hmacfs.errors import ServerBusy

WAIT_SECONDS = 5.0
"""How long a transfer over the limit waits for a place."""


class Gate:
    """Lets a number of transfers through at once; one more waits for a while.

    Args:
        places: how many.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[threading.Event] = deque()

    def enter(self) -> None:
        """Take a place. Raises ServerBusy when none was free for 5 seconds."""
        if self._free > 0:
            self._free -= 1
            return
        turn = threading.Event()
        self._waiting.append(turn)
        try:
            turn.wait(WAIT_SECONDS)
        except BaseException:
            if not self._gives_up(turn):
                self.leave()  # the place was handed over at the same moment
            raise
        if self._gives_up(turn):
            raise ServerBusy("over MaxWorkers")

    def _gives_up(self, turn: threading.Event) -> bool:
        """Stop waiting; False when the place has been handed over meanwhile, whatever the wait itself said."""
        try:
            self._waiting.remove(turn)
        except ValueError:
            return False
        return True

    def leave(self) -> None:
        """Give a place back, to the one who has waited longest."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._free += 1
