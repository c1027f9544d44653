"""Whether a server may be sent requests: facts in, a verdict with its reasons out.

What keeps an upload from being taken makes the server "not ready", so that a balancer sends uploads elsewhere. What
costs nobody a file yet, but wants a person, makes it "degraded": it is ready all the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hmacfs import units
from hmacfs.core.wallclock import Swept


class Condition(StrEnum):
    """What a server is fit for."""

    READY = "ready"
    DEGRADED = "degraded"
    NOT_READY = "not-ready"


@dataclass(frozen=True, slots=True)
class Store:
    """What a look at the store found.

    Attributes:
        trouble: why nothing can be written there, for people; empty where it can.
        free: bytes that we may use; None where that is not known.
        swept: what is noted of its sweeps; None where that is not known.
    """

    trouble: str = ""
    free: int | None = None
    swept: Swept | None = None

    @property
    def sweep_trouble(self) -> str:
        return self.swept.trouble if self.swept is not None else ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a verdict depends on.

    Attributes:
        least_free: bytes, MinFreeSpace; 0 for none.
        is_draining: the server is about to stop, or this worker of it.
        down: tiers of shared state that do not answer, and why.
        secret_trouble: why the secret cannot be read again; empty where it can.
        memory: resident bytes of all workers but those that are about to end.
        most_memory: bytes, MaxMemoryMB; 0 for no limit.
    """

    store: Store
    least_free: int = 0
    is_draining: bool = False
    down: Mapping[str, str] = field(default_factory=dict)
    secret_trouble: str = ""
    memory: int = 0
    most_memory: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """Attributes:
    code: stable, for programs.
    sentence: for people; may change.
    keeps_out: uploads are refused for it. Otherwise the server is ready all the same.
    """

    code: str
    sentence: str
    keeps_out: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Attributes: reasons: those first that keep uploads out; none where all is well."""

    reasons: tuple[Reason, ...] = ()

    @property
    def condition(self) -> Condition:
        if not self.is_ready:
            return Condition.NOT_READY
        return Condition.DEGRADED if self.reasons else Condition.READY

    @property
    def is_ready(self) -> bool:
        return not any(reason.keeps_out for reason in self.reasons)


def judge(facts: Facts) -> Verdict:
    """The verdict on ``facts``. The same facts have the same reasons, in the same order."""
    return Verdict((*_keeping_out(facts), *_degrading(facts)))


def _keeping_out(facts: Facts) -> Iterator[Reason]:
    store = facts.store
    if facts.is_draining:
        yield Reason("draining", "The server is about to stop; what runs may finish.", keeps_out=True)
    if store.trouble:
        yield Reason("store-not-writable", f"The store cannot be written: {store.trouble}.", keeps_out=True)
    if store.free is not None and store.free < facts.least_free:
        free, least = units.shown_size(store.free), units.shown_size(facts.least_free)
        yield Reason("low-space", f"{free} are free, less than MinFreeSpace ({least}).", keeps_out=True)
    if facts.most_memory and facts.memory > facts.most_memory:
        used, most = units.shown_size(facts.memory), units.shown_size(facts.most_memory)
        sentence = f"The workers use {used}, more than MaxMemoryMB ({most}): uploads are refused."
        yield Reason("memory-over-limit", sentence, keeps_out=True)


def _degrading(facts: Facts) -> Iterator[Reason]:
    for name, why in facts.down.items():
        yield Reason("tier-down", f"Shared state: {name} is down ({why}).")
    if facts.store.sweep_trouble:
        yield Reason("sweep-failing", f"The last sweep failed ({facts.store.sweep_trouble}); the log says why.")
    if facts.secret_trouble:
        sentence = f"The secret cannot be read again, the last good one stays: {_inner(facts.secret_trouble)}."
        yield Reason("secret-unreadable", sentence)


def _inner(sentence: str) -> str:
    """A sentence as the end of another."""
    return sentence.rstrip(". ")
