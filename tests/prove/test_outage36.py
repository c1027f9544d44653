"""All 36 outages of shared state: three servers, four kinds, three moments of an upload."""

from pathlib import Path

import pytest

from tests.live.outage import KINDS, MOMENTS, MOST_EXTRA, WORKERS, Cell, Site
from tests.live.tierservers import tier_servers
from tests.prove.tables import write_table
from tests.support.server import Server

_NOTE = "An outage changes no answer, and the tier comes back by itself with what was recorded meanwhile"


@pytest.mark.parametrize("name", tier_servers())
def test_no_outage_of_shared_state_changes_an_answer(tmp_path: Path, name: str) -> None:
    tier = tier_servers()[name]()
    with tier.server, Server(tmp_path, NumCores=WORKERS, **tier.keys()) as server:
        site = Site(server, tier)
        cells = [site.cell(kind, moment) for kind in KINDS for moment in MOMENTS]
    write_table(f"outage-{name}", f"{_NOTE}: {name}", Cell.COLUMNS, [cell.row() for cell in cells])

    assert [cell for cell in cells if cell.outcome != "as without"] == []
    assert [cell for cell in cells if cell.extra >= MOST_EXTRA] == []
