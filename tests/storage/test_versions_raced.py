"""Processes that replace one path at once, some of them killed: everything is whole, nothing acknowledged is lost."""

from pathlib import Path

from tests.support.racing import race


def test_eight_processes_race_for_one_path_and_are_killed_at_random(tmp_path: Path) -> None:
    acknowledged, killed = race(tmp_path / "store", racers=8, rounds=10, seed=1)

    assert acknowledged >= 20
    assert killed >= 10
