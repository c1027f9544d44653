"""contrib/grafana: the dashboard can be imported anywhere, and asks only for what a server measures."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contrib import metricnames
from tests.support.server import ROOT
from tests.support.servers import program

FILE = ROOT / "contrib" / "grafana" / "hmacfs.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUESTIONS = ["Is it up?", "Is it fast?", "Who fails?", "How full?", "What expires?"]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]


def datasources(value: Any) -> Iterator[Any]:
    """Every data source that is named anywhere below."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "datasource":
                yield inner
            else:
                yield from datasources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from datasources(inner)


def test_the_dashboard_is_of_the_current_schema_and_answers_five_questions() -> None:
    assert DASHBOARD["schemaVersion"] == 41
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == QUESTIONS


def test_every_panel_has_an_id_of_its_own_and_no_dashboard_id_is_claimed() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert "id" not in DASHBOARD
    for panel in PANELS:
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names)


def test_the_data_source_and_the_servers_are_variables() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["instance"]["multi"]
    found = [*datasources(DASHBOARD["panels"]), variables["instance"]["datasource"]]
    assert len(found) > len(PANELS)
    assert all(each == DATASOURCE for each in found)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_has_a_unit_and_thresholds(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]

    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    if panel["type"] in ("stat", "gauge"):
        assert defaults["color"]["mode"] == "thresholds"


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_query_asks_for_metrics_and_labels_that_exist(title: str, target: dict[str, Any]) -> None:
    expression = target["expr"]

    assert metricnames.asked(expression)
    assert metricnames.asked(expression) <= metricnames.series() | {"up"}, title
    assert metricnames.unknown_labels(expression) <= {("up", "job")}, title
    assert expression.count("{") == expression.count('instance=~"$instance"'), title
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    known = {label for name in metricnames.asked(expression) for label in metricnames.LABELS.get(name, set())}
    assert shown <= known | {"instance"}, title


def test_every_query_is_promql(tmp_path: Path) -> None:
    expressions = [target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*") for _, target in TARGETS]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "panels.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")

    done = subprocess.run(
        [program("promtool"), "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(TARGETS)} rules found" in done.stdout


def test_panels_do_not_lie_over_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies over {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_every_metric_of_a_server_but_a_second_name_is_on_the_dashboard() -> None:
    shown = {name for _, target in TARGETS for name in metricnames.asked(target["expr"])}
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in metricnames.SERVED else name for name in shown}

    assert metricnames.SERVED - plain == {"hmac_file_server_goroutines"}
