"""The use cases of resumable uploads over a real store, and bodies that stall until they are told to go on."""

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hmacfs.core.checksum import NOTHING, Expected, Wanted
from hmacfs.core.policy import ANYTHING, Policy
from hmacfs.core.retry import Schedule
from hmacfs.core.signature import Claim, Protocol
from hmacfs.core.upload import Piece
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.engine import Engine
from hmacfs.services.intake import Clocks, Intake, Pace
from hmacfs.services.observer import Observer
from hmacfs.services.progress import Progress, ResumeRules
from hmacfs.services.quotas import QuotaRules, Quotas, UserQuotas
from hmacfs.services.recorder import Recorder
from hmacfs.services.resumable import Appending, Resumable
from hmacfs.services.retrying import Retries
from hmacfs.services.secrets import Keyring
from hmacfs.services.sessions import Sessions
from hmacfs.services.tokens import Tokens
from hmacfs.services.uploads import Uploads
from hmacfs.state.memory import MemoryTier
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import versionfolders
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.versions import LocalVersions
from tests.services.uploading import Clock, ScriptedBody, Step, WatchedBuffers
from tests.support.polling import PATIENCE
from tests.support.resuming import TTL, TYPE, Shelf, content_of, slot

OTHER = "token-of-client-2"
RIGHT = content_of(100)
SECRET = "a-secret-long-enough-for-anybody"
TOKEN = "token-of-client-1"
FILE = RIGHT, Metadata(TYPE, "", hashlib.sha256(TOKEN.encode()).hexdigest())
"""What is there once it is published with that token."""
BLOCK = 64
PLACES = 5


class Told(Observer):
    def __init__(self) -> None:
        self.completed: list[tuple[str, int]] = []
        self.pruned: list[tuple[str, int, int, int, str]] = []
        self.absorbed: list[int] = []

    def file_absorbed(self, size: int) -> None:
        self.absorbed.append(size)

    def version_removed(self, name: str, number: int, size: int, freed: int, reason: str) -> None:
        self.pruned.append((name, number, size, freed, reason))

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        self.completed.append((name, size))


class StallingBody:
    """A body that brings its first bytes and then nothing, until it is told what follows."""

    kept = 0

    def __init__(self, begun: bytes) -> None:
        self._ready = threading.Condition()
        self._bytes = begun
        self._is_over = False
        self.stalls = threading.Event()

    def read_into(self, buffer: memoryview) -> int | None:
        with self._ready:
            if not self._bytes:
                return 0 if self._is_over else None
            count = min(len(buffer), len(self._bytes))
            buffer[:count] = self._bytes[:count]
            self._bytes = self._bytes[count:]
            return count

    def wait(self, seconds: float) -> bool:
        with self._ready:
            self.stalls.set()
            return self._ready.wait_for(lambda: bool(self._bytes or self._is_over), seconds)

    def go_on(self, rest: bytes = b"") -> None:
        """These bytes follow, and then the end."""
        with self._ready:
            self._bytes += rest
            self._is_over = True
            self._ready.notify_all()


class Running:
    """A request in a thread of its own."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self._job = job
        self.result: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            self.result = self._job()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error
        self.seconds = time.monotonic() - begun

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def ended(self) -> Any:
        """What it answered; raises what it raised."""
        self._thread.join(PATIENCE)
        assert self.is_over
        if self.error is not None:
            raise self.error
        return self.result


def kept_versions(store: Path, storage: LocalStorage, most: int = 5, per_day: int = 0) -> LocalVersions:
    versionfolders.prepare(str(store))
    return LocalVersions(storage, str(store), most=most, per_day=per_day, clock=time.time)


class House:
    """The use cases over a real store.

    Args:
        is_live: time passes by itself; else it passes where somebody waits.
        is_killed: its requests are cut by the end of the process, so what they had taken is given back by nobody.
        rules: of Limits.
        versions: arguments of LocalVersions; None where nothing is ever replaced.
        signing: arguments of Authority.
    """

    def __init__(
        self,
        store: Path,
        *,
        is_live: bool = False,
        is_killed: bool = False,
        in_any_order: bool = True,
        limits: dict[str, int] | None = None,
        pace: dict[str, float] | None = None,
        versions: dict[str, int] | None = None,
        policy: Policy = ANYTHING,
        quota: int = 0,
        signing: dict[str, Any] | None = None,
        **shelf: Any,
    ) -> None:
        self.store = store
        self._is_killed = is_killed
        self.clock = Clock()
        now, sleep = (time.monotonic, time.sleep) if is_live else (self.clock.now, self.clock.sleep)
        clocks = Clocks(now, sleep, time.time)
        self.shelf = Shelf(store, **{"wall": time.time, **shelf})
        self.board = Scoreboard()
        self.buffers = WatchedBuffers(BLOCK)
        free = self.shelf.storage.free_bytes
        self._limits = Limits(**{"transfers": PLACES, **(limits or {})})
        self.admission = Admission(self._limits, self.board, free, now)
        self.tier = MemoryTier()
        self.recorder = Recorder(self.tier, Schedule(0, 0), lambda: 0.0, lambda _: None)
        self.told = Told()
        authority = Authority(Keyring(SECRET), policy=policy, **(signing or {}))
        intake = Intake(Pace(**(pace or {})), self.buffers, self.admission, clocks)
        retries = Retries(Schedule(0, 0), now, sleep, lambda: 0.0)
        storage, kept = self.shelf.storage, self.shelf.partials
        kept.on_removed = self.recorder.session_removed
        self.versions = None if versions is None else kept_versions(store, storage, **versions)
        by_path = QuotaRules(quota, by_first_segment=True, session_ttl=TTL)
        replaced = None if versions is None else storage
        with_quota = UserQuotas(self.tier, self.recorder, by_path, time.time, kept.standing, replaced)
        kept.on_left = with_quota.removed if quota else None
        self.quotas = with_quota if quota else Quotas()
        self.uploads = Uploads(
            storage, authority, self.admission, intake, self.told, clocks, self.recorder, retries,
            kept.count, kept._most, self.versions, None, self.quotas,
        )  # fmt: skip
        rules = ResumeRules(TTL, in_any_order)
        self.engine = Engine(
            kept, authority, self.admission, intake, self.uploads, self.recorder, retries, clocks, rules, self.quotas
        )
        tokens = Tokens(storage, kept, authority, self.uploads, clocks, rules)
        self.sessions = Sessions(self.engine, tokens, kept, self.admission, intake, self.uploads)
        self.resumable = Resumable(self.engine, kept, authority, self.admission, self.uploads)

    def close(self) -> None:
        """Nothing is held any more: no reservation, no place, no buffer, no client, no descriptor for writing."""
        self.shelf.close()
        if self._is_killed:
            return
        assert self.board.pending() == 0
        assert self.admission.gate._free == self._limits.transfers
        assert self.board._clients == {}
        assert self.buffers.lent == 0

    def body(self, *script: Step) -> ScriptedBody:
        return ScriptedBody(*script, clock=self.clock)

    # Short forms of the requests; a file of ``total`` bytes has ``content_of(total)`` unless a test says otherwise.

    def ask(self, total: int = 100, token: str = TOKEN, **values: Any) -> Progress:
        return self.sessions.ask(request(total, token, **values))

    def piece(
        self, first: int, end: int, total: int = 100, token: str = TOKEN, body: Any = None, **values: Any
    ) -> Progress:
        if body is None:
            body = self.body(content_of(total)[first:end])
        return self.sessions.put_piece(request(total, token, **values), Piece(first, end), body)

    def whole(self, total: int = 100, token: str = TOKEN, body: Any = None, **values: Any) -> Progress:
        body = self.body(content_of(total)) if body is None else body
        return self.sessions.put_whole(request(total, token, **values), body)

    def append(
        self, upload_id: str, first: int, end: int, total: int = 100, body: Any = None, **values: Any
    ) -> Progress:
        if body is None:
            body = self.body(content_of(total)[first:end])
        said = Appending(first, end - first, "192.0.2.1", **values)
        return self.resumable.append(upload_id, said, body)

    def created(self, total: int = 100, face: str = "tus", **values: Any) -> str:
        return self.resumable.create(request(total, "", **values), face, "").secret

    def offsets(self) -> dict[str, int]:
        """What shared state says of uploads, by their keys."""
        self.recorder.flush()
        return {row.key: row.offset for row in self.tier.list_sessions(0, 1000)}

    def is_stored(self, path: str = "a/b.jpg") -> bool:
        return (self.store / path).exists()


Make = Callable[..., House]


def request(
    total: int = 100,
    token: str = TOKEN,
    *,
    path: str = "a/b.jpg",
    content_type: str = TYPE,
    wanted: Wanted = NOTHING,
    must_match: bool = False,
    client: str = "192.0.2.1",
) -> UploadRequest:
    message = b"\0".join((path.encode(), str(total).encode(), content_type.encode()))
    claim = Claim(Protocol.V2, hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest())
    return UploadRequest(slot(path), total, client, content_type, True, claim, must_match, token=token, wanted=wanted)


def whole_sum(content: bytes, algorithm: str = "sha-256") -> Wanted:
    """A checksum of the whole file."""
    return Wanted(whole=(Expected(algorithm, hashlib.new(algorithm.replace("-", ""), content).digest()),))


def piece_sum(content: bytes) -> Wanted:
    """A checksum of this request's body."""
    return Wanted(piece=(Expected("sha-256", hashlib.sha256(content).digest()),))


@contextmanager
def stalled(house: House, job: Callable[[StallingBody], Any], begun: bytes) -> Iterator[tuple[Running, StallingBody]]:
    """A request whose body brought ``begun`` and then stalls."""
    body = StallingBody(begun)
    running = Running(lambda: job(body))
    assert body.stalls.wait(PATIENCE), running.error
    try:
        yield running, body
    finally:
        body.go_on()
        running._thread.join(PATIENCE)
