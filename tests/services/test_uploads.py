"""Receiving a file: what is stored, and the order of the checks (protocol, section 3)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.core import paths
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import (
    BadSignature,
    Draining,
    FileExists,
    PathConflict,
    PreconditionFailed,
    RequestError,
    ServerBusy,
    StorageFull,
    TooLarge,
    TooManyUploads,
)
from hmacfs.services import gate, uploads
from hmacfs.storage.base import Metadata
from tests.services.uploading import BLOCK, MAX, WRONG, House, ScriptedBody, Silence, opened, request


@pytest.fixture(params=["small", "large"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file goes the way of small ones, or the way of large ones."""
    with opened(tmp_path / "store", monkeypatch, is_small=request.param == "small") as built:
        yield built


# --- a file that is taken ---


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
    monkeypatch.setattr(gate, "WAIT_SECONDS", 0.0)
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
