"""No upload depends on shared state: nine outages of three servers at three moments, each kind and each moment thrice
or twice. ``make prove`` goes through all 36."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

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


class Summary:
    """Prints the table of cells behind the results of all tests."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.cells:
            return
        rows = [Cell.COLUMNS, *(cell.row() for cell in self.cells)]
        widths = [max(len(row[at]) for row in rows) for at in range(len(Cell.COLUMNS))]
        terminalreporter.section("outages of shared state")
        for row in rows:
            terminalreporter.line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))


@pytest.fixture(scope="module")
def summary(request: pytest.FixtureRequest) -> Summary:
    printer = Summary()
    request.config.pluginmanager.register(printer, "summary of outages")
    return printer


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
    sites: dict[str, Site], summary: Summary, tier: str, kind: str, moment: str
) -> None:
    cell = sites[tier].cell(kind, moment)
    summary.cells.append(cell)

    assert cell.outcome == "as without"
    assert cell.extra < MOST_EXTRA
