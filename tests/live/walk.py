"""A walk through one upload: in pieces, broken off, repeated with other bytes, published, with plain PUTs beside it.

Every answer and the time that it took are kept; a wrong offset or a wrong byte ends the walk.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.live.faces import Upload
from tests.live.tierservers import TierServer
from tests.support.http import Answer, Connection, get, put
from tests.support.polling import until
from tests.support.server import Server

_PIECE = 300_000
_TOTAL = 4 * _PIECE
_SMALL = 20_000


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
