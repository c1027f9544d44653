"""Every query of the dashboard and every rule, asked of a real Prometheus that scrapes a real server under load, and
the numbers that it has of it. A whole minute of the same is tests/prove/test_prometheus_minute.py."""

import pytest

from hmacfs.settings import keys
from tests.contrib import metricnames
from tests.support.ordeal import Ordeal, Panel, undergo
from tests.support.prometheus import panel_queries
from tests.support.skipping import skip_or_fail

SECONDS = 12.0
INTERVAL = f"{SECONDS:.0f}s"

pytestmark = pytest.mark.skipif(
    not next(key.works for key in keys() if key.name == "MetricsPort"), reason="this version serves no metrics"
)


@pytest.fixture(scope="module")
def ordeal(tmp_path_factory: pytest.TempPathFactory) -> Ordeal:
    return undergo(tmp_path_factory.mktemp("ordeal"), SECONDS)


def test_the_counters_are_what_clients_were_answered(ordeal: Ordeal) -> None:
    assert ordeal.wrong() == {}
    assert (ordeal.kills, ordeal.reloads) == (2, 1)
    assert ordeal.tally.answered > 500


@pytest.mark.parametrize("panel", panel_queries(INTERVAL), ids=lambda panel: panel[0])
def test_every_panel_has_data(ordeal: Ordeal, panel: Panel) -> None:
    if not ordeal.panels[panel] and panel[0] == "Days until full" and not ordeal.is_alone:
        skip_or_fail("mounting needs root, and where others free space nothing fills")

    assert ordeal.panels[panel]


def test_every_rule_is_evaluated_without_an_error_and_nobody_is_alarmed(ordeal: Ordeal) -> None:
    assert {rule["health"] for rule in ordeal.rules} == {"ok"}
    assert [name for name, values in ordeal.recorded.items() if not values] == []
    assert [rule["name"] for rule in ordeal.rules if rule.get("state") == "firing"] == []


def test_the_server_has_all_metrics_that_the_specification_names(ordeal: Ordeal) -> None:
    assert metricnames.series() - ordeal.names == set()
