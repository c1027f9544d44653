"""Ten power cuts at different moments under uploads in pieces, and how the weakest setting fares in the same."""

from pathlib import Path

from tests.prove.tables import write_table
from tests.support.resumablecut import Outcome, cut_power_while_resuming

CUTS = 10


def test_ten_power_cuts_lower_no_offset_that_was_told(tmp_path: Path) -> None:
    full = [_cut(tmp_path, number, "full") for number in range(CUTS)]
    none = [_cut(tmp_path, number, "none") for number in range(3)]  # promises less: shown, and proof that the cut cuts
    columns = ("Durability", "cut", "uploads told", "unfinished", "offsets lowered", "broken")
    rows = [
        (setting, number, outcome.told, outcome.unfinished, len(outcome.lowered), len(outcome.broken))
        for setting, outcomes in (("full", full), ("none", none))
        for number, outcome in enumerate(outcomes)
    ]
    write_table("powercut-resumable", "Power cuts under uploads in pieces", columns, rows)

    assert [outcome.lowered for outcome in full] == [[]] * CUTS
    assert [outcome.broken for outcome in full] == [[]] * CUTS
    assert any(outcome.lowered for outcome in none)


def _cut(tmp_path: Path, number: int, durability: str) -> Outcome:
    folder = tmp_path / f"{durability}-{number}"
    folder.mkdir()
    clients = 1 if number % 4 == 0 else 6
    outcome = cut_power_while_resuming(
        folder, after=5 + 15 * number, clients=clients, seed=number, Durability=durability
    )
    for image in folder.glob("*.img"):
        image.unlink()
    return outcome
