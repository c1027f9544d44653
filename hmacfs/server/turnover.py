"""The master at a reload: the old workers end beside its main loop, which goes on.

gunicorn's own reload waits for them inside the handler of SIGHUP. As long as the longest transfer went on, up to
GracefulShutdownTimeout, no worker that died was replaced, no log was opened anew, and a SIGTERM came too late for
systemd. Here they move to a table of their own: they are reaped and signalled like all others, nobody counts them, and
who is not gone in time is killed.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gunicorn.arbiter import Arbiter


@dataclass(frozen=True, slots=True)
class _Ending:
    """A worker of a configuration before. Attributes: deadline: monotonic seconds; SIGKILL comes then."""

    worker: Any
    deadline: float


class TurningArbiter(Arbiter):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's arbiter, which it makes itself: ``become`` turns an existing one into one of these."""

    _ending: dict[int, _Ending]
    _most_ending: int
    _may_reload: Callable[[], bool | None]
    _is_due: bool
    _is_asking: bool

    @classmethod
    def become(cls, arbiter: Any, most_ending: int, may_reload: Callable[[], bool | None]) -> None:
        """
        Args:
            most_ending: workers that may be about to end at once; a reload that would make more waits for them.
            may_reload: called at SIGHUP, and again and again until the answer is not None. An application that cannot
                be built in the new workers would stop the whole server, because gunicorn takes it for a start that
                failed; so the question comes first, and a "no" leaves the old workers serving.
        """
        arbiter.__class__ = cls
        arbiter._ending = {}
        arbiter._most_ending = most_ending
        arbiter._may_reload = may_reload
        arbiter._is_due = arbiter._is_asking = False

    def handle_hup(self) -> None:
        """Reload as soon as that may be; several signals that come meanwhile are one."""
        if not self._is_due and not self._has_room():
            self.log.warning("Reload waits until workers of earlier ones have ended")
        self._is_due = True
        self._turn()

    def _turn(self) -> None:
        if not self._is_asking:
            if not self._is_due or not self._has_room():
                return
            self._is_due, self._is_asking = False, True
        may = self._may_reload()
        if may is not None:
            self._is_asking = False
            if may:
                super().handle_hup()

    def _has_room(self) -> bool:
        return not self._ending or len(self._ending) + len(self.WORKERS) <= self._most_ending

    def reload(self) -> None:
        """Returns when the new workers are forked and the old ones are told to end."""
        now = time.monotonic()
        old = {pid: _Ending(worker, now + worker.cfg.graceful_timeout) for pid, worker in self.WORKERS.items()}
        self._ending |= old
        self.WORKERS.clear()  # so that gunicorn has nobody to wait for
        super().reload()
        with self._everybody():
            for pid in old:
                self.kill_worker(pid, signal.SIGTERM)

    def spawn_worker(self) -> int | None:
        with self._everybody():  # the child closes what it inherits of each
            pid: int | None = super().spawn_worker()
        return pid

    def murder_workers(self) -> None:
        """Once in each round of the main loop, and nowhere else."""
        self._turn()
        with self._everybody():
            super().murder_workers()
            for pid, each in self._ending.items():
                if time.monotonic() > each.deadline and pid in self.WORKERS:
                    self.log.error("Worker (pid:%s) did not end in time after a reload: it is killed", pid)
                    self.kill_worker(pid, signal.SIGKILL)

    def reap_workers(self) -> None:
        with self._everybody():
            super().reap_workers()

    def kill_workers(self, sig: int) -> None:
        with self._everybody():
            super().kill_workers(sig)

    def stop(self, graceful: bool = True) -> None:
        """One GracefulShutdownTimeout for all: those that end already have what is left of theirs."""
        self.WORKERS.update({pid: each.worker for pid, each in self._ending.items()})
        self._ending.clear()
        super().stop(graceful)

    @contextmanager
    def _everybody(self) -> Iterator[None]:
        """While the block runs WORKERS holds those too that are about to end; whom it removes there is gone."""
        self.WORKERS.update({pid: each.worker for pid, each in self._ending.items()})
        try:
            yield
        finally:
            gone = self._ending.keys() - self.WORKERS.keys()
            self._ending = {pid: each for pid, each in self._ending.items() if pid not in gone}
            for pid in self._ending:
                del self.WORKERS[pid]
