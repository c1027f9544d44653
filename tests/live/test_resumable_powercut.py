"""An offset that a client was told outlives a power cut, and its bytes with it (Durability = "full")."""

from pathlib import Path

from tests.support.resumablecut import cut_power_while_resuming


def test_every_offset_that_was_told_outlives_a_power_cut_and_the_upload_goes_on_from_it(tmp_path: Path) -> None:
    outcome = cut_power_while_resuming(tmp_path, after=120, uploads=11, Durability="full")

    assert outcome.told > 10
    assert outcome.unfinished > 0
    assert outcome.lowered == []
    assert outcome.broken == []


def test_an_offset_that_was_told_a_moment_before_a_power_cut_outlives_it(tmp_path: Path) -> None:
    outcome = cut_power_while_resuming(tmp_path, after=6, clients=1, seed=3, Durability="full")

    assert outcome.told >= 1
    assert outcome.lowered == []
    assert outcome.broken == []
