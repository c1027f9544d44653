"""What clients were answered, as the counters that a server should show: exact, but for requests that a kill cut off.

Every request has a connection of its own that is read to its end. The server closes it when the request is counted, so
an end that came before a kill stands for a counted request.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from tests.support.metrics import Series

_OURS = "hmac_file_server_"
COUNTED = {
    "http_requests_total",
    *(
        _OURS + name
        for name in (
            *("uploads_total", "upload_errors_total", "upload_bytes_total", "resumed_uploads_total"),
            *("upload_size_bytes_count", "upload_size_bytes_sum", "upload_duration_seconds_count"),
            *("downloads_total", "download_errors_total", "download_bytes_total", "download_duration_seconds_count"),
            *("errors_total", "auth_failures_total", "rate_limited_total", "files_deleted_total"),
        )
    ),
}
"""Names of the series that clients can foretell."""


@dataclass(frozen=True)
class Outcome:
    """How a request may end.

    Attributes:
        code: the answer's X-Error-Code, empty for a success.
        received: bytes of the body that were taken in.
        sent: bytes of a file that were sent.
        published: size of the file that this request completed; None for all others.
        is_continued: the body went on where another had stopped.
        refusal: protocol and reason of a signature that did not hold.
        deleted: files that this removed, by reason.
    """

    status: int
    code: str = ""
    received: int = 0
    sent: int = 0
    published: int | None = None
    is_continued: bool = False
    refusal: tuple[str, str] | None = None
    deleted: Mapping[str, int] = field(default_factory=dict)


def _series(name: str, **labels: str) -> Series:
    return (name if name == "http_requests_total" else _OURS + name), tuple(sorted(labels.items()))


def _counted(method: str, template: str, outcome: Outcome) -> Iterator[tuple[Series, float]]:
    """What one request adds to which series (docs/metrics.md)."""
    yield _series("http_requests_total", method=method, path=template), 1
    yield _series("upload_bytes_total"), outcome.received
    for reason, count in outcome.deleted.items():
        yield _series("files_deleted_total", reason=reason), count
    if outcome.published is not None:
        yield from ((_series(name), 1) for name in ("uploads_total", "upload_duration_seconds_count"))
        yield from ((_series("upload_size_bytes_count"), 1), (_series("upload_size_bytes_sum"), outcome.published))
    if outcome.code:
        yield from _refused(method, template, outcome)
    elif method == "GET":
        yield _series("download_bytes_total"), outcome.sent
        if outcome.status in (200, 206):
            yield from ((_series(name), 1) for name in ("downloads_total", "download_duration_seconds_count"))
    yield _series("resumed_uploads_total"), outcome.is_continued


def _refused(method: str, template: str, outcome: Outcome) -> Iterator[tuple[Series, float]]:
    operation = "upload" if method in ("PUT", "POST", "PATCH") or template.endswith("<id>") else "download"
    operation = "delete" if (method, operation) == ("DELETE", "download") else operation
    if template == "other" or method == "other":
        operation = "other"
    yield _series("errors_total", operation=operation, code=outcome.code), 1
    if operation == "upload":
        yield _series("upload_errors_total"), 1
    elif operation == "download" and method == "GET":
        yield _series("download_errors_total"), 1
    if outcome.code == "too-many-requests":
        yield _series("rate_limited_total"), 1
    if outcome.refusal is not None:
        protocol, reason = outcome.refusal
        yield _series("auth_failures_total", protocol=protocol, reason=reason), 1


@dataclass(frozen=True)
class _Done:
    """A request from its begin to the end of its connection, in monotonic seconds.

    Attributes:
        outcomes: one where it was answered, else all that it could have had.
    """

    began: float
    ended: float
    was_answered: bool
    adds: tuple[Mapping[Series, float], ...]

    def is_during(self, spans: Iterable[tuple[float, float]]) -> bool:
        """Whether it was under way in any of them."""
        return any(self.began <= end and self.ended >= begin for begin, end in spans)


class Tally:
    """Collects what several threads see."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._done: list[_Done] = []
        self._kills: list[tuple[float, float]] = []
        self._reloads: list[tuple[float, float]] = []

    @property
    def answered(self) -> int:
        return sum(each.was_answered for each in self._done)

    @property
    def cut_off(self) -> int:
        """Requests that were never answered."""
        return len(self._done) - self.answered

    def note(self, began: float, method: str, template: str, outcomes: Iterable[Outcome], *, answered: bool) -> None:
        """A connection has ended just now."""
        adds = tuple(_sum(_counted(method, template, outcome)) for outcome in outcomes)
        with self._lock:
            self._done.append(_Done(began, time.monotonic(), answered, adds))

    @contextmanager
    def killing(self) -> Iterator[None]:
        """A ``with`` block in which a worker is killed and has gone at its end."""
        began = time.monotonic()
        yield
        self._kills.append((began, time.monotonic()))

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """A ``with`` block in which workers are replaced. One that stops may cut off a connection on which nothing has
        come yet; what is answered counts as always."""
        began = time.monotonic()
        yield
        self._reloads.append((began, time.monotonic()))

    def bounds(self) -> dict[Series, tuple[float, float]]:
        """The least and the most that a server may tell: the same but for what was under way at a kill.

        AssertionError where a request was cut off while no worker was killed or replaced.
        """
        least: Counter[Series] = Counter()
        most: Counter[Series] = Counter()
        for each in self._done:
            is_sure = each.was_answered and not each.is_during(self._kills)
            assert each.was_answered or each.is_during([*self._kills, *self._reloads]), "cut off while nothing happened"
            adds = Counter({series: max(add.get(series, 0) for add in each.adds) for series in set().union(*each.adds)})
            most.update(adds)
            if is_sure:
                least.update(adds)
        return {series: (least[series], most[series]) for series in most}

    def wrong(self, told: Mapping[Series, float]) -> dict[Series, tuple[float, float, float]]:
        """Series that a server tells otherwise: what it tells, the least and the most that would be right."""
        bounds, asked = self.bounds(), {series: value for series, value in told.items() if series[0] in COUNTED}
        found = {series: (asked.get(series, 0), *bounds.get(series, (0, 0))) for series in {*asked, *bounds}}
        return {series: each for series, each in sorted(found.items()) if not each[1] <= each[0] <= each[2]}


def _sum(pairs: Iterable[tuple[Series, float]]) -> Mapping[Series, float]:
    found: Counter[Series] = Counter()
    for series, value in pairs:
        found[series] += value
    return {series: value for series, value in found.items() if value}
