"""MaxMemoryMB in a worker: who makes room for the others, and what is said where that cannot help.

Whether an upload is taken is judged elsewhere, by the same number: resident bytes of the workers that stay.
"""

import math
from typing import Any

_LEAST_AGE_SECONDS = 30.0
"""A worker over the memory limit is replaced only after this age, or replacing would never end."""
_MIB = 1024 * 1024


class MemoryLimit:
    """
    Args:
        limit: bytes of all workers; 0 for none.
        board: the scoreboard that all workers share, or None outside of a server.
        workers: how many there are when all are there.
    """

    def __init__(self, limit: int, board: Any, workers: int) -> None:
        self._limit = limit
        self._board = board
        self._workers = workers

    def to_tell(self) -> str:
        """What the log is to say, once for each limit and all workers; mostly nothing.

        Workers that need more than the limit while no transfer runs refuse every upload, and their successors are as
        large. Before all of them are there nobody knows how much that is.
        """
        if not self._is_passed() or self._board.serving() < self._workers:
            return ""
        load = self._board.load()
        if load.uploads or load.downloads or not self._board.may_tell_limit(self._limit):
            return ""
        needed = math.ceil(self._board.memory() / _MIB)
        return (
            f"The workers use {needed} MiB while no transfer runs, more than MaxMemoryMB ({self._limit // _MIB}): "
            f"uploads are refused. Set MaxMemoryMB well above {needed}, or lower NumCores"
        )

    def is_too_large(self, age: float, *, is_busy: bool) -> bool:
        """Whether this worker should make room. The only one waits until nothing runs: nobody would serve meanwhile.
        Of several one goes at a time, and the next when the first has a successor.

        Args:
            age: of this worker, in seconds.
            is_busy: whether any transfer runs here.
        """
        if age <= _LEAST_AGE_SECONDS or not self._is_passed() or not self._board.is_largest():
            return False
        return not is_busy if self._workers == 1 else bool(self._board.serving() >= self._workers)

    def _is_passed(self) -> bool:
        return bool(self._board is not None and self._limit and self._board.memory() > self._limit)
