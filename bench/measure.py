"""Rounds: every server in turn does an item, then all of them again; what a run took becomes figures."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from bench.load import LoadFailed
from bench.outcome import Outcome
from bench.place import Ground, Place
from bench.processes import Fixed, Meter
from bench.servers import Server
from bench.slots import Signer
from bench.tasks import LOOP, Skip
from bench.work import Work

RATE_UNITS = {"requests": "req/s", "bytes": "MiB/s", "connections": "conn/s", "seconds": ""}
CPU_UNITS = {"requests": "us/req", "bytes": "s/GiB", "connections": "us/conn", "seconds": "s/s"}
_RATE_SCALE = {"requests": 1.0, "bytes": 1 / (1 << 20), "connections": 1.0, "seconds": 1.0}
_CPU_SCALE = {"requests": 1e6, "bytes": float(1 << 30), "connections": 1e6, "seconds": 1.0}


@dataclass
class Figures:
    """One run, in the units of ``RATE_UNITS`` and ``CPU_UNITS``; None where it could not be measured."""

    work: str
    server: str
    round: int
    rate: float | None = None
    cpu: float | None = None
    peak_mib: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    failed: int = 0
    note: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def rounds(ground: Ground, works: Sequence[Work], peers: Sequence[str], count: int) -> Iterator[Figures]:
    """Prepare the items, leave out those that cannot be done (standard error says why), and run the others."""
    ready = [(work, places) for work in works if (places := _prepared(ground, work, peers))]
    for number in range(1, count + 1):
        for work, places in ready:
            # Another one begins each time, so that none always follows the same neighbour.
            turn = (number - 1) % len(places)
            for place in (*places[turn:], *places[:turn]):
                _say(f"round {number}/{count}  {work.name}  {place.server.name}")
                yield _run(work, place, number)


def _prepared(ground: Ground, work: Work, peers: Sequence[str]) -> list[Place]:
    names = (*work.servers, *peers) if work.peers else work.servers
    loop = Server(LOOP, ("", 0), Signer(None, ""), Fixed())
    places = []
    for name in names:
        place = Place(ground, ground.fleet.servers.get(name, loop), work.proxied)
        try:
            if place.server is not loop:
                ground.warm_up(place.server)
            work.prepare(place)
        except (Skip, LoadFailed, OSError) as error:
            _say(f"skipped: {work.name}{f' for {name}' if name in peers else ''}: {error}")
            if name not in peers:
                return []
            continue
        places.append(place)
    return places


def _run(work: Work, place: Place, number: int) -> Figures:
    place.ground.settle(is_large=work.unit == "bytes")
    figures = Figures(work.name, place.server.name, number)
    try:
        with Meter(place.groups) as meter:
            outcome = work.task(place)
    except (LoadFailed, OSError) as error:
        figures.failed, figures.note = 1, str(error)
        return figures
    _fill(figures, work, outcome, outcome.cpu if outcome.cpu is not None else meter.cpu)
    figures.peak_mib = meter.peak / (1 << 20) or None
    return figures


def _fill(figures: Figures, work: Work, outcome: Outcome, cpu: float | None) -> None:
    if outcome.amount and outcome.seconds and work.unit != "seconds":
        figures.rate = outcome.amount / outcome.seconds * _RATE_SCALE[work.unit]
    if outcome.amount and cpu is not None:
        figures.cpu = cpu / outcome.amount * _CPU_SCALE[work.unit]
    if outcome.waits is not None:
        figures.p50_ms, figures.p99_ms, figures.max_ms = outcome.waits
    figures.failed, figures.note = outcome.failed, outcome.note


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
