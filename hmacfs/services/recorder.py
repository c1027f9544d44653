"""Facts for shared state, written behind the answer: a request only leaves them here, and never waits for a tier.

Facts may be lost: when no tier can be written for long, or when the process is killed. Disk is the truth, and
``hmacfs reindex`` rebuilds the catalogue from it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from hmacfs.core.retry import Schedule
from hmacfs.errors import StateUnavailable
from hmacfs.state.base import Accounts, Catalog, FileRow, Reservation, SessionRow, Sessions, ended, milliseconds, newest

FLUSH_SECONDS = 0.2
"""How old a fact may become before it is written, as long as a tier works."""

BATCH = 500
"""Facts of one write at most; so many do not wait for the time to pass."""

MOST_FACTS = 20_000
"""About 10 MB. Over it the oldest are dropped: they are the likeliest to be superseded."""

AGAIN_SECONDS = 5.0
"""After a deletion. Another worker may write only then that the file was stored, which would count it for ever."""

_MOST_AGAIN = 10_000

STOP_SECONDS = 2.0
"""For writing what is queued when the process ends."""

_FILE, _GONE, _SESSION, _SETTLED, _GIVEN_BACK = range(5)
_ORDERED = frozenset({_FILE, _SESSION})
_SUBJECTS = {_FILE: 0, _GONE: 0, _SESSION: 1, _SETTLED: 2, _GIVEN_BACK: 3}
"""Facts of one subject about the same name supersede each other."""

Fact = tuple[int, str, Any]
"""Which verb, the path or key that it is about, and what the verb is given of it."""

_Batch = dict[tuple[int, str], Fact]


class State(Catalog, Sessions, Accounts, Protocol):
    """Where facts go."""


class Recorder:
    """Queues facts and writes them in batches, in their order, from a thread of its own (under gevent: a greenlet).

    Make it in the process that serves; nothing runs before ``start``. Facts of files and of uploads have an order
    of their own (``state.base.rank``), because other workers have facts of the same and write them when they like.

    Args:
        state: where facts are written, never on a request.
        schedule: for a batch that could not be written.
        chance: evenly distributed, from 0 to 1, for every delay anew.
        warn: told in one sentence when facts begin to be lost, and when that is over. It must not raise.
        clock: Unix seconds.
    """

    def __init__(
        self,
        state: State,
        schedule: Schedule,
        chance: Callable[[], float],
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._schedule = schedule
        self._chance = chance
        self._warn = warn
        self._clock = clock
        self._facts: deque[Fact] = deque(maxlen=MOST_FACTS)
        self._again: deque[tuple[float, str]] = deque(maxlen=_MOST_AGAIN)
        self._in_hand = 0
        self._pushed_out = 0
        self._given_up = 0
        self._told = 0
        self._is_losing = False
        self._due = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Facts that were never written, since the process began."""
        return self._pushed_out + self._given_up

    @property
    def queued(self) -> int:
        """Facts that wait to be written."""
        return len(self._facts) + self._in_hand

    def file_stored(self, row: FileRow) -> None:
        """A file was published. Never raises and never waits, like everything that takes a fact."""
        self._take((_FILE, row.path, row))

    def file_gone(self, path: str) -> None:
        """There is no file any more at ``path``, PATH as text."""
        self._take((_GONE, path, path))

    def file_deleted(self, path: str) -> None:
        """The same of a file that may have been stored a moment ago: it is told twice. The path takes no other file
        meanwhile, because it is buried."""
        self.file_gone(path)
        self._again.append((self._clock() + AGAIN_SECONDS, path))

    def session_changed(self, row: SessionRow) -> None:
        """An upload has begun or gone on."""
        self._take((_SESSION, row.key, row))

    def session_ended(self, key: str, started_at: float) -> None:
        """An upload was finished, given up or removed.

        Args:
            key: as in SessionRow.
            started_at: Unix seconds, exactly as its rows were made from.
        """
        self._take((_SESSION, key, ended(key, milliseconds(started_at), self._clock())))

    def session_removed(self, key: str, started_at: float) -> None:
        """As ``session_ended``, from any native thread: it does not wake the writer, which is another loop's."""
        self._pushed_out += len(self._facts) >= MOST_FACTS
        self._facts.append((_SESSION, key, ended(key, milliseconds(started_at), self._clock())))

    def quota_settled(self, reservation: Reservation) -> None:
        """The file of a reservation was published; what was told of it before is written first."""
        self._take((_SETTLED, reservation.key, reservation))

    def quota_given_back(self, reservation: Reservation) -> None:
        """The upload of a reservation has ended otherwise. Written at once: its client may try again now, and would be
        refused for what it no longer has. Not from another native thread: it wakes the writer."""
        self._take((_GIVEN_BACK, reservation.key + reservation.owner, reservation))
        self._due.set()

    def quota_left(self, reservation: Reservation) -> None:
        """As ``quota_given_back``, from any native thread: written within FLUSH_SECONDS, without waking the writer."""
        self._pushed_out += len(self._facts) >= MOST_FACTS
        self._facts.append((_GIVEN_BACK, reservation.key + reservation.owner, reservation))

    def start(self) -> None:
        """Begin to write. Twice is harmless."""
        if self._thread is None:
            self._ending.clear()
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what is queued, for 2 seconds at most, and end. What is left then is counted as dropped, and told."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._ending.set()
        self._due.set()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            self._give_up(self.queued, "the server ended before they were written")
            self._facts.clear()

    def flush(self) -> None:
        """Write all that is queued. Returns when it is written or, after all retries, dropped."""
        while batch := self._next_batch():
            self._in_hand = len(batch)
            self._write(batch)
            self._in_hand = 0

    def _take(self, fact: Fact) -> None:
        count = len(self._facts) + 1
        if count > MOST_FACTS:
            self._pushed_out += 1  # by the deque; the thread tells of it, not the request
        self._facts.append(fact)
        if count == BATCH:
            self._due.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._due.wait(FLUSH_SECONDS)
            self._due.clear()
            self.repeat(self._clock())
            self.flush()
        self.repeat(float("inf"))
        self.flush()

    def repeat(self, now: float) -> None:
        """Take what has to be told twice and is due. Args: now: Unix seconds."""
        while self._again and self._again[0][0] <= now:
            self.file_gone(self._again.popleft()[1])

    def _next_batch(self) -> _Batch:
        """The oldest facts; of each path and key only the newest among them, at its place."""
        batch: _Batch = {}
        for _ in range(min(BATCH, len(self._facts))):
            kind, name, said = self._facts.popleft()
            subject = (_SUBJECTS[kind], name)
            known = batch.pop(subject, None)
            if known is not None and known[0] == kind and kind in _ORDERED:  # who knew it first may tell of it later
                said = newest([known[2], said])[name]
            batch[subject] = (kind, name, said)
        return batch

    def _write(self, batch: _Batch) -> None:
        """Write a batch. When that fails it is repeated as a whole: writing a fact twice does no harm."""
        done = 0
        while True:
            if self.dropped > self._told:
                self._tell_loss("more of them than were written")
            try:
                self._write_once(batch)
            except StateUnavailable:
                delay = None if self._ending.is_set() else self._schedule.delay(done, self._chance())
                if delay is None:
                    return self._give_up(len(batch), "no tier can be written")
                done += 1
                self._ending.wait(delay)
            except Exception as error:  # noqa: BLE001 - a fault of ours: it must not end the thread
                return self._give_up(len(batch), type(error).__name__)
            else:
                return self._tell_recovery()

    def _write_once(self, batch: _Batch) -> None:
        state = self._state
        verbs: tuple[tuple[int, Callable[[list[Any]], None]], ...] = (
            (_FILE, state.record_files),
            (_GONE, state.forget_files),
            (_SESSION, state.save_sessions),
            (_SETTLED, state.settle),
            (_GIVEN_BACK, state.give_back),
        )
        for kind, verb in verbs:
            if said := [fact[2] for fact in batch.values() if fact[0] == kind]:
                verb(said)

    def _give_up(self, count: int, reason: str) -> None:
        self._given_up += count
        self._tell_loss(reason)

    def _tell_loss(self, reason: str) -> None:
        """One warning when a loss begins, not one for every batch."""
        if not self._is_losing:
            self._is_losing = True
            self._warn(f"Facts for shared state are lost ({reason}): `hmacfs reindex` rebuilds the catalogue")

    def _tell_recovery(self) -> None:
        if self._is_losing and not self._facts:
            self._is_losing = False
            lost, self._told = self.dropped - self._told, self.dropped
            self._warn(f"Shared state is written again; {lost} facts were lost: run `hmacfs reindex`")
