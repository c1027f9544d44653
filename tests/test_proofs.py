"""What only ``make prove`` measures works on a small scale, so that no change elsewhere breaks it unseen."""

from pathlib import Path

import pytest

from tests.prove.test_retention_million import RULES, make_store, sweep


@pytest.mark.parametrize("rule", RULES)
def test_a_measured_sweep_removes_what_its_rule_says(tmp_path: Path, rule: str) -> None:
    make_store(tmp_path / "store", 200)
    if "size" in rule:
        sweep(tmp_path, "here", 200, "a tenth, by age")

    took = sweep(tmp_path, "here", 200, rule)

    assert took.removed == (0 if rule == "nothing" else 20)
    assert took.files + took.removed == (180 if "size" in rule else 200)
