"""Settings to what is counted, and to what operators ask: metrics and health, apart from the public or beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from hmacfs import __version__, offload
from hmacfs.errors import RequestError, StorageBusy
from hmacfs.offload import make_pool
from hmacfs.services.bans import BanList
from hmacfs.services.observer import OTHER, SLOT, UPLOAD, Observer
from hmacfs.services.observers import Observers
from hmacfs.services.status import Completed
from hmacfs.settings import Settings, operations_address
from hmacfs.state.failover import SharedState
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import figures, fsutil
from hmacfs.storage.figures import Figures
from hmacfs.telemetry import exposition, families
from hmacfs.telemetry.counters import Counters
from hmacfs.telemetry.exposition import Exposition, Reading
from hmacfs.telemetry.latest import Latest
from hmacfs.telemetry.metrics import MetricsObserver
from hmacfs.web.operations import Answer, Operations
from hmacfs.web.reply import Reply
from hmacfs.web.requests import Environ

METRICS, LIVE, READY, STATUS = "/metrics", "/health/live", "/health/ready", "/status.json"
PATHS = (METRICS, LIVE, READY, STATUS)
"""Every path of operations; each is a value of the label ``path``."""

_TEXT_FRESH, _TEXT_PATIENCE = 1.0, 5.0
_STORE_FRESH, _STORE_PATIENCE = 5.0, 1.0
"""Seconds. A store that hangs delays an answer by one of them; its figures are the last known ones then."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the gauges are read."""

    board: Scoreboard
    bans: BanList
    state: SharedState
    figures: Latest[Figures]

    def store(self) -> Figures | None:
        """Figures of the store, in bounded time: the last known ones while it does not answer, None before it has
        answered once. Who asks for health hears why."""
        try:
            return self.figures.get()
        except Exception:  # noqa: BLE001 - whatever a disk does, the rest can be told
            return self.figures.value


def store_figures(settings: Settings) -> Latest[Figures]:
    """Figures of the store, in bounded time. In a thread of their own: a disk that hangs must not keep the rest from
    being told."""
    look = partial(make_pool(1).run, figures.of_store, settings.store_dir)
    return Latest(look, fresh=_STORE_FRESH, patience=_STORE_PATIENCE)


class Counting:
    """What this worker counts.

    Args:
        folder: of the server's counters, which the master has made; empty where nothing is counted.
    """

    def __init__(self, settings: Settings, folder: str, board: Scoreboard) -> None:
        self._settings = settings
        self._folder = folder if settings.metrics_enabled else ""
        self._counters: Counters | None = None
        self._observer: MetricsObserver | None = None
        self._scrape: _Scrape | None = None
        if self._folder:
            for measured in (offload.waits, fsutil.sync_seconds):
                measured.clear()  # of the master, who forks it to every worker and counts nothing
            counters = self._counters = Counters(self._folder, board.slot, _routes(settings.upload_sub_dir))
            self._observer = MetricsObserver(counters, board.add_stored)

    def observing(self, observer: Observer) -> Observer:
        """``observer``, and beside it the one that counts."""
        return observer if self._observer is None else Observers((observer, self._observer))

    def tick(self) -> None:
        """Count what pool threads have measured. Call it once a second in the worker's loop."""
        if self._counters is not None:
            self._counters.histogram("disk_queue_seconds").observe_all(offload.waits)
            self._counters.histogram("fsync_duration_seconds").observe_all(fsutil.sync_seconds)

    def head_refused(self) -> None:
        """A request head that could not be understood is refused: nobody knows its method or where it leads."""
        if self._counters is not None and self._observer is not None:
            self._counters.request(families.OTHER, OTHER).inc()
            self._observer.error(families.OTHER, families.BAD_HEAD)

    def completed(self) -> Completed | None:
        """What all workers have completed, at most a second old; None where that is not known."""
        return self._scrape.completed() if self._scrape is not None else None

    def operations(self, sources: Sources, answers: Mapping[str, Answer] | None = None) -> Operations:
        """What answers the paths of operations; nothing where MetricsEnabled is false.

        Args:
            answers: those of ``PATHS`` that are not ours.
        """
        if not self._settings.metrics_enabled:
            return Operations({}, is_apart=False)
        is_apart = operations_address(self._settings) is not None
        if self._counters is None or self._observer is None:  # another WSGI server, or a test: nobody counts
            return Operations({**(answers or {})}, is_apart=is_apart)
        for backend in sources.state.names:
            self._counters.counter("backend_errors_total", backend)
        scrape = self._scrape = _Scrape(self, self._folder, sources, self._observer)
        counters = self._counters
        return Operations(
            {METRICS: scrape.answer, **(answers or {})},
            is_apart=is_apart,
            count=lambda method, path: counters.request(method, path or OTHER).inc(),
        )


class _Scrape:
    def __init__(self, counting: Counting, folder: str, sources: Sources, observer: MetricsObserver) -> None:
        self._counting = counting
        self._sources = sources
        self._observer = observer
        self._exposition = Exposition(folder, self._gauges)
        self._threads = make_pool(1)
        self._text: Latest[bytes] = Latest(self._make, fresh=_TEXT_FRESH, patience=_TEXT_PATIENCE)

    def answer(self, _environ: Environ) -> Reply:
        self._sources.store()  # the gauges have the last known one
        try:
            text = self._text.get()
        except TimeoutError as error:
            raise StorageBusy("the metrics were not read in time") from error
        return Reply(200, [("Content-Type", exposition.CONTENT_TYPE), ("Content-Length", str(len(text)))], text)

    def completed(self) -> Completed | None:
        """From the text itself, so that both always agree."""
        try:
            text = self._text.get()
        except OSError:  # TimeoutError too
            return None
        uploads, downloads = (_value(text, families.OURS + name) for name in ("uploads_total", "downloads_total"))
        return Completed(uploads, downloads)

    def _make(self) -> bytes:
        self._counting.tick()
        text, torn = self._threads.run(self._exposition.text)
        if torn:
            self._observer.error("metrics", RequestError.code, torn)
        return text

    def _gauges(self) -> dict[str, Reading]:
        load, serving = self._sources.board.load(), self._sources.state.serving()
        readings: dict[str, Reading] = {
            "memory_usage_bytes": load.memory,
            "cpu_usage_percent": load.cpu,
            "active_connections_total": load.connections,
            "goroutines_count": load.greenlets,
            "hmac_file_server_goroutines": load.greenlets,
            "hmac_file_server_transfers_active": {"upload": load.uploads, "download": load.downloads},
            "hmac_file_server_bans_active": self._sources.bans.active,
            "hmac_file_server_backend_up": {name: name not in serving.down for name in self._sources.state.names},
            "hmac_file_server_build_info": {__version__: 1},
        }
        if (store := self._sources.figures.value) is not None:
            stock = store.stock
            files, stored = self._sources.board.stored(stock.counted_ms, stock.files, stock.stored)
            readings |= {
                "hmac_file_server_sessions_active": store.sessions,
                "hmac_file_server_store_free_bytes": store.free,
                "hmac_file_server_store_files": files,
                "hmac_file_server_store_bytes": stored,
                "hmac_file_server_versions_kept": stock.versions,
            }
        return readings


def _routes(prefix: str) -> dict[str, str]:
    """Route templates by what a path leads to."""
    base = f"/{prefix}" if prefix else ""
    return {
        SLOT: f"{base}/<path>",
        UPLOAD: f"{base}/.uploads/<id>",
        OTHER: OTHER,
        **{path: path for path in PATHS},
    }


def _value(text: bytes, name: str) -> int:
    """Of a counter without labels."""
    start = f"\n{name} ".encode()
    _, found, rest = text.partition(start)
    return int(float(rest.partition(b"\n")[0])) if found else 0
