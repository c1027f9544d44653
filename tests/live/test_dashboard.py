"""Every query of the dashboard and every rule, asked of a real Prometheus that scrapes a real server under load."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from hmacfs.settings import keys
from tests.contrib import metricnames
from tests.support.http import get, put
from tests.support.polling import until
from tests.support.server import ROOT, Server, free_port
from tests.support.servers import program
from tests.support.slot import Slot

CONTRIB = ROOT / "contrib"
SCRAPES = 60.0
"""Seconds for enough scrapes to make a rate of each counter."""

pytestmark = pytest.mark.skipif(
    not next(key.works for key in keys() if key.name == "MetricsPort"), reason="this version serves no metrics"
)


class Prometheus:
    """``with Prometheus(folder, target):`` scrapes ``target``, host:port, every second, by our rules."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        self._port = free_port()
        job = {
            "job_name": "hmacfs",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [target]}],
        }
        rules = [str(CONTRIB / "prometheus" / f"hmacfs.{kind}.yml") for kind in ("rules", "alerts")]
        told = {"global": {"evaluation_interval": "1s"}, "rule_files": rules, "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML

    def __enter__(self) -> "Prometheus":
        options = {
            "config.file": self._folder / "prometheus.yml",
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": f"127.0.0.1:{self._port}",
        }
        command = [program("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
        with open(self._folder / "prometheus.log", "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(self._is_ready, "Prometheus is ready", SCRAPES)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _is_ready(self) -> bool:
        try:
            self.ask("up")
        except URLError:
            return False
        return True

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has at this moment."""
        return list(self._get("query", query=expression)["result"])

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **arguments: str) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self._port}/api/v1/{what}?{urlencode(arguments)}", timeout=20) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data


def use(server: Server, stop: Event) -> None:
    """Uploads, downloads and refusals of each kind, until told to stop."""
    number = 0
    while not stop.is_set():
        number += 1
        assert put(server, f"load/{number}", b"x" * 1000).status == 201
        assert get(server, f"load/{number}").status == 200
        assert get(server, "load/none").status == 404
        assert Slot(server, f"wrong/{number}", 1).unsigned.put(b"x").status == 403
        stop.wait(0.05)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder, operations, stop = tmp_path_factory.mktemp("scraped"), f"127.0.0.1:{free_port()}", Event()
    server = Server(folder, NumCores=2, MetricsPort=operations, BlockAfterFails=0)
    with server, Prometheus(folder, operations) as prometheus, ThreadPoolExecutor(1) as pool:
        load = pool.submit(use, server, stop)
        try:
            yield prometheus
        finally:
            stop.set()
            load.result(30)


def queries() -> list[tuple[str, str]]:
    """Title and query of every panel, for a young server."""
    panels = json.loads((CONTRIB / "grafana" / "hmacfs.json").read_text(encoding="utf-8"))["panels"]
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "20s").replace("$instance", ".*"))
        for panel in panels
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize(("title", "query"), queries())
def test_every_panel_has_data(scraped: Prometheus, title: str, query: str) -> None:
    if title == "Days until full":  # nothing to show where the disk does not fill
        query = query.partition(" / (-")[0].removeprefix("min(")

    until(lambda: scraped.ask(query), f"{title} has data", SCRAPES)


def test_every_rule_is_evaluated_without_an_error_and_nobody_is_alarmed(scraped: Prometheus) -> None:
    def all_ran() -> list[dict[str, Any]]:
        rules = scraped.rules()
        return rules if all(rule["health"] == "ok" for rule in rules) else []

    found = until(all_ran, "every rule has run", SCRAPES)

    for rule in found:
        if rule["type"] == "recording":
            until(lambda rule=rule: scraped.ask(rule["name"]), f"{rule['name']} has data", SCRAPES)  # type: ignore[misc]
        else:
            assert rule["state"] != "firing", rule["name"]


def test_the_server_has_all_metrics_that_the_specification_names(scraped: Prometheus) -> None:
    def absent() -> set[str]:
        return metricnames.series() - {each["metric"]["__name__"] for each in scraped.ask('{job="hmacfs"}')}

    until(lambda: not absent(), "all metrics are there", SCRAPES)
