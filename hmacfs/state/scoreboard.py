"""Numbers that the workers of one server share: anonymous memory that the master maps before it forks.

Every worker writes to its own slot only, so no lock is needed and a killed worker leaves nothing locked; the master
clears a slot when its worker is gone. Sums over all slots may be a moment old.
"""

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from hmacfs.state.stocktaking import Stocktaking

_FAILING = 3
"""Places for the first addresses whose MAC was wrong."""
_FIELDS = 17 + _FAILING
_PENDING, _WRITTEN, _MEMORY, _IN_USE, _SUCCEEDED, _TOLD, _FAILED, _CPU, _GREENLETS, _CONNECTIONS, *_MORE = range(
    _FIELDS
)
_UPLOADS, _DOWNLOADS, _FILES, _BYTES, _REQUESTS, _COLLECTIONS, _ENDING, *_ADDRESSES = _MORE
_CLIENTS = 1024
"""Places for client addresses in a slot, each a 64-bit digest and a count."""
_PROBES = 16
_SLOT_WORDS = _FIELDS + 2 * _CLIENTS
_NO_SWEEP = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """What all workers do at this moment.

    Attributes:
        memory: resident bytes.
        cpu: percent of one processor.
        connections: of clients; those of the operations listener are not counted.
        uploads, downloads: bodies on their way.
    """

    memory: int
    cpu: float
    greenlets: int
    connections: int
    uploads: int
    downloads: int


class Scoreboard:
    """Args:
    most_workers: at any time but during a reload, when there are twice as many.
    wall: Unix seconds.
    """

    def __init__(self, most_workers: int = 1, wall: Callable[[], float] = time.time) -> None:
        self.most_workers = most_workers
        self._wall = wall
        slots = self._slots = 2 * most_workers
        self._words = memoryview(mmap.mmap(-1, slots * _SLOT_WORDS * 8)).cast("q")
        self._stopping = mmap.mmap(-1, 1)
        self._limit_told = memoryview(mmap.mmap(-1, 8)).cast("q")
        self._stock = Stocktaking(slots)
        self._swept = memoryview(mmap.mmap(-1, 8 * len(_NO_SWEEP))).cast("q")
        self._told = memoryview(mmap.mmap(-1, 16)).cast("q")
        self._base = 0
        self._clients: dict[str, tuple[int, int]] = {}
        self.began = time.monotonic()
        """When the server started, in monotonic seconds; a reload changes nothing."""

    # In the master

    def claim(self) -> int:
        """The lowest free slot, for a worker that is about to be forked. The last one is shared if all are taken."""
        for slot in range(self._slots):
            if not self._words[slot * _SLOT_WORDS + _IN_USE]:
                self._words[slot * _SLOT_WORDS + _IN_USE] = 1
                return slot
        return self._slots - 1

    def release(self, slot: int) -> None:
        """The worker of ``slot`` is gone, with everything it had in flight. What it wrote stays counted."""
        base = slot * _SLOT_WORDS
        for word in (_PENDING, _MEMORY, _IN_USE, _CPU, _GREENLETS, _CONNECTIONS, _UPLOADS, _DOWNLOADS, _ENDING):
            self._words[base + word] = 0
        for word in range(_FIELDS, _SLOT_WORDS):
            self._words[base + word] = 0

    def note_stopping(self) -> None:
        """The whole server stops: what its workers are told is no reload."""
        self._stopping[0] = 1

    # In a worker

    @property
    def slot(self) -> int:
        """The one that this process writes to."""
        return self._base // _SLOT_WORDS

    def is_stopping(self) -> bool:
        return bool(self._stopping[0])

    def bind(self, slot: int) -> None:
        """This process writes to ``slot`` from now on."""
        self._base = slot * _SLOT_WORDS

    def add_pending(self, count: int) -> None:
        self._words[self._base + _PENDING] += count

    def add_written(self, count: int) -> None:
        self._words[self._base + _WRITTEN] += count

    def set_memory(self, count: int) -> None:
        """Resident bytes of this worker."""
        self._words[self._base + _MEMORY] = count

    def note_ending(self) -> None:
        """This worker takes no new connections any more; its successor has a slot of its own."""
        self._words[self._base + _ENDING] = 1

    def set_load(self, cpu: float, greenlets: int, connections: int) -> None:
        """As in ``Load``, of this worker."""
        self._words[self._base + _CPU] = int(cpu * 100)
        self._words[self._base + _GREENLETS] = greenlets
        self._words[self._base + _CONNECTIONS] = connections

    def add_uploads(self, count: int) -> None:
        self._words[self._base + _UPLOADS] += count

    def add_downloads(self, count: int) -> None:
        self._words[self._base + _DOWNLOADS] += count

    def load(self) -> Load:
        cpu, uploads, downloads = self._sum(_CPU) / 100, self._sum(_UPLOADS), self._sum(_DOWNLOADS)
        return Load(self._sum(_MEMORY), cpu, self._sum(_GREENLETS), self._sum(_CONNECTIONS), uploads, downloads)

    def workers(self) -> int:
        """How many there are; those too that a reload is about to replace."""
        return self._sum(_IN_USE)

    # Who tells of all workers now and then.

    def add_work(self, requests: int, collections: int) -> None:
        """This worker answered so many more requests, and collected garbage so many more times."""
        self._words[self._base + _REQUESTS] += requests
        self._words[self._base + _COLLECTIONS] += collections

    def collections(self) -> int:
        return self._sum(_COLLECTIONS)

    def turn(self, now: float, interval: float) -> int | None:
        """Whether it is this worker that tells of all, ``interval`` seconds after the last time: how many requests were
        answered since. None where it is not.

        The lowest slot tells; where that does not, being about to end, the next one does a second later.

        Args:
            now: monotonic seconds.
        """
        moment, period = int(now * 1000), int(interval * 1000)
        due, before = self._told
        if not due or due > moment + period:  # the first time, or the interval has become shorter
            self._told[0] = moment + period
            return None
        lower = sum(self._words[_IN_USE : self._base + _IN_USE : _SLOT_WORDS])
        if moment < due + 1000 * lower:
            return None
        requests = self._sum(_REQUESTS)
        self._told[0], self._told[1] = (due if moment < due + period else moment) + period, requests
        return requests - before

    # What the store holds: as of the last sweep, and what came and went since. Outlives workers, as sums of all do.

    def add_stored(self, files: int, count: int) -> None:
        """This worker published files, or a sweep of its own removed some (negative). Args: count: bytes."""
        self._words[self._base + _FILES] += files
        self._words[self._base + _BYTES] += count
        files, count = self._words[self._base + _FILES], self._words[self._base + _BYTES]
        self._stock.note(self.slot, files, count, self._wall())

    def note_counted(self, mark: int) -> None:
        """Remember what had come and gone at ``mark``, as in ``stored``: tell it within a minute or so, while that is
        known to the span."""
        if self._swept[0] != mark:
            # The mark is written last: who reads in between finds the base for himself.
            counted = self._stock.at(mark)
            self._swept[1], self._swept[2] = counted.files, counted.count
            self._swept[0] = mark

    def stored(self, mark: int, files: int, count: int) -> tuple[int, int]:
        """Files and bytes of the store now: what a sweep found, and what came and went since.

        A file that comes while a sweep runs may have been seen by it or not. It counts as seen: the figures may miss
        what came during the last sweep, or in the 20 ms behind it, and count no file twice.

        Args:
            mark: when the last sweep that was noted had counted, Unix milliseconds; 0 for never.
            files, count: what it found, and bytes.
        """
        self.note_counted(mark)
        came, more = self._sum(_FILES) - self._swept[1], self._sum(_BYTES) - self._swept[2]
        return max(0, files + came), max(0, count + more)

    def pending(self) -> int:
        return self._sum(_PENDING)

    def written(self) -> int:
        return self._sum(_WRITTEN)

    # The memory of workers that are about to end is given back soon: beside their successors it would keep uploads out
    # for as long as the longest download goes on.

    def memory(self) -> int:
        """Resident bytes of the workers that stay. ``load`` has those of all."""
        return sum(self._staying().values())

    def serving(self) -> int:
        """How many workers stay and have told of their memory, as one does that is up."""
        return len(self._staying())

    def is_largest(self) -> bool:
        """Whether no worker that stays uses more memory than this one."""
        return self._words[self._base + _MEMORY] >= max(self._staying().values(), default=0)

    def may_tell_limit(self, limit: int) -> bool:
        """Whether this worker says for all, once, what is to be said of the memory limit of so many bytes: the lowest
        slot of those that stay does."""
        if self._limit_told[0] == limit or self.slot != min(self._staying(), default=self.slot):
            return False
        self._limit_told[0] = limit
        return True

    def _staying(self) -> dict[int, int]:
        """Resident bytes by slot."""
        memory, ending = self._words[_MEMORY::_SLOT_WORDS].tolist(), self._words[_ENDING::_SLOT_WORDS].tolist()
        return {slot: count for slot, count in enumerate(memory) if count and not ending[slot]}

    # What is known of a secret since the start, by a number that stands for it: words of another secret say nothing.
    # They outlive their worker.

    def note_success(self, secret: int) -> None:
        """A MAC was right under ``secret``, a number from 1 to 2^62."""
        self._words[self._base + _SUCCEEDED] = secret

    def has_succeeded(self, secret: int) -> bool:
        """Whether any worker saw that."""
        return secret in self._words[_SUCCEEDED::_SLOT_WORDS].tolist()

    def note_failure(self, secret: int, client: str) -> None:
        """A MAC of ``client`` was wrong."""
        base, digest = self._base, _digest(client) or 1
        if self._words[base + _FAILED] != secret:
            for word in _ADDRESSES:
                self._words[base + word] = 0
            self._words[base + _FAILED] = secret
        for word in _ADDRESSES:
            if self._words[base + word] in (0, digest):
                self._words[base + word] = digest
                return

    def failing(self, secret: int) -> int:
        """How many clients failed, over all workers; those beyond three in each are not told apart."""
        failing = {
            self._words[base + word]
            for base in range(0, self._slots * _SLOT_WORDS, _SLOT_WORDS)
            if self._words[base + _FAILED] == secret
            for word in _ADDRESSES
        }
        return len(failing - {0})

    def may_tell(self, secret: int) -> bool:
        """Whether this worker says for all what is to be said of ``secret`` once; ask again after a while.

        The first answer is no: of several that ask at the same moment the lowest slot says it the next time.
        """
        words, own = self._words[_TOLD::_SLOT_WORDS].tolist(), self._base // _SLOT_WORDS
        if ~secret in words:
            return False
        if secret not in words:
            self._words[self._base + _TOLD] = secret
            return False
        if words.index(secret) != own:
            return False
        self._words[self._base + _TOLD] = ~secret
        return True

    def enter_client(self, client: str) -> int:
        digest = _digest(client)
        place, count = self._clients.get(client, (-1, 0))
        if not count:
            place = self._vacant(digest)
        self._clients[client] = (place, count + 1)
        if place >= 0:
            self._words[place] = digest
            self._words[place + 1] = count + 1
        return count + 1 + self._elsewhere(digest)

    def count_client(self, client: str) -> int:
        return self._clients.get(client, (-1, 0))[1] + self._elsewhere(_digest(client))

    def leave_client(self, client: str) -> None:
        place, count = self._clients[client]
        if place >= 0:
            self._words[place + 1] = count - 1
        if count > 1:
            self._clients[client] = (place, count - 1)
        else:
            del self._clients[client]

    def _sum(self, field: int) -> int:
        return sum(self._words[field::_SLOT_WORDS])

    def _places(self, base: int, digest: int) -> list[int]:
        return [base + _FIELDS + 2 * ((digest + step) % _CLIENTS) for step in range(_PROBES)]

    def _vacant(self, digest: int) -> int:
        """Where this worker may note a client; -1 when all its places are taken: it then counts here only."""
        return next((place for place in self._places(self._base, digest) if not self._words[place + 1]), -1)

    def _elsewhere(self, digest: int) -> int:
        bases = (base for base in range(0, self._slots * _SLOT_WORDS, _SLOT_WORDS) if base != self._base)
        places = (place for base in bases for place in self._places(base, digest))
        return sum(self._words[place + 1] for place in places if self._words[place] == digest)


def _digest(client: str) -> int:
    return int.from_bytes(blake2b(client.encode(), digest_size=8).digest(), "big", signed=True)
