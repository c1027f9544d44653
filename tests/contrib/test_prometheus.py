"""contrib/prometheus: files that the real promtool accepts, rules that do what they say, and runbooks that exist."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.errors import RequestError
from tests.contrib import metricnames
from tests.support.server import ROOT
from tests.support.servers import program

FOLDER = ROOT / "contrib" / "prometheus"
RULES = [FOLDER / "hmacfs.rules.yml", FOLDER / "hmacfs.alerts.yml"]
PAGE = ROOT / "docs" / "operations.md"
_EXPRESSION = re.compile(r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.+))", re.MULTILINE)
_RECORD = re.compile(r"^ +- record: (\S+)$", re.MULTILINE)
_ALERT = re.compile(r"^ +- alert: (\S+)$", re.MULTILINE)
_CODES = re.compile(r'code=~"([^"]+)"')


def promtool(*arguments: str) -> str:
    """What promtool says; AssertionError with it when it finds something wrong."""
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def expressions() -> list[str]:
    """Every expression of the rules."""
    return [folded or plain for path in RULES for folded, plain in _EXPRESSION.findall(text_of(path))]


def faces_of(kind: type[RequestError]) -> Iterator[tuple[int, str]]:
    yield kind.status, kind.code
    for below in kind.__subclasses__():
        yield from faces_of(below)


def test_promtool_accepts_the_configuration_and_finds_the_rules() -> None:
    assert f"{len(RULES)} rule files found" in promtool("check", "config", "prometheus.yml")


def test_promtool_accepts_the_rules() -> None:
    said = promtool("check", "rules", *(path.name for path in RULES))

    found = sum(int(count) for count in re.findall(r"(\d+) rules found", said))
    assert found == len(expressions())


def test_the_rules_do_what_their_unit_tests_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", "hmacfs.test.yml")


@pytest.mark.parametrize("alert", _ALERT.findall(text_of(RULES[1])))
def test_every_alert_is_tested_and_has_a_runbook(alert: str) -> None:
    rules = text_of(RULES[1])
    rule = rules[rules.index(f"alert: {alert}\n") :].partition("- alert:")[0]
    headings = re.findall(r"^#+ (.+)$", text_of(PAGE), re.MULTILINE)

    for name in ("summary", "description"):
        assert f"          {name}: " in rule
    assert f'runbook: "docs/operations.md#{alert.lower()}"' in rule
    assert alert in headings
    assert f"alertname: {alert}\n        exp_alerts" in text_of(FOLDER / "hmacfs.test.yml")


def test_rules_ask_only_for_metrics_that_a_server_has() -> None:
    recorded = {name for path in RULES for name in _RECORD.findall(text_of(path))}

    for expression in expressions():
        assert metricnames.asked(expression) <= metricnames.series() | recorded | {"up"}, expression
        assert metricnames.unknown_labels(expression) <= {("up", "job")}, expression


def test_faults_are_the_errors_that_are_the_server_s_own() -> None:
    (codes,) = {codes for expression in expressions() for codes in _CODES.findall(expression)}

    # Not: what nobody can serve, a stop, and an uploader who has had enough.
    others = {"unsupported-coding", "draining", "quota-exceeded"}
    assert set(codes.split("|")) == {code for status, code in faces_of(RequestError) if status >= 500} - others


def test_metric_names_are_found_in_expressions() -> None:
    expression = 'sum by (job, le) (rate(a_bucket{x="b_c", y!~"d"}[5m])) / on (job) (e:f:g > 0) and g_total offset 5m'

    assert metricnames.asked(expression) == {"a_bucket", "e:f:g", "g_total"}
    assert metricnames.matched(expression) == {("a_bucket", "x"), ("a_bucket", "y")}
