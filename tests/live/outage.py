"""One cell of the outage matrix: a walk through an upload while a server of shared state is away.

The same walk without an outage, taken before it, says which statuses and offsets are right and how long each takes.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.live.faces import FACES, Upload
from tests.live.tierservers import TierServer
from tests.live.walk import Walk
from tests.support.polling import until
from tests.support.server import Server

KINDS = ("killed", "stopped", "emptied", "refused")
"""SIGKILL; SIGSTOP; killed and started again with nothing; alive, but it lets nobody in and throws out who is."""

MOMENTS = ("before", "during", "between")
"""Before the first request of an upload, in the middle of a piece's body, between two pieces."""

MOST_EXTRA = 2.0
"""Seconds that a request may take longer than without an outage."""

WORKERS = 2
PATIENCE = 60.0
"""Seconds for a tier to serve again: a database recovers first, on a machine that is busy with other work."""

_CANARIES = 6


@dataclass(frozen=True)
class Cell:
    """What one cell of the matrix showed.

    Attributes:
        outcome: "as without", or what was different.
        extra: seconds, the most that one request took longer than in the walk without an outage.
        back: seconds from the end of the outage until the tier served again and held what was recorded meanwhile.
    """

    tier: str
    kind: str
    moment: str
    face: str
    outcome: str
    extra: float
    back: float

    COLUMNS = ("tier", "outage", "moment", "face", "outcome", "slowest extra (ms)", "serves again after (s)")

    def row(self) -> tuple[str, ...]:
        extra, back = f"{1000 * self.extra:.0f}", f"{self.back:.1f}"
        return self.tier, self.kind, self.moment, self.face, self.outcome, extra, back


class Site:
    """A server with one tier, and how long requests take while that is well."""

    def __init__(self, server: Server, tier: TierServer) -> None:
        self.server = server
        self.tier = tier
        self._normal: dict[str, Walk] = {}

    def normal(self, face: str) -> Walk:
        """The walk without an outage."""
        if face not in self._normal:
            self._wait_for_tier()
            self._normal[face] = Walk(self.server, self.tier, face, f"normal/{face}")
            self._normal[face].run()
        return self._normal[face]

    def cell(self, kind: str, moment: str) -> Cell:
        """Go through one outage. Raises AssertionError when the tier does not come back, or not with what it missed."""
        face = FACES[(KINDS.index(kind) + MOMENTS.index(moment)) % len(FACES)]
        normal = self.normal(face)
        with outage(self.tier, kind) as (strike, end):
            walk = Walk(self.server, self.tier, face, f"{kind}-{moment}/{face}", moment, strike)
            walk.run()
            if kind != "emptied":  # it may be back before anybody looks
                until(lambda: self._lines() and self._serving() == 0, "every worker has left the tier")
            end()
        ended = time.monotonic()
        self._wait_for_tier()
        self._wait_for_rows(walk)
        back = time.monotonic() - ended
        self._wait_for_canaries(kind, moment)
        return Cell(self.tier.name, kind, moment, face, _outcome(normal, walk), _extra(normal, walk), back)

    def _lines(self) -> dict[str, str]:
        """The last that each worker said of tiers, by its pid."""
        told = (line.partition("] ")[2].rpartition(" pid=") for line in self.server.lines("State tier: "))
        return {pid: text for text, _, pid in told}

    def _serving(self) -> int:
        """How many workers say that the tier serves."""
        return list(self._lines().values()).count(self.tier.serves)

    def _wait_for_tier(self) -> None:
        until(lambda: self._serving() == WORKERS, f"{self.tier.name} serves in every worker", PATIENCE)

    def _wait_for_rows(self, walk: Walk) -> None:
        """Until the tier has what was recorded while it was away."""
        if self.tier.has_catalog:
            until(lambda: walk.stored.items() <= self.tier.files().items(), "the files are in the catalogue", PATIENCE)
        until(lambda: walk.kept.items() <= self.tier.sessions().items(), "the unfinished upload is there", PATIENCE)
        until(lambda: not walk.ended & self.tier.sessions().keys(), "the finished upload is not", PATIENCE)

    def _wait_for_canaries(self, kind: str, moment: str) -> None:
        """Until new uploads, which any worker may have taken, are in the tier."""
        paths = {f"{kind}-{moment}/canary-{number}" for number in range(_CANARIES)}
        for path in paths:
            assert Upload("tus", path, bytes(1000)).begin(self.server).status == 201
        until(lambda: paths <= self.tier.sessions().keys(), "new uploads are in the tier", PATIENCE)


@contextmanager
def outage(tier: TierServer, kind: str) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """What begins an outage of ``kind`` and returns at once, and what ends it and returns when the server is well."""
    server = tier.server
    with ThreadPoolExecutor(1) as pool:
        restarted: list[Future[None]] = []

        def empty() -> None:
            server.kill()
            restarted.append(pool.submit(lambda: server.restart(empty=True)))

        begin = {"killed": server.kill, "stopped": server.pause, "emptied": empty, "refused": tier.refuse}
        end = {
            "killed": server.start,
            "stopped": server.resume,
            "emptied": lambda: restarted[0].result(PATIENCE),
            "refused": tier.accept,
        }
        yield begin[kind], end[kind]


def _outcome(normal: Walk, walk: Walk) -> str:
    """Compares statuses and offsets, step by step."""
    expected = [(step.name, step.status, step.offset) for step in normal.steps]
    found = [(step.name, step.status, step.offset) for step in walk.steps]
    different = [f"{now} not {then}" for now, then in zip(found, expected, strict=True) if now != then]
    return "; ".join(different) or "as without"


def _extra(normal: Walk, walk: Walk) -> float:
    pairs = zip(walk.steps, normal.steps, strict=True)
    return max(0.0, *(now.seconds - then.seconds for now, then in pairs))
