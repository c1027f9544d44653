"""What a server does at this moment, as values: made in a worker, shown by ``hmacfs status``."""

from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from hmacfs.core.health import Reason, Verdict

_MOST = 2**63
"""No number of ours is as large."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of shared state. Attributes: why: why it does not answer; empty where it does."""

    name: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Completed:
    """What has been completed since the server started, the numbers of ``/metrics``."""

    uploads: int
    downloads: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds.

    Attributes:
        files: with old versions, as of the last sweep and what came and went since; ``bytes`` likewise.
        versions: old ones among them, as of the last sweep.
        unfinished: uploads that can go on.
        free: bytes that we may use.
    """

    files: int
    bytes: int
    versions: int
    unfinished: int
    free: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """The last one. Attributes: began: seconds ago. trouble: the code of the error that ended it."""

    began: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Attributes:
    condition: "ready", "degraded" or "not-ready".
    uptime: seconds since the server started.
    memory: resident bytes of all workers.
    cpu: of all workers, in percent of one processor.
    connections: of clients.
    uploads, downloads: on their way.
    bans: addresses that are banned.
    completed: None where nobody counts.
    store: as last known; None where it has never answered.
    tiers: the highest first.
    sweep: None where there was none, or where it is not known.
    secret_trouble: why the secret cannot be read again; empty where it can.
    """

    version: str
    condition: str
    reasons: tuple[Reason, ...]
    uptime: int
    workers: int
    memory: int
    cpu: float
    connections: int
    uploads: int
    downloads: int
    bans: int
    completed: Completed | None
    store: Stored | None
    tiers: tuple[Tier, ...]
    sweep: Sweep | None
    secret_trouble: str


def verdict_object(verdict: Verdict) -> dict[str, Any]:
    """For JSON."""
    return {"condition": verdict.condition.value, "reasons": [asdict(reason) for reason in verdict.reasons]}


def status_object(status: Status) -> dict[str, Any]:
    """For JSON: the attributes by their names."""
    return asdict(status)


def status_of(values: Any) -> Status:
    """What ``status_object`` made, out of JSON. What is not known here is ignored: the server may be a newer one.

    Raises:
        ValueError: it is something else.
    """
    try:
        given: dict[str, Any] = {**values}
        given["reasons"] = tuple(_checked(Reason, each) for each in given["reasons"])
        given["tiers"] = tuple(_checked(Tier, each) for each in given["tiers"])
        for name, kind in (("completed", Completed), ("store", Stored), ("sweep", Sweep)):
            given[name] = None if given[name] is None else _checked(kind, given[name])
        made: Status = _checked(Status, given)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("this is no status") from error
    return made


def _checked(kind: Any, values: Any) -> Any:
    """The object that ``values`` describe. Raises ValueError, TypeError or AttributeError where they do not."""
    hints = get_type_hints(kind)
    known = {name: value for name, value in values.items() if name in hints}
    if not all(_fits(hints[name], value) for name, value in known.items()):
        raise ValueError("this is no status")
    return kind(**known)


def _fits(wanted: Any, value: Any) -> bool:
    """Whether a value out of JSON can be one of ours. Other kinds than the plain ones have been made by us."""
    if wanted is str:
        return isinstance(value, str)
    if wanted not in (int, float):
        return True
    is_number = isinstance(value, int if wanted is int else int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < _MOST  # NaN is in no range
