"""Counters and histograms of one worker, in files that outlive it.

prometheus_client's multiprocess mode, with the worker's slot in the place of a process id: who takes over the slot
counts on in the same files, so that nothing is lost with a worker and there are never more files than slots. A value is
one store into a shared mapping and never in the heap alone.

A file has all its memory before anything is mapped, and more before it grows: without, the first new label on a full
/dev/shm would end the worker. Where there is no room left a series is not counted, which is said once.

Only greenlets of the worker may count: the values have no lock that native threads could share with them. What pool
threads measure goes through a deque (``Steps.observe_all``), and is counted once a second.
"""

import logging
import os
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import prometheus_client
from prometheus_client import Histogram, values
from prometheus_client.mmap_dict import MmapedDict

from hmacfs.telemetry import families, logs
from hmacfs.telemetry.families import OTHER
from hmacfs.telemetry.metricsfolder import FIRST_BYTES, KINDS, allocate

_ENTRY_BYTES = 512
"""More than any value takes in its file, but for its labels: name, names of labels, meaning, two numbers."""

_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Cell:
    """A value of prometheus_client, added to where it lies: 0.1 microseconds instead of 0.6 with its own ``inc``, which
    keeps a copy, takes a lock and packs both numbers anew. From then on nobody may use that one.

    Args:
        value: a ``MmapedValue``, or None for a cell that nobody reads. The view stays good when its file grows: both
            mappings are of the same pages.
    """

    __slots__ = ("_place",)

    def __init__(self, value: Any) -> None:
        if value is None:
            self._place = memoryview(bytearray(8)).cast("d")
            return
        at = value._file._positions[value._key]
        self._place = memoryview(value._file._m)[at : at + 8].cast("d")

    def inc(self, amount: float = 1.0) -> None:
        self._place[0] += amount


class Steps:
    """A histogram of prometheus_client, likewise. Args: histogram: without labels; None for one that nobody reads."""

    def __init__(self, histogram: Histogram | None) -> None:
        self._bounds = tuple(histogram._upper_bounds) if histogram is not None else (float("inf"),)
        self._sum = Cell(histogram._sum if histogram is not None else None)
        self._buckets = tuple(Cell(each) for each in histogram._buckets) if histogram is not None else (Cell(None),)

    def observe(self, amount: float) -> None:
        self._buckets[bisect_left(self._bounds, amount)].inc()
        self._sum.inc(amount)

    def observe_all(self, measured: deque[float]) -> None:
        """Take out what pool threads have put there: one addition for each bucket, since a busy disk measures thousands
        in a second."""
        taken = [measured.popleft() for _ in range(len(measured))]
        for place, count in Counter(bisect_left(self._bounds, each) for each in taken).items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(taken))


class Counters:
    """The families of ``families.COUNTERS`` and ``families.HISTOGRAMS``; at most one of these in a process.

    Args:
        folder: an existing private folder that all workers share.
        slot: of this worker; nobody else has it now.
        routes: what the label ``path`` may say, by the names that ``request`` is called with.
        tell: gets one sentence where there is no room to count.
    """

    def __init__(
        self, folder: str, slot: int, routes: Mapping[str, str], tell: Callable[[str], None] | None = None
    ) -> None:
        self._folder = folder
        self._tell = tell or _warn
        self._is_full = False
        self._torn = _remove_torn(folder, slot)
        self._routes = dict(routes)
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._families: dict[str, prometheus_client.Counter] = {}
        self._steps: dict[str, Steps] = {}
        if all(self._has(os.path.join(folder, f"{kind}_{slot}.db"), FIRST_BYTES) for kind in KINDS):
            self._map(folder, slot)
        for route in routes:  # there from the first scrape
            self.request("GET", route)

    def _map(self, folder: str, slot: int) -> None:
        make = values.MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
        values.ValueClass = make
        # Read once, when the first value of a kind makes its file. Left in the environment it would be for the
        # children that we start, and change what the exporter does.
        os.environ[_FOLDER_VARIABLE] = folder
        try:
            self._families = {each.name: _family(each) for each in families.COUNTERS}
            self._steps = {each.name: Steps(_histogram(each)) for each in families.HISTOGRAMS}
        finally:
            del os.environ[_FOLDER_VARIABLE]

    def _has(self, path: str, size: int) -> bool:
        """Whether the file at ``path`` has ``size`` bytes now; it is made. The first time it has not is told."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            reason = error.strerror
        else:
            reason = allocate(fd, max(size, os.fstat(fd).st_size))
            os.close(fd)
        if reason and not self._is_full:
            self._is_full = True
            self._tell(
                f"Metrics: no room in {self._folder} ({reason}), so this worker (pid {os.getpid()}) does not count "
                "everything until it is replaced"
            )
        return not reason

    def _cell(self, name: str, labels: tuple[str, ...]) -> Cell:
        """The place of a counter in the file; nowhere, where that has no room for one more."""
        family = self._families.get(name)
        if family is None:
            return Cell(None)
        if not labels:
            return Cell(family._value)
        file = self._families[families.OURS + "uploads_total"]._value._file
        size = file._capacity
        while size < file._used + _ENTRY_BYTES + 6 * sum(map(len, labels)):  # JSON writes a character in six bytes
            size *= 2
        if size > file._capacity and not self._has(file._fname, size):
            return Cell(None)
        return Cell(family.labels(*labels)._value)

    @property
    def torn(self) -> int:
        """How many files of this slot could not be read when it was taken over; their counts begin anew."""
        return self._torn

    def counter(self, name: str, *labels: str) -> Cell:
        """Args: name: without our prefix. labels: from fixed sets; each is looked up once."""
        key = (name, *labels)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._cell(families.OURS + name, labels)
        return cell

    def histogram(self, name: str) -> Steps:
        """Args: name: without our prefix."""
        steps = self._steps.get(families.OURS + name)
        if steps is None:
            steps = self._steps[families.OURS + name] = Steps(None)
        return steps

    def request(self, method: str, route: str) -> Cell:
        """The counter of requests. Args: method, route: anything; what is not known counts as "other"."""
        cell = self._cells.get((method, route))
        return self._bound_request(method, route) if cell is None else cell

    def _bound_request(self, method: str, route: str) -> Cell:
        key = (
            method if method in families.METHODS else OTHER,
            route if route in self._routes else OTHER,
        )
        if key not in self._cells:
            self._cells[key] = self._cell("http_requests_total", (key[0], self._routes.get(key[1], OTHER)))
        return self._cells[key]


def _warn(sentence: str) -> None:
    logs.event(logging.WARNING, sentence)


def _family(family: families.Family) -> prometheus_client.Counter:
    return prometheus_client.Counter(family.name, family.meaning, family.labels, registry=None)


def _histogram(family: families.Family) -> Histogram:
    return Histogram(family.name, family.meaning, registry=None, buckets=family.buckets)


def is_readable(path: str) -> bool:
    """Whether a file of values is whole. One that a killed process has just made is empty, which is as good."""
    try:
        if os.path.getsize(path):
            list(MmapedDict.read_all_values_from_file(path))  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        return True
    except Exception:  # noqa: BLE001 - struct.error, RuntimeError, UnicodeDecodeError: whatever the damage looks like
        return False
    return True


def _remove_torn(folder: str, slot: int) -> int:
    torn = [path for path in files_of(folder) if path.endswith(f"_{slot}.db") and not is_readable(path)]
    for path in torn:
        os.unlink(path)
    return len(torn)


def files_of(folder: str) -> list[str]:
    """The files of values in ``folder``."""
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".db"))
