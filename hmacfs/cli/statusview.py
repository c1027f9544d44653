"""A status for people: labels and texts, as plain lines and as a table that a terminal redraws."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hmacfs.cli.connecting import printable
from hmacfs.core.health import Condition
from hmacfs.services.status import Status, Tier
from hmacfs.units import shown_duration, shown_size

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 12
_STYLES: dict[str, str] = {Condition.READY: "green", Condition.DEGRADED: "yellow", Condition.NOT_READY: "red"}


def lines(status: Status) -> Iterator[str]:
    """One line for each thing that is to be told."""
    for label, text in rows(status):
        yield f"{label:<{_WIDTH}}{text}"


def rows(status: Status) -> Iterator[tuple[str, str]]:
    """Label and text; a label is empty where the text goes on. What the server said is printable."""
    for label, text in _rows(status):
        yield label, printable(text)


def table(status: Status, address: str) -> "Table":
    """The same for rich. Args: address: who was asked."""
    from rich.table import Table
    from rich.text import Text

    style = _STYLES.get(status.condition, "")
    drawn = Table(title=f"hmacfs at {address}", show_header=False, title_justify="left", min_width=60)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for place, (label, text) in enumerate(rows(status)):
        drawn.add_row(Text(label), Text(text, style=style if place == 0 else ""))  # Text: nothing in it is markup
    return drawn


def _rows(status: Status) -> Iterator[tuple[str, str]]:
    yield "Health", status.condition.replace("-", " ")
    for reason in status.reasons:
        yield "", reason.sentence
    yield "Server", f"{status.version}, up {shown_duration(status.uptime)}, {_count(status.workers, 'worker')}"
    yield "Load", f"{status.cpu:.1f} % of a processor, {shown_size(status.memory)} of memory"
    transfers = f"{_count(status.uploads, 'upload')}, {_count(status.downloads, 'download')}"
    yield "Now", f"{transfers}, {_count(status.connections, 'connection')}"
    if (completed := status.completed) is not None:
        yield "Completed", f"{_count(completed.uploads, 'upload')}, {_count(completed.downloads, 'download')}"
    yield "Bans", str(status.bans)
    if (store := status.store) is None:
        yield "Store", "does not answer"
    else:
        yield "Store", f"{_count(store.files, 'file')}, {shown_size(store.bytes)}, {shown_size(store.free)} free"
        yield "", f"{_count(store.versions, 'old version')}, {_count(store.unfinished, 'unfinished upload')}"
    yield "State", ", ".join(_tier(each) for each in status.tiers)
    yield "Last sweep", _sweep(status)
    if status.secret_trouble:
        yield "Secret", "the last good one, it cannot be read again"


def _sweep(status: Status) -> str:
    if status.sweep is None:
        return "none yet"
    how = f", failed ({status.sweep.trouble})" if status.sweep.trouble else ""
    return f"{shown_duration(status.sweep.began)} ago{how}"


def _tier(tier: Tier) -> str:
    return f"{tier.name} {'down' if tier.why else 'up'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
