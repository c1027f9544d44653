"""What one run of one work item on one server gave."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Outcome:
    """What the load generator saw.

    Attributes:
        amount: requests, bytes or connections, as the work item counts.
        seconds: for all of it.
        waits: p50, p99 and longest wait in milliseconds; of pings where the item sends pings, else of its requests.
        failed: answers other than success, and broken connections.
        note: what does not fit elsewhere.
        cpu: seconds, where the generator is itself what is measured.
    """

    amount: float
    seconds: float
    waits: tuple[float, float, float] | None = None
    failed: int = 0
    note: str = ""
    cpu: float | None = None


def waits_of(seconds: Sequence[float]) -> tuple[float, float, float] | None:
    """p50, p99 and maximum in milliseconds; None without samples."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return ordered[round(last * 0.5)] * 1e3, ordered[round(last * 0.99)] * 1e3, ordered[-1] * 1e3
