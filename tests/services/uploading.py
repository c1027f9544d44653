"""The use case of a file in one piece over a real store, and bodies that arrive as a test tells them."""

import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.policy import ANYTHING, Policy
from hmacfs.core.retry import Schedule
from hmacfs.core.signature import Claim, Protocol
from hmacfs.offload import InlinePool
from hmacfs.services import recorder, uploads
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.buffers import BufferPool
from hmacfs.services.intake import Clocks, Intake, Pace
from hmacfs.services.observer import Observer
from hmacfs.services.quotas import Quotas
from hmacfs.services.retrying import Retries
from hmacfs.services.secrets import Keyring
from hmacfs.services.uploads import Uploads
from hmacfs.state.base import Accounts, Catalog, Sessions, Tier
from hmacfs.state.memory import MemoryTier
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import storedir
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage

SECRET = "a-secret-long-enough-for-anybody"
MAX = 1000
BLOCK = 64
WALL = 1_700_000_000.9
"""What the clock on the wall says."""
VERBS = {name for port in (Catalog, Sessions, Accounts, Tier) for name in vars(port) if not name.startswith("_")}
"""Everything that could be a round trip to a tier."""


class Clock:
    """Time that passes only when somebody says so."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@dataclass
class Silence:
    """Nothing arrives for so many seconds."""

    seconds: float


Step = bytes | Exception | Silence | Callable[[], object]


class ScriptedBody:
    """A body that arrives as told: pieces of bytes, silences, deeds to do in between, and errors.

    Args:
        clock: moved on by silences.
    """

    kept = 0

    def __init__(self, *script: Step, clock: Clock | None = None) -> None:
        self.script = list(script)
        self.asked = 0
        self.offered: list[int] = []
        self.clock = clock or Clock()

    def read_into(self, buffer: memoryview) -> int | None:
        self.asked += 1
        self.offered.append(len(buffer))
        while self.script:
            if isinstance(self.script[0], Silence):
                return None
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            if not isinstance(step, bytes):
                step()
                continue
            count = min(len(step), len(buffer))
            buffer[:count] = step[:count]
            if step[count:]:
                self.script.insert(0, step[count:])
            return count
        return 0

    def wait(self, seconds: float) -> bool:
        assert seconds > 0
        step = self.script[0] if self.script else None
        if not isinstance(step, Silence):
            return True
        passed = min(seconds, step.seconds)
        self.clock.time += passed
        step.seconds -= passed
        if step.seconds:
            return False
        self.script.pop(0)
        return True


class WatchedBuffers(BufferPool):
    """Knows how many buffers are lent."""

    lent = 0

    @contextmanager
    def lend(self, wanted: int) -> Iterator[memoryview]:
        with super().lend(wanted) as buffer:
            self.lent += 1
            try:
                yield buffer
            finally:
                self.lent -= 1


class CountingPool(InlinePool):
    """Knows how many jobs it ran."""

    jobs = 0

    def run(self, job: Callable[..., Any], *args: Any) -> Any:
        self.jobs += 1
        return super().run(job, *args)


class Told(Observer):
    def __init__(self) -> None:
        self.completed: list[tuple[str, int, float]] = []

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        self.completed.append((name, size, seconds))


class CountingTier(MemoryTier):
    """Knows the thread of every call on it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def __getattribute__(self, name: str) -> Any:
        if name in VERBS:
            self.threads.append(threading.get_ident())
        return super().__getattribute__(name)


class House:
    """The use case over a real store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        storedir.prepare(str(store))
        self.pool = CountingPool()
        self.storage = LocalStorage(str(store), self.pool, durability="none", file_mode=0o640, dir_mode=0o750)
        self.buffers = WatchedBuffers(BLOCK)
        self.told = Told()
        self.clock = Clock()
        self.board = Scoreboard()
        self.admission = self.admitting()
        self.is_small = True
        self.tier = CountingTier()
        self.recorder = recorder.Recorder(self.tier, Schedule(0, 0), lambda: 0.0, lambda _: None)

    def admitting(self, **limits: int) -> Admission:
        """From now on uploads are judged by these limits."""
        self.admission = Admission(Limits(**limits), self.board, self.storage.free_bytes, self.clock.now)
        return self.admission

    def uploads(
        self,
        max_size: int = MAX,
        type_from_extension: bool = False,
        policy: Policy = ANYTHING,
        quotas: Quotas | None = None,
        **rules: float,
    ) -> Uploads:
        clocks = Clocks(self.clock.now, self.clock.sleep, lambda: WALL)
        authority = Authority(
            Keyring(SECRET),
            max_size=max_size,
            type_from_extension=type_from_extension,
            prefix="upload",
            policy=policy,
        )
        return Uploads(
            self.storage,
            authority,
            self.admission,
            Intake(Pace(**rules), self.buffers, self.admission, clocks),
            self.told,
            clocks,
            self.recorder,
            Retries(Schedule(5, 2), self.clock.now, self.clock.sleep, lambda: 0.0),
            quotas=quotas,
        )

    def body(self, *script: Step) -> ScriptedBody:
        """A body whose silences move this house's clock."""
        return ScriptedBody(*script, clock=self.clock)

    def close(self) -> None:
        os.close(self.storage._root)
        os.close(self.storage.staging.fd)

    def files(self) -> dict[str, bytes]:
        """Every file of the store, ours too."""
        found = (path for path in self.store.rglob("*") if path.is_file())
        return {str(path.relative_to(self.store)): path.read_bytes() for path in found}

    def put(self, path: str, content: bytes) -> None:
        staged = self.storage.stage(paths.parse(path.encode()))
        staged.write(memoryview(content))
        staged.publish(Metadata(None))
        staged.discard()


@contextmanager
def opened(store: Path, monkeypatch: pytest.MonkeyPatch, *, is_small: bool) -> Iterator[House]:
    """A house where every file goes the way of small ones, or the way of large ones. Nothing stays reserved, whatever
    happened."""
    built = House(store)
    if not is_small:
        monkeypatch.setattr(uploads, "SMALL", -1)
        built.is_small = False
    yield built
    assert built.board.pending() == 0
    assert built.buffers.lent == 0
    built.close()


def v_claim(path: str, size: int) -> Claim:
    text = path.encode() + b" " + str(size).encode()
    return Claim(Protocol.V, hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest())


def v2_claim(path: str, size: int, content_type: str) -> Claim:
    text = b"\0".join((path.encode(), str(size).encode(), content_type.encode()))
    return Claim(Protocol.V2, hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest())


WRONG = Claim(Protocol.V, "0" * 64)


def request(
    total: int,
    *,
    path: str = "a/b.txt",
    claim: Claim | str | None = "right",
    content_type: str = "text/plain",
    sent_type: bool = True,
    must_match: bool = False,
    awaits_continue: bool = False,
    client: str = "192.0.2.1",
) -> UploadRequest:
    proof = v_claim(path, total) if isinstance(claim, str) else claim
    return UploadRequest(
        paths.parse(path.encode()), total, client, content_type, sent_type, proof, must_match, awaits_continue
    )
