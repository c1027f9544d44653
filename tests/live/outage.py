"""One cell of the outage matrix: an upload in pieces with plain PUTs beside it, while a server of shared state is away.

The same walk without an outage, taken before it, says which statuses and offsets are right and how long each takes.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.live.faces import FACES, Upload
from tests.live.tierservers import TierServer
from tests.support.http import Answer, Connection, get, put
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

_PIECE = 300_000
_TOTAL = 4 * _PIECE
_SMALL = 20_000
_CANARIES = 6


@dataclass(frozen=True)
class Step:
    """One request of a walk, and how it ended. Seconds are the client's own."""

    name: str
    status: int
    offset: int | None
    seconds: float


@dataclass
class Walk:
    """One upload from its first request to the published file.

    Args:
        path: of the upload; what else is stored lies beside it.
        strike: causes the outage; called once, at ``moment``.

    Attributes:
        struck: whether the outage has begun.
        stored: path to size of what was stored from then on.
        kept: an upload that is begun then and left unfinished, and its offset.
        ended: uploads that are not unfinished any more.
    """

    server: Server
    tier: TierServer
    face: str
    path: str
    moment: str = ""
    strike: Callable[[], None] = lambda: None
    struck: bool = False
    steps: list[Step] = field(default_factory=list)
    stored: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Raises AssertionError where an offset or a byte is not what it has to be."""
        server, content = self.server, os.urandom(_TOTAL)
        upload = Upload(self.face, self.path, content)
        earlier = self._begin_early()
        self._strike_if("before")
        self._step("begin", lambda: upload.begin(server))
        self._beside("first")
        self._step("piece", lambda: upload.send(server, 0, _PIECE))
        self._stands_at(upload, _PIECE)
        self._in_halves(upload, _PIECE, 2 * _PIECE)
        self._stands_at(upload, 2 * _PIECE)
        self._strike_if("between")
        self._beside("second")
        broken = 2 * _PIECE + _PIECE // 2
        self._broken_off(upload, 2 * _PIECE, broken)
        self._stands_at(upload, broken)
        self._leave_one_unfinished()
        self._end_early_one(earlier)
        self._repeat(upload, broken, 3 * _PIECE)
        self._stands_at(upload, 3 * _PIECE)
        self._beside("third")
        self._step("last piece", lambda: upload.send(server, 3 * _PIECE, _TOTAL))
        self._stored(self.path, content)
        self._step("late piece", lambda: upload.send(server, 0, _PIECE, os.urandom(_PIECE)))
        self._step("duplicate", lambda: put(server, self.path, os.urandom(_TOTAL)))
        self._stored(self.path, content)

    def _step(self, name: str, deed: Callable[[], Answer]) -> Answer:
        begun = time.monotonic()
        answer = deed()
        told = answer.get("Upload-Offset")
        self.steps.append(Step(name, answer.status, None if told is None else int(told), time.monotonic() - begun))
        return answer

    def _strike_if(self, moment: str) -> None:
        if moment == self.moment:
            self.strike()
            self.struck = True

    def _stands_at(self, upload: Upload, offset: int) -> None:
        answer = self._step("ask", lambda: upload.ask(self.server))
        assert int(answer["Upload-Offset"]) == offset, f"{self.path}: {answer.headers}, not {offset}"

    def _stored(self, path: str, content: bytes) -> None:
        assert self._step("get", lambda: get(self.server, path)).body == content, f"{path} has other bytes"
        if self.struck:
            self.stored[path] = len(content)

    def _beside(self, name: str) -> None:
        """A plain PUT."""
        path, content = f"{self.path}-{name}", os.urandom(_SMALL)
        self._step("plain put", lambda: put(self.server, path, content))
        self._stored(path, content)

    def _in_halves(self, upload: Upload, first: int, end: int) -> None:
        """A piece in whose middle the outage may begin; the time that causing it takes is nobody's."""
        middle = (first + end) // 2
        begun = time.monotonic()
        with Connection(self.server.address) as connection:
            connection.send(upload.head(self.server, first, end) + upload.content[first:middle])
            paused = time.monotonic()
            until(self._is_writing, "the piece is being written")
            self._strike_if("during")
            resumed = time.monotonic()
            connection.send(upload.content[middle:end])
            answer = connection.read_answer()
        seconds = time.monotonic() - resumed + paused - begun
        told = answer.get("Upload-Offset")
        self.steps.append(Step("piece in halves", answer.status, None if told is None else int(told), seconds))

    def _is_writing(self) -> bool:
        return any(name.endswith(".part") for name in self.server.open_store_files())

    def _broken_off(self, upload: Upload, first: int, reached: int) -> None:
        """A piece that was to bring more, and whose connection ends."""

        def deed() -> Answer:
            with Connection(self.server.address) as connection:
                connection.send(upload.head(self.server, first, _TOTAL) + upload.content[first:reached])
                connection.half_close()
                return connection.read_answer()

        self._step("broken piece", deed)

    def _begin_early(self) -> Upload:
        """An upload that the tier knows before the outage."""
        upload = Upload(self.face, f"{self.path}-early", os.urandom(2 * _SMALL))
        self._step("begin", lambda: upload.begin(self.server, _SMALL))
        until(lambda: self.tier.sessions().get(upload.path) == _SMALL, "the tier knows of the upload")
        return upload

    def _end_early_one(self, upload: Upload) -> None:
        self._step("last piece", lambda: upload.send(self.server, _SMALL, upload.total))
        self._stored(upload.path, upload.content)
        self.ended.add(upload.path)

    def _leave_one_unfinished(self) -> None:
        kept = Upload(self.face, f"{self.path}-kept", os.urandom(2 * _SMALL))
        self._step("begin", lambda: kept.begin(self.server, _SMALL))
        self.kept[kept.path] = _SMALL

    def _repeat(self, upload: Upload, offset: int, end: int) -> None:
        """What is recorded is sent once more with other bytes: they must not get into the file."""
        body = os.urandom(offset) + upload.content[offset:end]
        answer = self._step("repeated bytes", lambda: upload.send(self.server, 0, end, body))
        if self.face != "session":  # these faces take nothing but what continues the upload
            assert (answer.status, int(answer["Upload-Offset"])) == (409, offset)
            self._step("piece", lambda: upload.send(self.server, offset, end))


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
            assert Upload("tus", path, bytes(_SMALL)).begin(self.server).status == 201
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
