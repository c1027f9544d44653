"""Receiving a file: the order of the checks, short bodies, limits, and what is left behind (protocol, section 3)."""

import errno
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
from hmacfs.errors import (
    BadBody,
    BadSignature,
    BodyTimeout,
    Draining,
    FileExists,
    PathConflict,
    PreconditionFailed,
    RequestError,
    ServerBusy,
    StateUnavailable,
    StorageBusy,
    StorageFull,
    TooLarge,
    TooManyUploads,
    Truncated,
)
from hmacfs.offload import InlinePool
from hmacfs.services import admission, recorder, uploads
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.buffers import BufferPool
from hmacfs.services.intake import Clocks, Intake, Pace
from hmacfs.services.observer import Observer
from hmacfs.services.quotas import Quotas
from hmacfs.services.retrying import Retries
from hmacfs.services.secrets import Keyring
from hmacfs.services.uploads import Uploads
from hmacfs.state.base import Accounts, Catalog, FileRow, Sessions, Tier
from hmacfs.state.memory import MemoryTier
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import fsutil, storedir
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage
from tests.support.polling import until

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

    def upload_completed(self, name: str, size: int, seconds: float) -> None:
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


@pytest.fixture(params=["small", "large"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file goes the way of small ones, or the way of large ones. Nothing stays reserved, whatever happened."""
    built = House(tmp_path / "store")
    if request.param == "large":
        monkeypatch.setattr(uploads, "SMALL", -1)
        built.is_small = False
    yield built
    assert built.board.pending() == 0
    assert built.buffers.lent == 0
    built.close()


@pytest.fixture
def large_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file goes the way of large ones."""
    built = House(tmp_path / "store")
    monkeypatch.setattr(uploads, "SMALL", -1)
    yield built
    monkeypatch.undo()
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


def test_a_signed_body_is_stored_whole_with_its_type(house: House) -> None:
    entity = house.uploads().receive(request(11), ScriptedBody(b"hello ", b"world"))

    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.entity == entity
    assert stored.metadata == Metadata("text/plain")
    assert stored.read(0, 100) == b"hello world"
    stored.close()


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 1, MAX])
@pytest.mark.parametrize("piece", [1, 7, BLOCK, MAX])
def test_a_body_of_any_length_arrives_in_any_pieces(house: House, size: int, piece: int) -> None:
    content = bytes(n % 251 for n in range(size))

    house.uploads().receive(request(size), ScriptedBody(*(content[n : n + piece] for n in range(0, size, piece))))

    assert house.files() == {"a/b.txt": content}


def test_the_observer_is_told_once_with_name_size_and_seconds(house: House) -> None:
    house.uploads().receive(request(5, path="a/ä b.txt"), house.body(b"hel", Silence(1.0), b"lo"))

    assert house.told.completed == [("a/ä%20b.txt", 5, 1.0)]


def test_an_empty_file_is_stored_without_asking_for_a_body(house: House) -> None:
    body = ScriptedBody()

    house.uploads().receive(request(0), body)

    assert house.files() == {"a/b.txt": b""}
    assert body.asked == 0


def test_a_file_of_exactly_the_largest_size_is_accepted(house: House) -> None:
    house.uploads().receive(request(MAX), ScriptedBody(bytes(MAX)))

    assert len(house.files()["a/b.txt"]) == MAX


def test_a_larger_file_is_refused_before_its_body_is_read(house: House) -> None:
    body = ScriptedBody(bytes(MAX + 1))

    with pytest.raises(TooLarge):
        house.uploads().receive(request(MAX + 1), body)

    assert body.asked == 0
    assert house.files() == {}


def test_a_largest_size_of_zero_is_no_limit(house: House) -> None:
    house.uploads(max_size=0).receive(request(MAX + 1), ScriptedBody(bytes(MAX + 1)))

    assert len(house.files()["a/b.txt"]) == MAX + 1


def test_bytes_behind_the_declared_end_are_never_read(house: House) -> None:
    body = ScriptedBody(b"hello", b"GET / HTTP/1.1")

    house.uploads().receive(request(5), body)

    assert house.files() == {"a/b.txt": b"hello"}
    assert body.script == [b"GET / HTTP/1.1"]


def test_a_body_is_never_asked_for_more_than_is_missing(house: House) -> None:
    body = ScriptedBody(bytes(100), bytes(50), bytes(MAX))

    house.uploads().receive(request(201), body)

    assert house.files() == {"a/b.txt": bytes(201)}
    assert all(0 < offered <= BLOCK for offered in body.offered)
    assert body.script == [bytes(MAX - 51)]


# --- the order of the checks ---


def test_an_unsigned_request_learns_nothing_else(house: House) -> None:
    house.put("a/b.txt", b"first")
    body = ScriptedBody(bytes(MAX + 1))

    for path in ("a/b.txt", "a", "a/b.txt/c", "free"):
        for total in (0, 5, MAX + 1):
            for claim in (None, WRONG, Claim(Protocol.V2, "")):
                with pytest.raises(BadSignature):
                    house.uploads().receive(request(total, path=path, claim=claim, must_match=True), body)

    assert body.asked == 0
    assert house.files() == {"a/b.txt": b"first"}


def test_missing_malformed_and_wrong_signatures_have_one_face(house: House) -> None:
    refused = []
    for claim in (None, Claim(Protocol.V, "zz"), WRONG):
        with pytest.raises(BadSignature) as caught:
            house.uploads().receive(request(5, claim=claim), ScriptedBody())
        refused.append(caught.value)

    assert [error.reason for error in refused] == ["missing", "malformed", "wrong"]
    assert [error.protocol for error in refused] == ["none", "v", "v"]
    assert len({(error.status, error.code, error.sentence) for error in refused}) == 1


def test_the_size_is_judged_before_existence(house: House) -> None:
    house.put("a/b.txt", b"first")

    with pytest.raises(TooLarge):
        house.uploads().receive(request(MAX + 1), ScriptedBody())


def test_existence_is_judged_before_the_body_is_read(house: House) -> None:
    house.put("a/b.txt", b"first")
    body = ScriptedBody(b"hello")

    with pytest.raises(FileExists):
        house.uploads().receive(request(5, awaits_continue=house.is_small), body)

    assert body.asked == 0
    assert house.files() == {"a/b.txt": b"first"}


@pytest.mark.parametrize("path", ["a", "a/b.txt/c"])
def test_a_path_conflict_is_judged_before_the_body_is_read(house: House, path: str) -> None:
    house.put("a/b.txt", b"first")
    body = ScriptedBody(b"hello")

    with pytest.raises(PathConflict):
        house.uploads().receive(request(5, path=path, awaits_continue=house.is_small), body)

    assert body.asked == 0


def test_a_small_body_that_comes_unasked_meets_the_existing_file_all_the_same(house: House) -> None:
    house.put("a/b.txt", b"first")

    for path, error in (("a/b.txt", FileExists), ("a", PathConflict), ("a/b.txt/c", PathConflict)):
        with pytest.raises(error):
            house.uploads().receive(request(5, path=path), ScriptedBody(b"hello"))

    assert house.files() == {"a/b.txt": b"first"}
    assert house.told.completed == []


REFUSALS: dict[str, tuple[dict[str, int], type[RequestError]]] = {
    "draining": ({}, Draining),
    "memory": ({"memory": 1}, ServerBusy),
    "places": ({"transfers": 0}, ServerBusy),
    "space": ({"free_space": 2**62}, StorageFull),
    "client": ({"uploads_per_client": 1}, TooManyUploads),
}


@pytest.fixture(params=list(REFUSALS))
def refusing(request: pytest.FixtureRequest, house: House, monkeypatch: pytest.MonkeyPatch) -> type[RequestError]:
    """The house admits nobody, for one reason; the error that says so."""
    monkeypatch.setattr(admission, "WAIT_SECONDS", 0.0)
    limits, error = REFUSALS[request.param]
    house.admitting(**limits).draining = request.param == "draining"
    house.board.set_memory(10)
    house.board.enter_client("192.0.2.1")
    return error


def test_an_upload_that_is_not_admitted_is_refused_before_its_body_is_read(
    house: House, refusing: type[RequestError]
) -> None:
    body = ScriptedBody(b"hello")

    with pytest.raises(refusing) as caught:
        house.uploads().receive(request(5), body)

    assert caught.value.status in (429, 503, 507)
    assert caught.value.retry_after or caught.value.status == 507
    assert body.asked == 0
    assert house.files() == {}


@pytest.mark.parametrize(("path", "error"), [("a/b.txt", FileExists), ("a", PathConflict), ("a/b.txt/c", PathConflict)])
def test_existence_is_told_before_rate_capacity_and_space(
    house: House, refusing: type[RequestError], path: str, error: type[RequestError]
) -> None:
    house.put("a/b.txt", b"first")
    body = ScriptedBody(b"hello")

    with pytest.raises(error):
        house.uploads().receive(request(5, path=path), body)

    assert body.asked == 0


def test_size_and_signature_are_told_before_rate_capacity_and_space(house: House, refusing: type[RequestError]) -> None:
    with pytest.raises(BadSignature):
        house.uploads().receive(request(5, claim=WRONG), ScriptedBody(b"hello"))
    with pytest.raises(TooLarge):
        house.uploads().receive(request(MAX + 1), ScriptedBody(b"hello"))


def test_a_condition_on_a_file_that_is_not_there_fails_before_the_body_is_read(house: House) -> None:
    body = ScriptedBody(b"hello")

    with pytest.raises(PreconditionFailed):
        house.uploads().receive(request(5, must_match=True), body)

    assert body.asked == 0
    assert house.files() == {}


# --- bodies that fail ---


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([], Truncated),
        ([b"hell"], Truncated),
        ([b"h", b"e"], Truncated),
        ([b"hel", Truncated("reset")], Truncated),
        ([b"hel", BodyTimeout()], BodyTimeout),
        ([b"hel", BadBody("chunk")], BadBody),
        ([BodyTimeout()], BodyTimeout),
    ],
)
def test_a_body_that_fails_leaves_nothing_and_the_retry_works(
    house: House, script: list[bytes | Exception], error: type[RequestError]
) -> None:
    with pytest.raises(error):
        house.uploads().receive(request(5), ScriptedBody(*script))

    assert house.files() == {}
    assert house.told.completed == []
    house.uploads().receive(request(5), ScriptedBody(b"hello"))
    assert house.files() == {"a/b.txt": b"hello"}


def test_a_large_body_that_fails_after_some_blocks_leaves_nothing(house: House) -> None:
    with pytest.raises(Truncated) as caught:
        house.uploads().receive(request(MAX), ScriptedBody(bytes(3 * BLOCK + 5)))

    assert caught.value.detail == f"{3 * BLOCK + 5} of {MAX} bytes arrived"
    assert house.files() == {}


def test_a_full_disk_leaves_nothing_and_the_retry_works(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fsutil, "write_all", full)
        with pytest.raises(StorageFull):
            house.uploads().receive(request(5), ScriptedBody(b"hello"))

    assert house.files() == {}
    house.uploads().receive(request(5), ScriptedBody(b"hello"))


def test_a_rival_that_publishes_first_wins(house: House) -> None:
    body = ScriptedBody(b"hel", lambda: house.put("a/b.txt", b"rival"), b"lo")

    with pytest.raises(FileExists):
        house.uploads().receive(request(5), body)

    assert house.files() == {"a/b.txt": b"rival"}
    assert house.told.completed == []


def test_a_file_that_takes_the_folder_s_name_meanwhile_is_a_conflict(house: House) -> None:
    body = ScriptedBody(b"hel", lambda: house.put("a", b"rival"), b"lo")

    with pytest.raises(PathConflict):
        house.uploads().receive(request(5), body)

    assert house.files() == {"a": b"rival"}


def test_no_descriptor_is_left_open_whatever_happens(house: House) -> None:
    before = len(os.listdir("/proc/self/fd"))

    house.uploads().receive(request(5), ScriptedBody(b"hello"))
    for script in ([b"hel"], [b"hel", BodyTimeout()]):
        with pytest.raises(RequestError):
            house.uploads().receive(request(5, path="x/y"), ScriptedBody(*script))

    assert len(os.listdir("/proc/self/fd")) == before


# --- the small way ---


@pytest.mark.parametrize("size", [0, 1, uploads.SMALL])
def test_a_small_file_is_one_job_of_the_disk_pool(tmp_path: Path, size: int) -> None:
    house = House(tmp_path / "store")

    house.uploads(max_size=0).receive(request(size), ScriptedBody(bytes(size)))

    assert house.pool.jobs == 1
    assert house.files() == {"a/b.txt": bytes(size)}
    house.close()


def test_a_small_file_is_one_job_while_the_free_space_is_fresh(tmp_path: Path) -> None:
    house = House(tmp_path / "store")
    house.admitting(free_space=1)
    house.uploads().receive(request(5), ScriptedBody(b"hello"))
    house.pool.jobs = 0

    house.uploads().receive(request(5, path="c"), ScriptedBody(b"hello"))

    assert house.pool.jobs == 1
    house.close()


def test_a_larger_file_is_written_block_by_block(tmp_path: Path) -> None:
    house = House(tmp_path / "store")
    size = uploads.SMALL + 1

    house.uploads(max_size=0).receive(request(size), ScriptedBody(bytes(size)))

    assert house.pool.jobs > size // BLOCK
    assert house.files() == {"a/b.txt": bytes(size)}
    house.close()


# --- time ---


def test_a_body_that_is_silent_for_too_long_is_cut(house: House) -> None:
    for script in ([Silence(60.5), b"hello"], [b"hel", Silence(60.5), b"lo"]):
        with pytest.raises(BodyTimeout) as caught:
            house.uploads(silence=60.0).receive(request(5), house.body(*script))
        assert (caught.value.status, caught.value.detail) == (408, "ReadTimeout")

    assert house.files() == {}


@pytest.mark.parametrize("min_rate", [0, 1])
def test_the_time_limit_is_for_silence_and_not_for_the_whole_body(house: House, min_rate: int) -> None:
    script: list[Step] = []
    for _ in range(10):
        script += [Silence(25.0), bytes(MAX // 10)]

    house.uploads(silence=26.0, min_rate=min_rate).receive(request(MAX), house.body(*script))

    assert house.files() == {"a/b.txt": bytes(MAX)}


@pytest.mark.parametrize("silence", [2.0, 7.0, 29.0])
def test_silence_is_cut_in_time_beside_a_least_rate_too(house: House, silence: float) -> None:
    begun = house.clock.time

    with pytest.raises(BodyTimeout):
        house.uploads(silence=silence, min_rate=1).receive(request(5), house.body(b"hel", Silence(1000.0)))

    assert silence <= house.clock.time - begun <= silence + 5.0


def test_a_body_below_the_least_rate_is_cut_after_its_window(house: House) -> None:
    script: list[Step] = []
    for _ in range(200):
        script += [b"x" * 5, Silence(1.0)]
    begun = house.clock.time

    with pytest.raises(BodyTimeout) as caught:
        house.uploads(min_rate=10).receive(request(MAX), house.body(*script))

    assert (caught.value.status, caught.value.detail) == (408, "MinBytesPerSecond")
    assert 30.0 <= house.clock.time - begun <= 36.0
    assert house.files() == {}


def test_a_body_that_stops_altogether_is_below_the_least_rate(house: House) -> None:
    begun = house.clock.time

    with pytest.raises(BodyTimeout) as caught:
        house.uploads(min_rate=10).receive(request(MAX), house.body(bytes(500), Silence(800.0), bytes(500)))

    assert caught.value.detail == "MinBytesPerSecond"
    assert 30.0 <= house.clock.time - begun <= 66.0


def test_a_body_above_the_least_rate_may_take_as_long_as_it_needs(house: House) -> None:
    script: list[Step] = []
    for _ in range(100):
        script += [Silence(1.0), b"x" * 10]

    house.uploads(min_rate=9).receive(request(MAX), house.body(*script))

    assert house.files() == {"a/b.txt": b"x" * MAX}


@pytest.mark.parametrize("rate", [16384, 20000, 100_000])
def test_an_upload_is_held_to_the_largest_rate(tmp_path: Path, rate: int) -> None:
    house = House(tmp_path / "store")
    house.buffers = WatchedBuffers(65536)
    total = 10 * rate
    begun = house.clock.time

    house.uploads(max_size=0, max_rate=rate).receive(request(total), house.body(bytes(total)))

    assert house.clock.time - begun == pytest.approx(10.0, rel=0.05)
    assert max(house.clock.slept) <= 1.0
    house.close()


def test_nobody_waits_behind_the_last_byte(house: House) -> None:
    house.uploads(max_rate=1000).receive(request(5), house.body(b"hello"))

    assert house.clock.slept == []


def test_no_buffer_is_lent_while_the_body_pauses_or_is_slowed_down(house: House) -> None:
    lent: list[int] = []

    class Slow(ScriptedBody):
        def wait(self, seconds: float) -> bool:
            lent.append(house.buffers.lent)
            return super().wait(seconds)

    def sleep(seconds: float) -> None:
        lent.append(house.buffers.lent)
        house.clock.time += seconds

    house.clock.sleep = sleep  # type: ignore[method-assign]
    body = Slow(Silence(1.0), bytes(300), Silence(20.0), bytes(MAX - 300), clock=house.clock)
    house.uploads(max_rate=100, min_rate=1).receive(request(MAX), body)

    assert len(lent) > 10
    assert set(lent) == {0}


# --- a server that stops ---


def test_a_body_that_the_stopping_server_cut_off_may_be_tried_again(house: House) -> None:
    def stop() -> None:
        house.admission.draining = True

    with pytest.raises(Draining) as caught:
        house.uploads().receive(request(5), house.body(b"hel", stop))

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "draining", 5)
    assert house.files() == {}


def test_an_upload_that_runs_when_the_server_stops_is_finished(house: House) -> None:
    def stop() -> None:
        house.admission.draining = True

    house.uploads().receive(request(5), house.body(b"hel", stop, b"lo"))

    assert house.files() == {"a/b.txt": b"hello"}


# --- types ---


@pytest.mark.parametrize("protocol", [Protocol.V2, Protocol.TOKEN])
def test_a_signature_over_the_declared_type_is_accepted_and_the_type_stored(house: House, protocol: Protocol) -> None:
    claim = Claim(protocol, v2_claim("a/b.txt", 5, "Image/PNG; x=y").mac)

    house.uploads().receive(request(5, claim=claim, content_type="Image/PNG; x=y"), ScriptedBody(b"hello"))

    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.metadata == Metadata("Image/PNG; x=y")
    stored.close()


@pytest.mark.parametrize("signed", ["text/plain", "text/plain; charset=utf-8"])
def test_a_signature_by_extension_is_refused_unless_it_is_switched_on(house: House, signed: str) -> None:
    asked = request(5, claim=v2_claim("a/b.txt", 5, signed), content_type="application/octet-stream", sent_type=False)

    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody(b"hello"))
    assert any("ContentTypeFromExtension" in hint for hint in caught.value.hints)

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))
    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.metadata == Metadata(signed)
    stored.close()


def test_the_declared_type_counts_before_the_extension(house: House) -> None:
    asked = request(5, claim=v2_claim("a/b.txt", 5, "x/y"), content_type="x/y")

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))

    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.metadata == Metadata("x/y")
    stored.close()


# --- hints ---


def hints_for(house: House, asked: UploadRequest) -> str:
    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody())
    return " | ".join(caught.value.hints)


def test_a_hint_tells_of_a_prefix_that_stands_twice(house: House) -> None:
    assert "prefix twice" in hints_for(house, request(5, path="upload/a/b.txt", claim=WRONG))


def test_a_hint_tells_of_a_prefix_that_was_signed(house: House) -> None:
    assert "signs the URL prefix" in hints_for(house, request(5, claim=v_claim("upload/a/b.txt", 5)))


def test_a_hint_tells_that_no_content_type_was_sent(house: House) -> None:
    wrong = Claim(Protocol.V2, "0" * 64)

    assert "no Content-Type header was sent" in hints_for(house, request(5, claim=wrong, sent_type=False))
    assert "no Content-Type header was sent" not in hints_for(house, request(5, claim=wrong))


def test_a_hint_tells_of_a_v_signature_in_another_parameter(house: House) -> None:
    claim = Claim(Protocol.V2, v_claim("a/b.txt", 5).mac)

    assert "protocol v " in hints_for(house, request(5, claim=claim))


def test_neither_the_refusal_nor_the_request_shows_a_mac(house: House) -> None:
    asked = request(5, claim=v_claim("upload/a/b.txt", 5))
    assert asked.claim is not None

    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody())

    for text in (repr(asked), str(caught.value), repr(caught.value), repr(caught.value.hints)):
        assert asked.claim.mac not in text
        assert SECRET not in text


def test_a_keyring_shows_no_secret() -> None:
    ring = Keyring(SECRET)

    assert ring.keys == (SECRET.encode(),)
    assert SECRET not in repr(ring) + str(ring)


def test_a_key_is_the_utf_8_bytes_of_the_secret() -> None:
    assert Keyring("sécret").keys == ("sécret".encode(),)


def test_existence_is_told_before_a_broken_small_body(house: House) -> None:
    house.put("a/b.txt", b"first")

    with pytest.raises(FileExists):
        house.uploads().receive(request(5), ScriptedBody(b"hel"))


def test_bytes_that_end_a_silence_count_before_the_rate_is_judged(house: House) -> None:
    script: list[Any] = []
    for _ in range(8):
        script += [Silence(10.0), bytes(125)]  # 12.5 bytes a second all the time

    house.uploads(min_rate=12).receive(request(1000), house.body(*script))

    assert (house.store / "a/b.txt").stat().st_size == 1000


# --- the catalogue ---


def test_a_stored_file_is_left_to_the_recorder(house: House) -> None:
    house.uploads().receive(request(5, path="a/ä b.txt"), ScriptedBody(b"hello"))

    house.recorder.flush()
    assert house.tier.list_files("", 10) == [FileRow("a/ä b.txt", 5, "text/plain", "", "", 1_700_000_000, 0)]


def test_the_type_that_the_signature_proves_is_recorded(house: House) -> None:
    asked = request(5, path="a/b.jpg", claim=v2_claim("a/b.jpg", 5, "image/jpeg"), sent_type=False)

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))

    house.recorder.flush()
    (row,) = house.tier.list_files("", 10)
    assert row.content_type == "image/jpeg"


@pytest.mark.parametrize("body", [ScriptedBody(b"hel"), ScriptedBody(Truncated())])
def test_what_was_not_stored_is_not_recorded(house: House, body: ScriptedBody) -> None:
    with pytest.raises(Truncated):
        house.uploads().receive(request(5), body)

    assert house.recorder.queued == 0


def test_an_upload_makes_no_round_trip_to_a_tier(house: House) -> None:
    house.recorder.start()
    for number in range(600):  # more than one batch: none is written by the upload that fills it
        house.uploads().receive(request(5, path=f"a/{number}"), ScriptedBody(b"hello"))
    until(lambda: not house.recorder.queued, "all is recorded")
    house.recorder.stop()

    assert house.tier.threads
    assert threading.get_ident() not in house.tier.threads


def test_an_upload_is_stored_while_no_tier_works(house: House) -> None:
    def fail(_rows: object) -> None:
        raise StateUnavailable

    house.tier.record_files = fail  # type: ignore[assignment]
    house.uploads().receive(request(5), ScriptedBody(b"hello"))

    house.recorder.flush()
    assert house.files() == {"a/b.txt": b"hello"}
    assert house.recorder.dropped == 1


# --- want of resources ---


def failing_often(house: House, monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
    """Making a staged file fails with these errors of the operating system first."""
    left = list(errors)
    create = house.storage.staging.create

    def scripted() -> Any:
        if left:
            code = left.pop(0)
            raise OSError(code, os.strerror(code))
        return create()

    monkeypatch.setattr(house.storage.staging, "create", scripted)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_staging_is_tried_again_for_want_of_resources_before_the_body(
    code: int, large_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_often(large_house, monkeypatch, code)
    body = ScriptedBody(lambda: asked_at.append(large_house.clock.time), b"hello", clock=large_house.clock)
    asked_at: list[float] = []

    large_house.uploads().receive(request(5), body)

    assert large_house.clock.slept == [2]
    assert asked_at == [1002]
    assert large_house.files() == {"a/b.txt": b"hello"}


def test_staging_is_given_up_after_five_seconds_without_the_body(
    large_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_often(large_house, monkeypatch, *[errno.EMFILE] * 100)
    body = ScriptedBody(b"hello")

    with pytest.raises(StorageBusy):
        large_house.uploads().receive(request(5), body)

    assert sum(large_house.clock.slept) == 5
    assert body.asked == 0


def test_staging_on_a_full_disk_is_not_tried_again(large_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_often(large_house, monkeypatch, errno.ENOSPC)

    with pytest.raises(StorageFull):
        large_house.uploads().receive(request(5), ScriptedBody(b"hello"))

    assert large_house.clock.slept == []


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path / "store")
    house.storage = LocalStorage(str(house.store), house.pool, durability="full", file_mode=0o640, dir_mode=0o750)
    monkeypatch.setattr(uploads, "SMALL", -1)
    synced = []

    def fail(fd: int) -> None:
        synced.append(fd)
        raise OSError(errno.EAGAIN, "fsync")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageBusy):
        house.uploads().receive(request(5), ScriptedBody(b"hello"))
    monkeypatch.undo()

    assert (len(synced), house.clock.slept) == (1, [])
    assert house.recorder.queued == 0
    house.close()
