"""A real Prometheus that scrapes real servers every second by the rules of contrib/, and the panels that ask it."""

import json
import math
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.support.metrics import Series
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import ROOT
from tests.support.servers import program

CONTRIB = ROOT / "contrib"
SCRAPES = 60.0
"""Seconds for enough scrapes to make a rate of each counter."""

_FOR = re.compile(r"^( +for: ).+$", re.MULTILINE)


class Prometheus:
    """``with Prometheus(folder, targets):`` scrapes each target, host:port, every second.

    Args:
        folder: an existing empty one, for its configuration and data.
        at_once: alerts fire as soon as what they ask for is true; the rest of each rule is as it stands in contrib/.
    """

    def __init__(self, folder: Path, targets: Sequence[str], *, at_once: bool = False) -> None:
        self._folder = folder
        self._port = free_port()
        job = {
            "job_name": "hmacfs",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": list(targets)}],
        }
        rules = []
        for kind in ("rules", "alerts"):
            text = (CONTRIB / "prometheus" / f"hmacfs.{kind}.yml").read_text(encoding="utf-8")
            copy = folder / f"hmacfs.{kind}.yml"
            copy.write_text(_FOR.sub(r"\g<1>0s", text) if at_once else text, encoding="utf-8")
            rules.append(str(copy))
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

    def numbers(self, expression: str) -> list[float]:
        """The values of those that are numbers: 0/0, which a quantile of nothing is, would be drawn as a gap."""
        values = [float(each["value"][1]) for each in self.ask(expression)]
        return [value for value in values if not math.isnan(value)]

    def samples(self, target: str) -> dict[Series, float]:
        """All that it read of one server last, without the labels that it added itself."""
        found = {}
        for each in self.ask(f'{{job="hmacfs", instance="{target}"}}'):
            labels = {key: value for key, value in each["metric"].items() if key not in ("job", "instance")}
            found[labels.pop("__name__"), tuple(sorted(labels.items()))] = float(each["value"][1])
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **arguments: str) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self._port}/api/v1/{what}?{urlencode(arguments)}", timeout=20) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data


def panel_queries(interval: str = "10s", instance: str = ".*") -> list[tuple[str, str]]:
    """Title and query of every panel, with its variables as Grafana expands them.

    Args:
        interval: the window of rates, a few scrapes.
    """
    panels = json.loads((CONTRIB / "grafana" / "hmacfs.json").read_text(encoding="utf-8"))["panels"]
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", interval).replace("$instance", instance))
        for panel in panels
        for target in panel.get("targets", ())
    ]
