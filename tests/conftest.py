"""What every test shares."""

import pytest
from hypothesis import settings

# A shared machine pauses for longer than hypothesis's deadline of 200 ms now and then; a slow example is no failure.
settings.register_profile("hmacfs", deadline=None)
settings.load_profile("hmacfs")

ROW = "row of a table"
"""``record_property(ROW, [title, columns, values])`` prints a row behind the results of all tests."""


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
