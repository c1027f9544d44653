"""What was answered 201 outlives a power cut (Durability = "full")."""

from pathlib import Path

from tests.support.powercut import cut_power


def test_every_acknowledged_file_outlives_a_power_cut_and_none_is_broken(tmp_path: Path) -> None:
    outcome = cut_power(tmp_path, after=120, Durability="full")

    assert outcome.acknowledged >= 120
    assert outcome.missing == []
    assert outcome.broken == []


def test_a_file_that_was_acknowledged_a_moment_before_a_power_cut_outlives_it(tmp_path: Path) -> None:
    outcome = cut_power(tmp_path, after=7, clients=1, Durability="full")

    assert outcome.acknowledged == outcome.present == 7
    assert outcome.missing == []
    assert outcome.broken == []
