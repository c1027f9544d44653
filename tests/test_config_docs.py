"""config.toml, docs/configuration.md and the table of keys say one thing."""

import re
from pathlib import Path
from typing import Any

import pytest

from hmacfs import configfile
from hmacfs.settings import keys

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "config.toml"
DOCS = ROOT / "docs" / "configuration.md"
WORKING = {key.name: key.default for key in keys() if key.works}
_ROW = re.compile(r"^\| `(?P<key>[A-Za-z0-9]+)` \| `(?P<default>[^`]*)` \|", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^\s*(?P<key>[A-Za-z0-9_]+)\s*=")


def spelled(text: str) -> Any:
    """The value of a TOML spelling."""
    return configfile.parse_toml(f"x = {text}")["x"]


def exact(values: dict[str, Any]) -> dict[str, str]:
    """Values told apart by type too: false is not 0."""
    return {name: repr(value) for name, value in values.items()}


def documented() -> dict[str, Any]:
    return {row["key"]: spelled(row["default"]) for row in _ROW.finditer(DOCS.read_text(encoding="utf-8"))}


def sample_lines() -> list[str]:
    return SAMPLE.read_text(encoding="utf-8").splitlines()


def assignments() -> dict[str, int]:
    """Every key of config.toml, commented-out ones too, and the number of its line."""
    found = {}
    for number, line in enumerate(sample_lines()):
        if match := _ASSIGNMENT.match(line.lstrip("#")):
            assert match["key"] not in found
            found[match["key"]] = number
    return found


def test_config_toml_holds_every_working_key_with_its_default_and_no_other() -> None:
    written = configfile.read(str(SAMPLE))

    assert exact(written) == exact(WORKING)


def test_config_toml_spells_every_key_as_the_table_does() -> None:
    assert sorted(assignments()) == sorted(WORKING)


@pytest.mark.parametrize("name", WORKING)
def test_a_comment_stands_above_every_key_of_config_toml(name: str) -> None:
    lines = sample_lines()
    above = assignments()[name] - 1

    while _ASSIGNMENT.match(lines[above]):  # keys that belong together share one comment
        above -= 1

    assert re.match(r"# \w", lines[above]) or re.match(r"# \w", lines[above - 1])
    assert lines[above].startswith("#")
    assert not lines[above].startswith("# ---")


def test_config_toml_loads_without_errors_or_warnings() -> None:
    loaded = configfile.load(str(SAMPLE), {})

    assert loaded.errors == []
    assert loaded.warnings == []


def test_config_toml_means_the_defaults() -> None:
    loaded = configfile.load(str(SAMPLE), {})

    for key in keys():
        if not key.kind.is_path:
            assert getattr(loaded.settings, key.attribute) == key.kind.parse(key.default)


def test_the_docs_have_a_row_for_every_working_key_and_no_other() -> None:
    assert sorted(documented()) == sorted(WORKING)


@pytest.mark.parametrize("name", WORKING)
def test_the_docs_tell_the_same_default(name: str) -> None:
    assert repr(documented()[name]) == repr(WORKING[name])


def test_the_docs_have_one_row_for_a_key() -> None:
    names = [row["key"] for row in _ROW.finditer(DOCS.read_text(encoding="utf-8"))]

    assert len(names) == len(set(names))
