"""The same as tests/storage/test_versions_raced.py, for two hundred rounds."""

from pathlib import Path

from tests.support.racing import race


def test_eight_processes_race_for_one_path_for_two_hundred_rounds(tmp_path: Path) -> None:
    acknowledged, killed = race(tmp_path / "store", racers=8, rounds=200, seed=2)

    print(f"{acknowledged} acknowledged, {killed} killed")
    assert acknowledged >= 400
    assert killed >= 200
