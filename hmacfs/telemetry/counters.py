"""Counters and histograms of one worker, in files that outlive it.

prometheus_client's multiprocess mode, with the worker's slot in the place of a process id: who takes over the slot
counts on in the same files, so that nothing is lost with a worker and there are never more files than slots. A value is
one store into a shared mapping and never in the heap alone.

Only greenlets of the worker may count: the values have no lock that native threads could share with them. What pool
threads measure goes through a deque (``Meter``), and is counted once a second.
"""

import os
from collections import deque
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict

from hmacfs.telemetry import families
from hmacfs.telemetry.families import OTHER

_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Counters:
    """The families of ``families.COUNTERS`` and ``families.HISTOGRAMS``; at most one of these in a process.

    Args:
        folder: an existing private folder that all workers share.
        slot: of this worker; nobody else has it now.
        routes: what the label ``path`` may say, by the names that ``request`` is called with.
    """

    def __init__(self, folder: str, slot: int, routes: Mapping[str, str]) -> None:
        self._torn = _put_torn_aside(folder, slot)
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
        # Read once, when the first value of a kind makes its file. Left in the environment it would be for the
        # children that we start, and change what the exporter does.
        os.environ[_FOLDER_VARIABLE] = folder
        try:
            made = [Counter(each.name, each.meaning, each.labels, registry=None) for each in families.COUNTERS]
            timed = [
                Histogram(each.name, each.meaning, each.labels, registry=None, buckets=each.buckets)
                for each in families.HISTOGRAMS
            ]
        finally:
            del os.environ[_FOLDER_VARIABLE]
        self._counters = dict(zip((each.name for each in families.COUNTERS), made, strict=True))
        self._histograms = dict(zip((each.name for each in families.HISTOGRAMS), timed, strict=True))
        self._routes = dict(routes)
        self._bound: dict[tuple[str, ...], Any] = {}
        for route in routes:  # there from the first scrape
            self.request("GET", route)

    @property
    def torn(self) -> int:
        """How many files of this slot could not be read when it was taken over; their counts begin anew."""
        return self._torn

    def counter(self, name: str) -> Any:
        """A counter without labels. Args: name: without our prefix."""
        return self._counters[f"hmac_file_server_{name}"]

    def histogram(self, name: str) -> Any:
        return self._histograms[f"hmac_file_server_{name}"]

    def labelled(self, name: str, *labels: str) -> Any:
        """The counter for these values, which must come from fixed sets: looked up once."""
        key = (name, *labels)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self.counter(name).labels(*labels)
        return bound

    def request(self, method: str, route: str) -> Any:
        """The counter of requests. Args: route: one of those that were given, or anything."""
        bound = self._bound.get((method, route))
        if bound is None:
            method = method if method in families.METHODS else OTHER
            route = route if route in self._routes else OTHER
            bound = self._counters["http_requests_total"].labels(method, self._routes.get(route, OTHER))
            self._bound[(method, route)] = bound
        return bound


class Meter:
    """Durations that are measured where nothing may be counted, and their histogram.

    Args:
        measured: what pool threads append to; bounded.
        histogram: of prometheus_client, without labels.
    """

    def __init__(self, measured: deque[float], histogram: Any) -> None:
        self._measured = measured
        self._histogram = histogram

    def flush(self) -> None:
        """Count what has been measured, one addition for each bucket: a busy disk measures thousands in a second."""
        bounds, total = self._histogram._upper_bounds, 0.0
        counts = [0] * len(bounds)
        for _ in range(len(self._measured)):
            seconds = self._measured.popleft()
            total += seconds
            counts[next(place for place, bound in enumerate(bounds) if seconds <= bound)] += 1
        if total:
            self._histogram._sum.inc(total)
        for place, count in enumerate(counts):
            if count:
                self._histogram._buckets[place].inc(count)


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


def _put_torn_aside(folder: str, slot: int) -> int:
    torn = [path for path in files_of(folder) if path.endswith(f"_{slot}.db") and not is_readable(path)]
    for path in torn:
        os.unlink(path)
    return len(torn)


def files_of(folder: str) -> list[str]:
    """The files of values in ``folder``."""
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".db"))
