"""No upload depends on shared state: nine outages of three servers at three moments, each kind and each moment thrice
or twice. ``make prove`` goes through all 36."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import ROW
from tests.live.outage import MOST_EXTRA, WORKERS, Cell, Site
from tests.live.tierservers import tier_servers
from tests.support.server import Server

CELLS = [
    ("redis", "killed", "before"),
    ("redis", "stopped", "during"),
    ("redis", "emptied", "between"),
    ("postgres", "stopped", "before"),
    ("postgres", "emptied", "during"),
    ("postgres", "refused", "between"),
    ("mariadb", "refused", "before"),
    ("mariadb", "killed", "during"),
    ("mariadb", "stopped", "between"),
]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """A server for each tier, started when it is first asked for."""
    with ExitStack() as stack:

        class Sites(dict[str, Site]):
            def __missing__(self, name: str) -> Site:
                tier = tier_servers()[name]()
                stack.enter_context(tier.server)
                server = Server(tmp_path_factory.mktemp(name), NumCores=WORKERS, **tier.keys())
                self[name] = Site(stack.enter_context(server), tier)
                return self[name]

        yield Sites()


@pytest.mark.parametrize(("tier", "kind", "moment"), CELLS)
def test_an_outage_of_shared_state_changes_no_answer(
    sites: dict[str, Site], record_property: Callable[[str, object], None], tier: str, kind: str, moment: str
) -> None:
    cell = sites[tier].cell(kind, moment)
    record_property(ROW, ["outages of shared state", list(Cell.COLUMNS), list(cell.row())])

    assert cell.outcome == "as without"
    assert cell.extra < MOST_EXTRA
