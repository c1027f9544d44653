"""A server under load of every kind that a real Prometheus watches, while its workers are killed and it is reloaded.

What Prometheus and the clients say is collected meanwhile, and compared when nothing runs any more.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmacfs.services.sweep import STEP
from tests.support import redis, traffic
from tests.support.metrics import Series
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.prometheus import SCRAPES, Prometheus, panel_queries
from tests.support.redis import RedisServer
from tests.support.running import make_ext4, mounted
from tests.support.server import Server
from tests.support.tally import COUNTED, Tally
from tests.support.traffic import Load, load_on

Panel = tuple[str, str]
"""Title and query."""

DELETED_BY_AGE: Series = ("hmac_file_server_files_deleted_total", (("reason", "FileTTL"),))
SETTLED = 30.0
"""Seconds until everything has been counted and scraped; usually two."""
SOON = {"hmacfs.services.janitor:LEASE_SECONDS": 5, "hmacfs.services.janitor:RENEW_SECONDS": 1}
"""Who is killed in the middle of a sweep keeps others from sweeping for so long; minutes in earnest."""


@dataclass
class Ordeal:
    """Attributes:
    is_alone: the store has a filesystem of its own, which nobody else fills or empties.
    panels: what each query answered under load, as numbers.
    rules: as Prometheus tells them under load.
    recorded: what each recording rule made.
    told: each counter as Prometheus had it at the end, less what it was at the beginning.
    tally: what clients were answered.
    aged: how many files a sweep had to remove.
    """

    is_alone: bool
    kills: int = 0
    reloads: int = 0
    scrapes: int = 0
    tally: Tally = field(default_factory=Tally)
    panels: dict[Panel, list[float]] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    recorded: dict[str, list[float]] = field(default_factory=dict)
    told: dict[Series, float] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    aged: int = 0

    def wrong(self) -> dict[Series, tuple[float, float, float]]:
        """What disagrees: what is told, and the least and the most that clients have seen."""
        requests = {series: value for series, value in self.told.items() if series != DELETED_BY_AGE}
        found = self.tally.wrong(requests)
        swept, (least, most) = self.told.get(DELETED_BY_AGE, 0), self.swept
        return found if least <= swept <= most else {**found, DELETED_BY_AGE: (swept, least, most)}

    @property
    def swept(self) -> tuple[int, int]:
        """The least and the most files that may be told as deleted by age: of a sweep that a kill cut off, those that
        one step had deleted may not have been told."""
        return self.aged - STEP * self.kills, self.aged


@contextmanager
def _store(folder: Path) -> Iterator[Path | None]:
    """A small filesystem on a disk, so that free space is what the load left; None where nobody may mount."""
    if os.geteuid():
        yield None
        return
    make_ext4(folder / "store.image", 3072)
    with mounted(folder / "disk", "-o", "loop", str(folder / "store.image")) as disk:
        yield disk / "store"


def undergo(folder: Path, seconds: float) -> Ordeal:
    """Load for so long, with two workers killed, a reload, and a Redis that dies and comes back; then compare.

    Args:
        folder: an existing empty one.
    """
    (folder / "prometheus").mkdir()
    target = f"127.0.0.1:{free_port()}"
    with _store(folder) as store, RedisServer() as shared:
        assert isinstance(shared, RedisServer)
        ordeal, keys = Ordeal(is_alone=store is not None), dict(traffic.KEYS)
        keys |= {"RedisAddr": f"127.0.0.1:{shared.port}", "RedisPassword": redis.PASSWORD, "MetricsPort": target}
        keys |= {"StoreDir": str(store)} if store is not None else {}
        with (
            Server(folder, constants=SOON, **keys) as server,
            Prometheus(folder / "prometheus", [target]) as prometheus,
        ):
            before = _at_rest(prometheus, target)
            with load_on(server, ordeal.tally) as load:
                _hurt(ordeal, server, shared, load, seconds)
                _look(ordeal, prometheus, load, f"{max(10, round(seconds))}s")
            ordeal.aged = len(load.aged)
            _settle(ordeal, prometheus, target, before)
    return ordeal


def _at_rest(prometheus: Prometheus, target: str) -> Mapping[Series, float]:
    """All counters before the load, what the start itself asked for included."""
    scrapes = f'count_over_time(hmac_file_server_uploads_total{{instance="{target}"}}[1m]) >= 3'
    until(lambda: prometheus.ask(scrapes), "it was scraped at rest", SCRAPES)
    return prometheus.samples(target)


def _hurt(ordeal: Ordeal, server: Server, shared: RedisServer, load: Load, seconds: float) -> None:
    """Everything that must not cost a count, evenly over the time."""

    def kill() -> None:
        pid = server.worker_pids()[0]
        with ordeal.tally.killing():
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in server.worker_pids(), "the worker has gone")
        ordeal.kills += 1
        until(lambda: len(server.ready_workers()) == 2, "another worker has come")

    def reload() -> None:
        old = server.worker_pids()
        with ordeal.tally.reloading():
            server.signal(signal.SIGHUP)
            until(lambda: len(server.ready_workers()) == 2 and not set(old) & set(server.worker_pids()), "it reloads")
        ordeal.reloads += 1

    events = (kill, shared.kill, reload, shared.start, kill, lambda: None)
    begun = time.monotonic()
    for place, event in enumerate(events, start=1):
        until(lambda place=place: time.monotonic() - begun >= seconds * place / len(events), "time", 2 * seconds)  # type: ignore[misc]
        load.check()
        event()


def _look(ordeal: Ordeal, prometheus: Prometheus, load: Load, interval: str) -> None:
    """Every panel and every rule, while the load runs."""
    deadline = time.monotonic() + SCRAPES
    for title, query in panel_queries(interval):
        while not (found := prometheus.numbers(query)) and time.monotonic() < deadline:
            load.check()
        ordeal.panels[title, query] = found
    until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), "every rule has run", SCRAPES)
    ordeal.rules = prometheus.rules()
    for name in [rule["name"] for rule in ordeal.rules if rule["type"] == "recording"]:
        while not (found := prometheus.numbers(name)) and time.monotonic() < deadline:
            load.check()
        ordeal.recorded[name] = found


def _settle(ordeal: Ordeal, prometheus: Prometheus, target: str, before: Mapping[Series, float]) -> None:
    """Wait until the last requests are counted and scraped; what is still wrong then stays so."""

    def agrees() -> bool:
        now = prometheus.samples(target)
        ordeal.names = {name for name, _ in now}
        changed = {series: value - before.get(series, 0) for series, value in now.items() if series[0] in COUNTED}
        ordeal.told = {
            series: value for series, value in changed.items() if value and ("path", "/metrics") not in series[1]
        }
        return not ordeal.wrong()

    deadline = time.monotonic() + SETTLED
    while not agrees() and time.monotonic() < deadline:
        time.sleep(0.2)
    ordeal.scrapes = len(prometheus.ask(f'up{{instance="{target}"}}[10m]')[0]["values"])
