"""docs/health.md names every reason, every field of the status and every exit status, and none besides."""

import dataclasses
import re

import pytest

from hmacfs.cli import status as command
from hmacfs.operations import PATHS
from hmacfs.services.status import Completed, Status, Stored, Sweep, Tier
from tests.core.test_health import DEGRADING, KEEPING_OUT
from tests.support.server import ROOT

TEXT = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Cells of the rows below a heading of the first column."""
    _, _, rest = TEXT.partition(f"| {heading} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def named(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_every_path_is_there() -> None:
    assert {f"`{path}`" for path in PATHS if path != "/metrics"} == {row[0] for row in table("Path")}


def test_every_reason_is_there_with_its_condition() -> None:
    told = [(row[0].strip("`"), row[1]) for row in table("Code")]

    expected = [(code, "not ready") for code, _, _ in KEEPING_OUT] + [(code, "degraded") for code, _, _ in DEGRADING]
    assert told == expected


def test_every_field_of_the_status_is_there() -> None:
    told = set().union(*(named(row[0]) for row in table("Field")))

    assert told == {field.name for field in dataclasses.fields(Status)}


@pytest.mark.parametrize(
    ("field", "kind"), [("completed", Completed), ("store", Stored), ("tiers", Tier), ("sweep", Sweep)]
)
def test_every_part_of_a_field_is_there(field: str, kind: type) -> None:
    (row,) = (row for row in table("Field") if f"`{field}`" in row[0])

    assert named(row[1]) - {"null"} == {each.name for each in dataclasses.fields(kind)}


def test_every_exit_status_is_there() -> None:
    told = {int(row[0]) for row in table("Exit status")}

    assert told == {1, 2, *command._EXIT.values()}
