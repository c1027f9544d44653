"""Blocking calls (disk, later SQL) on native threads, so that no greenlet waits for another's disk.

Own pools instead of gevent's: with 16 greenlets at it a hop costs 3 instead of 24 microseconds of CPU (one alone: 40
instead of 47), and gevent prints a traceback for every exception that leaves a job, expected or not. Where the process
does not run on gevent (command line, tests, other WSGI servers) a job is a plain call.
"""

import _queue
import errno
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

waits: deque[float] = deque(maxlen=16384)
"""Seconds that each job of a timed pool waited for a thread, until somebody takes them."""


class Pool(Protocol):
    def run(self, job: Callable[..., T], *args: Any) -> T:
        """The result of ``job(*args)``, or its exception. Other greenlets run meanwhile."""


class InlinePool:
    """Runs a job at once in the caller's thread."""

    def run(self, job: Callable[..., T], *args: Any) -> T:
        return job(*args)


class _Job:
    __slots__ = ("args", "done", "error", "function", "queued", "result", "switch")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], switch: Callable[[], Any]) -> None:
        self.function = function
        self.args = args
        self.switch = switch
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.queued = 0.0


class ThreadPool:
    """Native threads that serve the greenlets of one hub. Make it after fork and after patching.

    Args:
        threads: how many jobs run at once.
        is_timed: how long each job waited goes to ``waits``.
    """

    def __init__(self, threads: int, *, is_timed: bool = False) -> None:
        from gevent.hub import get_hub
        from gevent.monkey import get_original

        # The C queue itself: gevent replaces queue.SimpleQueue with one that must not cross native threads.
        self._jobs: _queue.SimpleQueue[_Job] = _queue.SimpleQueue()
        self._finished: deque[_Job] = deque()
        self._start_thread = get_original("_thread", "start_new_thread")
        self._current = sys.modules["gevent"].getcurrent
        self._hub = get_hub()
        self._bell = self._hub.loop.async_()
        self._bell.start(self._resume_finished)
        self._is_timed = is_timed
        self._idle = 0
        self._room = threads
        self._threads = 0

    def run(self, job: Callable[..., T], *args: Any) -> T:
        """The result of ``job(*args)``.

        A greenlet that is killed or timed out while its job runs waits for the job to end before it unwinds: the job
        may still be using the caller's descriptor, whose number must not be given to somebody else meanwhile.
        """
        entry = _Job(job, args, self._current().switch)
        if self._is_timed:
            entry.queued = time.perf_counter()
        if self._room and self._idle <= 0:
            self._add_thread()
        else:
            self._idle -= 1
        self._jobs.put(entry)
        interrupted: BaseException | None = None
        while not entry.done:
            try:
                self._hub.switch()
            except BaseException as error:  # noqa: BLE001 - raised again below, once the job is over
                interrupted = error
        self._idle += 1
        if interrupted is not None:
            raise interrupted
        if entry.error is not None:
            raise entry.error
        return entry.result  # type: ignore[no-any-return]

    def _add_thread(self) -> None:
        """One more thread for the job that comes; without one the job waits for those that there are.

        Raises:
            OSError: EAGAIN, there is no thread at all (TasksMax, ulimit -u).
        """
        try:
            self._start_thread(self._work, ())
        except RuntimeError as error:
            if not self._threads:
                raise OSError(errno.EAGAIN, "no thread can be started") from error
            self._idle -= 1
        else:
            self._room -= 1
            self._threads += 1

    def _work(self) -> None:
        while True:
            entry = self._jobs.get()
            if entry.queued:
                waits.append(time.perf_counter() - entry.queued)
            try:
                entry.result = entry.function(*entry.args)
            except BaseException as error:  # noqa: BLE001 - carried to the greenlet that waits for it
                entry.error = error
            self._finished.append(entry)
            self._bell.send_ignoring_arg(None)
            del entry

    def _resume_finished(self) -> None:
        # In the hub. ``done`` is set here and not in the thread: a greenlet that something else woke in between must
        # not see its job as over while this wake-up is still on its way, or it would reach whatever it waits for next.
        while self._finished:
            entry = self._finished.popleft()
            entry.done = True
            entry.switch()


def make_pool(threads: int, *, is_timed: bool = False) -> Pool:
    """A pool of native threads under gevent, plain calls elsewhere. Args: as ``ThreadPool``."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        return ThreadPool(threads, is_timed=is_timed)
    return InlinePool()
