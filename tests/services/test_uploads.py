"""Receiving a file: the order of the checks, short bodies, limits, and what is left behind (protocol, section 3)."""

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hmacfs.core import paths
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import (
    BadBody,
    BadSignature,
    BodyTimeout,
    FileExists,
    PathConflict,
    PreconditionFailed,
    RequestError,
    StorageFull,
    TooLarge,
    Truncated,
)
from hmacfs.offload import InlinePool
from hmacfs.services.buffers import BufferPool
from hmacfs.services.observer import Observer
from hmacfs.services.secrets import Keyring
from hmacfs.services.uploads import UploadRequest, UploadRules, Uploads
from hmacfs.storage import fsutil, local
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage

SECRET = "a-secret-long-enough-for-anybody"
MAX = 1000
BLOCK = 64


class ScriptedBody:
    """A body that arrives as told: pieces of bytes, deeds to do in between, and errors."""

    def __init__(self, *script: bytes | Exception | Callable[[], object]) -> None:
        self.script = list(script)
        self.asked = 0

    def read_into(self, buffer: memoryview) -> int:
        self.asked += 1
        while self.script:
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


class Recorder(Observer):
    def __init__(self) -> None:
        self.completed: list[tuple[str, int, float]] = []

    def upload_completed(self, name: str, size: int, seconds: float) -> None:
        self.completed.append((name, size, seconds))


class House:
    """The use case over a real store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        local.prepare(str(store))
        self.storage = LocalStorage(str(store), InlinePool(), durability="none", file_mode=0o640, dir_mode=0o750)
        self.buffers = BufferPool(BLOCK)
        self.told = Recorder()

    def uploads(self, max_size: int = MAX, type_from_extension: bool = False) -> Uploads:
        clock = iter(range(100))
        return Uploads(
            self.storage,
            Keyring(SECRET),
            UploadRules(max_size, type_from_extension, "upload"),
            self.buffers,
            self.told,
            lambda: float(next(clock)),
        )

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


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "store")
    yield built
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
) -> UploadRequest:
    proof = v_claim(path, total) if isinstance(claim, str) else claim
    return UploadRequest(paths.parse(path.encode()), total, content_type, sent_type, proof, must_match)


def test_a_signed_body_is_stored_whole_with_its_type(house: House) -> None:
    entity = house.uploads().receive(request(11), ScriptedBody(b"hello ", b"world"))

    stored = house.storage.open(paths.parse(b"a/b.txt"))
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
    house.uploads().receive(request(5, path="a/ä b.txt"), ScriptedBody(b"hello"))

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
        house.uploads().receive(request(5), body)

    assert body.asked == 0
    assert house.files() == {"a/b.txt": b"first"}


@pytest.mark.parametrize("path", ["a", "a/b.txt/c"])
def test_a_path_conflict_is_judged_before_the_body_is_read(house: House, path: str) -> None:
    house.put("a/b.txt", b"first")
    body = ScriptedBody(b"hello")

    with pytest.raises(PathConflict):
        house.uploads().receive(request(5, path=path), body)

    assert body.asked == 0


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


# --- types ---


@pytest.mark.parametrize("protocol", [Protocol.V2, Protocol.TOKEN])
def test_a_signature_over_the_declared_type_is_accepted_and_the_type_stored(house: House, protocol: Protocol) -> None:
    claim = Claim(protocol, v2_claim("a/b.txt", 5, "Image/PNG; x=y").mac)

    house.uploads().receive(request(5, claim=claim, content_type="Image/PNG; x=y"), ScriptedBody(b"hello"))

    stored = house.storage.open(paths.parse(b"a/b.txt"))
    assert stored.metadata == Metadata("Image/PNG; x=y")
    stored.close()


@pytest.mark.parametrize("signed", ["text/plain", "text/plain; charset=utf-8"])
def test_a_signature_by_extension_is_refused_unless_it_is_switched_on(house: House, signed: str) -> None:
    asked = request(5, claim=v2_claim("a/b.txt", 5, signed), content_type="application/octet-stream", sent_type=False)

    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody(b"hello"))
    assert any("ContentTypeFromExtension" in hint for hint in caught.value.hints)

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))
    stored = house.storage.open(paths.parse(b"a/b.txt"))
    assert stored.metadata == Metadata(signed)
    stored.close()


def test_the_declared_type_counts_before_the_extension(house: House) -> None:
    asked = request(5, claim=v2_claim("a/b.txt", 5, "x/y"), content_type="x/y")

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))

    stored = house.storage.open(paths.parse(b"a/b.txt"))
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
