"""What Prometheus has of a server after a minute of load, two killed workers, a reload and a lost Redis."""

from pathlib import Path

from tests.prove.tables import write_table
from tests.support.metrics import Series
from tests.support.ordeal import DELETED_BY_AGE, undergo

SECONDS = 60.0


def test_the_counters_of_a_minute_are_what_clients_were_answered(tmp_path: Path) -> None:
    ordeal = undergo(tmp_path, SECONDS)

    seen = ordeal.tally.bounds()
    seen[DELETED_BY_AGE] = ordeal.swept
    rows = [
        (_shown(series), f"{ordeal.told.get(series, 0):,.0f}", f"{least:,.0f}", f"{most:,.0f}")
        for series, (least, most) in sorted(seen.items())
    ]
    queries, numbers = len(ordeal.panels), sum(bool(found) for found in ordeal.panels.values())
    rows += [
        ("requests that were answered", "", f"{ordeal.tally.answered:,}", ""),
        ("requests that a kill cut off", "", ordeal.tally.cut_off, ""),
        ("scrapes", ordeal.scrapes, "", ""),
        ("panel queries with data", f"{numbers} of {queries}", "", ""),
        ("recording rules with data", f"{sum(map(bool, ordeal.recorded.values()))} of {len(ordeal.recorded)}", "", ""),
    ]
    title = f"Counters after {SECONDS:.0f} s of load with {ordeal.kills} workers killed and {ordeal.reloads} reload"
    write_table("prometheus-minute", title, ("series", "Prometheus", "clients: least", "clients: most"), rows)
    assert ordeal.wrong() == {}
    assert ordeal.scrapes >= SECONDS * 0.9
    assert [panel for panel, found in ordeal.panels.items() if not found] == []
    assert [name for name, found in ordeal.recorded.items() if not found] == []


def _shown(series: Series) -> str:
    name, labels = series
    words = ", ".join(f"{key}={value}" for key, value in labels)
    return f"`{name}{{{words}}}`" if words else f"`{name}`"
