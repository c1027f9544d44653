"""The text that Prometheus reads: the files of all workers added up, and the gauges as they are now.

Made in a thread of its own, since reading and adding takes milliseconds. prometheus-flask-exporter turns what is
collected into the text and its content type.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_flask_exporter import PrometheusMetrics

from hmacfs.telemetry import counters, families

Reading = float | Mapping[str, float]
"""A gauge's value; where it has a label, the value for each of the label's."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The classic format, whatever is asked for: in OpenMetrics a gauge may not be called ``active_connections_total``."""


class Exposition:
    """Args:
    folder: where the workers' files are.
    gauges: reads every family of ``families.GAUGES`` that is known, by name.
    """

    def __init__(self, folder: str, gauges: Callable[[], Mapping[str, Reading]]) -> None:
        self._folder = folder
        self._gauges = gauges
        self._exporter = PrometheusMetrics(None, path=None, export_defaults=False, registry=self)
        self._torn: set[tuple[str, int]] = set()

    def text(self) -> tuple[bytes, int]:
        """The text, and how many files were found torn that were not before. For a pool thread: touches no value."""
        before = len(self._torn)
        text, _ = self._exporter.generate_metrics()
        return text.encode(), len(self._torn) - before

    def collect(self) -> Iterator[Metric]:
        """As a registry does it for prometheus_client."""
        yield from self._counted()
        readings = self._gauges()
        for family in families.GAUGES:
            if (reading := readings.get(family.name)) is not None:
                yield _gauge(family, reading)

    def _counted(self) -> Iterable[Metric]:
        files = counters.files_of(self._folder)
        try:
            return _merged(files)
        except Exception:  # noqa: BLE001 - a torn file may raise anything, and must not hide the others
            torn = [path for path in files if not counters.is_readable(path)]
            self._torn.update((path, os.stat(path).st_ino) for path in torn)
            return _merged([path for path in files if path not in torn and os.path.getsize(path)])


def _merged(files: list[str]) -> Iterable[Metric]:
    found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return found


def _gauge(family: families.Family, reading: Reading) -> Metric:
    gauge = GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
    for label, value in reading.items() if isinstance(reading, Mapping) else ():
        gauge.add_metric([label], value)
    if not isinstance(reading, Mapping):
        gauge.add_metric([], reading)
    return gauge
