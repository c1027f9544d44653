"""The observer that counts. It stands on the way of every answer: what it needs is looked up once."""

from collections.abc import Callable

from hmacfs.errors import RequestError, TooManyRequests
from hmacfs.services.observer import OTHER as NOWHERE
from hmacfs.services.observer import SLOT, UPLOAD, Exchange, Observer
from hmacfs.telemetry import families
from hmacfs.telemetry.counters import Counters
from hmacfs.telemetry.families import OTHER

ABORTED = "aborted"
"""The one code that no answer carries: a download that was broken off behind its head."""


def _codes(kind: type[RequestError] = RequestError) -> set[str]:
    return {kind.code}.union(*(_codes(each) for each in kind.__subclasses__()))


class MetricsObserver(Observer):
    """Counts what happens. For greenlets of the worker alone, as ``Counters`` are.

    Args:
        stored: told what came into the store and what went: files, and bytes.
    """

    def __init__(self, counters: Counters, stored: Callable[[int, int], None]) -> None:
        self._counters = counters
        self._stored = stored
        self._codes = _codes() | {ABORTED}
        self._request = counters.request
        self._uploads = counters.counter("uploads_total").inc
        self._upload_errors = counters.counter("upload_errors_total").inc
        self._upload_bytes = counters.counter("upload_bytes_total").inc
        self._upload_seconds = counters.histogram("upload_duration_seconds").observe
        self._upload_size = counters.histogram("upload_size_bytes").observe
        self._resumed = counters.counter("resumed_uploads_total").inc
        self._deduplicated = counters.counter("deduplicated_bytes_total").inc
        self._downloads = counters.counter("downloads_total").inc
        self._download_errors = counters.counter("download_errors_total").inc
        self._download_bytes = counters.counter("download_bytes_total").inc
        self._download_seconds = counters.histogram("download_duration_seconds").observe
        self._bans = counters.counter("bans_total").inc
        self._limited = counters.counter("rate_limited_total").inc
        self._failovers = counters.counter("state_failovers_total").inc
        self._served: tuple[str, str] | None = None
        self._down: frozenset[str] = frozenset()
        for reason in families.DELETED:
            counters.counter("files_deleted_total", reason)
        if counters.torn:
            self.error("metrics", RequestError.code, counters.torn)

    def answered(self, exchange: Exchange) -> None:
        self._request(exchange.method, exchange.route).inc()
        if exchange.kept:
            self._upload_bytes(exchange.kept)
        if exchange.code:
            self._refused(exchange)
        elif exchange.route == SLOT and exchange.method == "GET":
            self._sent(exchange)
        elif exchange.is_continued:
            self._resumed()

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        self._uploads()
        self._upload_seconds(seconds)
        self._upload_size(size)
        self._stored(1, size)

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:
        self._deleted(reason)
        self._stored(-1, -size)

    def file_absorbed(self, size: int) -> None:
        self._stored(-1, -size)

    def version_removed(self, name: str, number: int, size: int, freed: int, reason: str) -> None:
        self._deleted(reason)
        self._stored(-1, -size)

    def content_shared(self, name: str, saved: int) -> None:
        self._deduplicated(saved)

    def signature_refused(self, exchange: Exchange, reason: str, size: int, content_type: str) -> None:
        protocol = exchange.protocol if exchange.protocol in families.PROTOCOLS else OTHER
        reason = reason if reason in families.REASONS else OTHER
        self._counters.counter("auth_failures_total", protocol, reason).inc()

    def banned(self, address: str, seconds: int, times: int) -> None:
        self._bans()

    def tiers_changed(self, sessions: str, catalog: str, down: frozenset[str]) -> None:
        if self._served not in (None, (sessions, catalog)):
            self._failovers()
        for backend in down - self._down:
            self._counters.counter("backend_errors_total", backend).inc()
        self._served, self._down = (sessions, catalog), down

    def error(self, operation: str, code: str, count: int = 1) -> None:
        """Something went wrong beside the requests. Args: operation: one of ``families.OPERATIONS``."""
        self._counters.counter("errors_total", operation, code).inc(count)

    def _sent(self, exchange: Exchange) -> None:
        if exchange.sent:
            self._download_bytes(exchange.sent)
        if exchange.sent < exchange.whole:
            self._download_errors()
            self.error("download", ABORTED)
        elif exchange.status in (200, 206):
            self._downloads()
            self._download_seconds(exchange.seconds)

    def _refused(self, exchange: Exchange) -> None:
        operation = _operation(exchange)
        if operation == "upload":
            self._upload_errors()
        elif operation == "download" and exchange.method == "GET":
            self._download_errors()
        code = exchange.code if exchange.code in self._codes else RequestError.code
        self.error(operation, code)
        if code == TooManyRequests.code:
            self._limited()

    def _deleted(self, reason: str) -> None:
        reason = reason if reason in families.DELETED else OTHER
        self._counters.counter("files_deleted_total", reason).inc()


def _operation(exchange: Exchange) -> str:
    """What was tried, one of ``families.OPERATIONS``."""
    if exchange.route == NOWHERE:
        return OTHER
    if exchange.route == UPLOAD or exchange.method in ("PUT", "POST", "PATCH"):
        return "upload"
    if exchange.method in ("GET", "HEAD"):
        return "download"
    return "delete" if exchange.method == "DELETE" else OTHER
