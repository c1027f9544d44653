"""Which old versions of a file are kept, and whether a new one may come now (protocol, section 5.5).

Versions are numbered from 1, the newest highest. Time is an argument, in Unix seconds.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

DAY = 86400


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is remembered of a path beside its versions.

    Attributes:
        highest: the number that was given last, kept or not.
        made: when its file was replaced, for as long as it counts.
        stored: numbers of versions that are kept, each with the time in nanoseconds at which it had been stored. The
            file itself cannot tell that for ever: names of equal content share one time.
    """

    highest: int = 0
    made: tuple[int, ...] = ()
    stored: tuple[tuple[int, int], ...] = ()


def seconds_to_wait(ledger: Ledger, per_day: int, now: float) -> int:
    """How long until the file may be replaced again; 0 for now.

    A moment within a day of now counts, on either side: a clock that was set back neither frees a path nor blocks it
    for longer than a day.

    Args:
        per_day: VersionsPerDay; 0 for no limit.
    """
    recent = _recent(ledger, now)
    if not per_day or len(recent) < per_day:
        return 0
    frees = recent[len(recent) - per_day] + DAY
    return max(1, min(DAY, math.ceil(frees - now)))


def replaced(
    ledger: Ledger, number: int, per_day: int, now: float, *, stored_ns: int = 0, kept: Collection[int] = ()
) -> Ledger:
    """The ledger once the file has been replaced at ``now``; it never grows beyond ``per_day`` moments, and one time
    for each version.

    Args:
        number: of the version that the replaced file becomes, as ``next_number`` gives it or a crash left it.
        stored_ns: when that had been stored, 0 where nobody knows. What was noted of the number before a crash stays.
        kept: numbers of the versions that are there; what is noted of others is dropped.
    """
    made = (*_recent(ledger, now), int(now))[-per_day:] if per_day else ()
    there = set(kept)
    stored = {each: moment for each, moment in ledger.stored if each in there}
    if stored_ns:
        stored.setdefault(number, stored_ns)
    return Ledger(max(ledger.highest, number), made, tuple(stored.items()))


def next_number(ledger: Ledger, kept: Collection[int]) -> int:
    """The number of one more version. Args: kept: those that are there; a ledger may have been lost."""
    return max(ledger.highest, *kept, 0) + 1


def may_be_unreplaced(ledger: Ledger, number: int) -> bool:
    """Whether a version with this number that is the current file may be one that was linked away and not replaced
    then. Where a higher number was given, the file has been replaced since, and its content came back.

    Args:
        ledger: written before anything is linked; one that was lost or is older knows a lower number.
    """
    return number >= ledger.highest


def surplus(numbers: Collection[int], most: int, ledger: Ledger, now: float) -> list[int]:
    """Which versions are too many, so that no day of replacements pushes out all that was there before.

    Those of the last 24 hours have half of the places, and what older ones leave free. Where they are more, the first
    of them stays, which is the file that was current when they began, and the newest. Of the older ones the oldest go.

    Args:
        most: MaxVersions. Half of an odd number is rounded down, and of one place the day has it.
        ledger: tells which are of the last 24 hours; none are where VersionsPerDay is 0.
    """
    in_order = sorted(numbers)
    recent = [number for number in in_order if number > ledger.highest - len(_recent(ledger, now))]
    older = in_order[: len(in_order) - len(recent)]
    room = min(most, max(1, most // 2, most - len(older)))
    kept = recent if len(recent) <= room else [*recent[:1], *recent[len(recent) - room + 1 :]][:room]
    left = most - len(kept)
    return sorted({*in_order} - {*kept, *older[max(0, len(older) - left) :]})


def _recent(ledger: Ledger, now: float) -> list[int]:
    return sorted(moment for moment in ledger.made if abs(now - moment) < DAY)
