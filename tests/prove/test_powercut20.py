"""Twenty power cuts at different moments, and how the weaker settings fare in the same."""

from pathlib import Path

from tests.prove.tables import write_table
from tests.support.powercut import cut_power

CUTS = 20


def test_twenty_power_cuts_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rows = []
    for number in range(CUTS):
        rows.append(("full", number, *_cut(tmp_path, number, "full")))
    for setting in ("data", "none"):  # promise less: shown, and proof that the cut cuts
        for number in range(4):
            rows.append((setting, number, *_cut(tmp_path, number, setting)))
    columns = ("Durability", "cut", "acknowledged", "present after it", "acknowledged and lost", "broken")
    write_table("powercut", "Power cuts under load", columns, rows)

    full = [row for row in rows if row[0] == "full"]
    assert len(full) == CUTS
    assert [row[4] for row in full] == [0] * CUTS
    assert [row[5] for row in full] == [0] * CUTS


def _cut(tmp_path: Path, number: int, durability: str) -> tuple[int, int, int, int]:
    folder = tmp_path / f"{durability}-{number}"
    folder.mkdir()
    clients = 1 if number % 4 == 0 else 8
    outcome = cut_power(folder, after=5 + 10 * number, clients=clients, seed=number, Durability=durability)
    for image in folder.glob("*.img"):
        image.unlink()
    return outcome.acknowledged, outcome.present, len(outcome.missing), len(outcome.broken)
