"""docs/defaults.md tells the true defaults."""

import re
from pathlib import Path

import pytest

from hmacfs import configfile
from hmacfs.settings import keys

PAGE = Path(__file__).parents[1] / "docs" / "defaults.md"
ROW = re.compile(r"^\| `(?P<key>\w+)` \| (?P<theirs>[^|]+) \| `(?P<ours>[^`]*)` \| (?P<why>[^|]+) \|$", re.MULTILINE)
ROWS = {row["key"]: row for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
DEFAULTS = {key.name: key.default for key in keys()}


def test_the_keys_that_people_stumble_over_are_on_the_page() -> None:
    assert {"BlockAfterFails", "MetricsPort", "FileTTL", "DeleteFiles", "EnableVersioning"} <= set(ROWS)
    assert len(ROWS) == PAGE.read_text(encoding="utf-8").count("\n| `")


@pytest.mark.parametrize("name", ROWS)
def test_the_page_tells_the_true_default_and_a_reason(name: str) -> None:
    row = ROWS[name]

    assert repr(configfile.parse_toml(f"x = {row['ours']}")["x"]) == repr(DEFAULTS[name])
    assert row["theirs"].strip("` ") != row["ours"]
    assert row["why"].strip().endswith(".")
