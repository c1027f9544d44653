"""What every test shares: among it the search for leaks in all that hmacfs writes (tests/support/leaks.py)."""

from collections.abc import Generator

import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests.support import heard, leaks
from tests.support.distribution import Scheduling, in_order

# A shared machine pauses for longer than hypothesis's deadline of 200 ms now and then; a slow example is no failure.
settings.register_profile("hmacfs", deadline=None)
settings.load_profile("hmacfs")

ROW = "row of a table"
"""``record_property(ROW, [title, columns, values])`` prints a row behind the results of all tests."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows(*kinds, because): what this test itself makes hmacfs show")
    heard.begin()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test fails in its teardown for each leak in what was written since the one before."""
    report = yield
    if report.when != "teardown":
        return report
    heard.files()
    for title, text in report.sections:
        leaks.wrote(title, text)
    allowed = {kind for mark in item.iter_markers("shows") for kind in mark.args}
    told = [*map(str, (leak for leak in leaks.found() if leak.kind not in allowed)), *heard.unheard()]
    if told and report.outcome == "failed":
        report.sections.append(("Leaks", "\n".join(told)))
    elif told:
        report.outcome, report.longrepr = "failed", "\n".join(told)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables, from whichever process their tests ran in."""
    tables: dict[str, list[list[str]]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == ROW:
                title, columns, values = value
                tables.setdefault(title, [columns]).append(values)
    for title, rows in tables.items():
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        terminalreporter.section(title)
        for row in rows:
            terminalreporter.line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))
