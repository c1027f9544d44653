"""Whether the clock on the wall can be trusted to delete by: a machine may wake up in another year.

Each sweep notes what its clocks said. When the wall clock has run ahead of what has really passed, and the age rules
would take most of the store, they are left alone until a person says so (configuration, end of the page).
"""

from dataclasses import dataclass

DAY = 86400.0
AHEAD_OF_MONOTONIC = DAY
"""Within one boot the monotonic clock tells what has passed, but for the corrections of a clock that drifts."""
AHEAD_OF_LAST_BOOT = 30 * DAY
"""Between two boots nothing tells it. A server may have been off for as long as that."""

LEAST_FILES = 100
"""Of fewer files most may well go at once."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the clocks said at one time.

    Attributes:
        wall: Unix seconds.
        steady: seconds that no adjustment changes, from any start, which run on while the machine sleeps.
        boot: which boot of which machine it was.
    """

    wall: float
    steady: float
    boot: int


@dataclass(frozen=True, slots=True)
class Stock:
    """What a store holds.

    Attributes:
        files, stored: with old versions, and bytes, with unfinished uploads too.
        versions: how many of the files are old versions.
        counted_ms: when it was counted, Unix milliseconds; 0 for never.
    """

    files: int = 0
    stored: int = 0
    versions: int = 0
    counted_ms: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """What is noted of the sweeps of a store; None for never.

    Attributes:
        last: when the last one began.
        trusted: of the last one whose clock was believed.
        tidied: when unfinished uploads were looked for.
        stock: what the last one that came to its end left.
        trouble: the code of the error that ended the last one; empty where it came to its end.
    """

    last: Moment | None = None
    trusted: Moment | None = None
    tidied: Moment | None = None
    stock: Stock = Stock()
    trouble: str = ""


def has_run_ahead(trusted: Moment | None, now: Moment) -> bool:
    """Whether the wall clock says that more has passed since ``trusted`` than can be. False where there is none yet."""
    if trusted is None:
        return False
    passed = now.wall - trusted.wall
    if now.boot == trusted.boot:
        return passed - (now.steady - trusted.steady) > AHEAD_OF_MONOTONIC
    return passed > AHEAD_OF_LAST_BOOT


def would_take_most(expired: int, files: int) -> bool:
    """Whether deleting ``expired`` of ``files`` is more than an age rule does on an ordinary day."""
    return files >= LEAST_FILES and 2 * expired > files


def is_due(last: Moment | None, now: Moment, interval: float) -> bool:
    """Whether ``interval`` seconds have passed since then. Where the wall clock was set back, they have."""
    if last is None:
        return True
    passed = now.steady - last.steady if now.boot == last.boot else now.wall - last.wall
    return not 0 <= passed < interval
