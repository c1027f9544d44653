"""What an upload that goes on takes and tells: everything is given back, and shared state says where it stands."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from hmacfs.errors import (
    BadBody,
    ChecksumMismatch,
    FileExists,
    RequestError,
    StorageFull,
    TooManyUploads,
    Truncated,
)
from hmacfs.state.memory import MemoryTier
from hmacfs.storage.base import Metadata
from tests.services.resuming import FILE, OTHER, RIGHT, SECRET, TOKEN, House, Make, piece_sum, request, whole_sum
from tests.support.resuming import TTL, TYPE, header, slot

# --- everything is given back ---


def test_a_full_disk_in_the_middle_of_a_piece_keeps_what_was_written(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    written = 0

    def pwrite(fd: int, data: Any, offset: int) -> int:
        nonlocal written
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".part"):
            written += len(data)
            if written > 50:
                raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(StorageFull) as caught:
            house.piece(0, 100, body=house.body(RIGHT[:20], RIGHT[20:40], RIGHT[40:]))

    assert caught.value.status == 507
    assert house.ask().offset == 40
    assert house.piece(40, 100).is_complete
    assert house.shelf.read() == FILE


@pytest.mark.parametrize(
    "leave",
    [
        lambda house: house.piece(0, 100, body=house.body(RIGHT[:10])),
        lambda house: house.piece(0, 100, body=house.body(BadBody("x"))),
        lambda house: house.piece(0, 100, body=house.body(ZeroDivisionError())),
        lambda house: house.piece(0, 100, body=house.body(RIGHT), wanted=whole_sum(b"other")),
        lambda house: house.piece(0, 50, body=house.body(RIGHT[:50]), wanted=piece_sum(b"other")),
        lambda house: house.whole(body=house.body(RIGHT[:10])),
        lambda house: house.whole(body=house.body(ZeroDivisionError())),
        lambda house: house.append(house.created(), 0, 100, body=house.body(RIGHT[:10])),
        lambda house: house.append(house.created(), 5, 100),
        lambda house: house.append(house.created(), 0, 100, body=house.body(ZeroDivisionError())),
        lambda house: house.append("x" * 24 + "0" * 32, 0, 100),
    ],
)
def test_places_and_reservations_are_given_back_on_every_way_out(
    house: House, leave: Callable[[House], object]
) -> None:
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises((RequestError, ZeroDivisionError)):
        leave(house)

    assert house.board.pending() == 0
    assert house.admission.gate._free == 5
    assert house.board._clients == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_client_with_too_many_uploads_is_refused_before_anything_is_made(make: Make) -> None:
    house = make(limits={"uploads_per_client": 1})
    house.board.enter_client("192.0.2.1")

    with pytest.raises(TooManyUploads):
        house.whole()
    with pytest.raises(TooManyUploads):
        house.created()
    assert house.shelf.names() == []

    house.board.leave_client("192.0.2.1")
    assert house.whole().is_complete


def test_space_is_promised_for_what_an_upload_still_brings(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    house = make(limits={"free_space": 1000})
    seen: list[int] = []
    house.piece(0, 30)

    house.piece(30, 100, body=house.body(RIGHT[30:50], lambda: seen.append(house.board.pending()), RIGHT[50:]))

    assert seen == [50]


# --- shared state ---


def test_shared_state_follows_an_upload_from_its_first_piece_to_its_end(house: House) -> None:
    house.piece(0, 10)
    assert house.offsets() == {header().key: 10}
    house.piece(50, 60)
    house.piece(10, 30)
    assert house.offsets() == {header().key: 30}

    house.piece(30, 100)

    assert house.offsets() == {}
    row = house.tier.find_file("a/b.jpg")
    assert row is not None
    assert (row.size, row.content_type) == (100, TYPE)


def test_shared_state_forgets_an_upload_of_which_nothing_arrived(house: House) -> None:
    with pytest.raises(Truncated):
        house.whole(body=house.body())

    assert house.offsets() == {}


def test_a_whole_body_is_told_of_only_once_its_token_stands_for_it(house: House) -> None:
    house.piece(0, 10)
    told: list[dict[str, int]] = []

    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:40], lambda: told.append(house.offsets())))

    assert told == [{header().key: 10}]
    assert house.offsets() == {header().key: 40}


@pytest.mark.parametrize("arrived", [0, 1, 30])
def test_shared_state_follows_an_upload_after_a_whole_body_of_its_token_was_dropped(house: House, arrived: int) -> None:
    house.piece(0, 30)
    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:arrived]))
    after_it = house.offsets()

    house.piece(30, 60)

    assert after_it == {header().key: 30}
    assert house.offsets() == {header().key: 60}
    house.piece(60, 100)
    assert house.offsets() == {}


def test_shared_state_follows_an_upload_after_a_whole_body_of_its_token_had_another_checksum(house: House) -> None:
    house.piece(0, 30)
    with pytest.raises(ChecksumMismatch):
        house.whole(body=house.body(b"x" * 100), wanted=whole_sum(RIGHT))
    after_it = house.offsets()

    house.piece(30, 60)

    assert after_it == {header().key: 30}
    assert house.offsets() == {header().key: 60}


def test_an_upload_that_begins_again_under_its_token_is_known_at_once(house: House) -> None:
    house.piece(0, 30)
    house.piece(30, 100)
    house.piece(0, 20, path="a/again.jpg")

    assert house.offsets() == {header().key: 20}


def test_shared_state_forgets_the_uploads_that_a_published_file_ends(house: House) -> None:
    house.created()
    house.piece(0, 10, token="token-of-client-2")
    house.piece(0, 20)

    house.piece(20, 100)

    assert house.offsets() == {}


def test_shared_state_forgets_the_upload_that_made_room_for_another(house: House) -> None:
    for _ in range(20):
        house.created()

    assert len(house.offsets()) == house.shelf.partials.count(slot("a/b.jpg"))


def test_shared_state_forgets_an_upload_that_was_found_to_have_expired(house: House) -> None:
    house.piece(0, 10)
    house.offsets()
    for path in (house.store / ".hmacfs" / "partials").rglob("*"):
        os.utime(path, (1, 1))

    house.shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)

    assert house.offsets() == {}


def test_shared_state_forgets_an_upload_whose_path_was_taken(house: House) -> None:
    upload_id = house.created()
    house.append(upload_id, 0, 50)
    house.shelf.storage.on_published = lambda path: None  # as if it had been put there by hand
    house.shelf.storage.store(slot("a/b.jpg"), bytearray(b"other"), Metadata(None))

    with pytest.raises(FileExists):
        house.append(upload_id, 50, 100)

    assert house.offsets() == {}


@pytest.mark.parametrize("face", ["session", "tus"])
def test_shared_state_that_lost_an_upload_knows_it_again_once_its_client_asks(house: House, face: str) -> None:
    if face == "session":
        house.piece(0, 10)
    else:
        upload_id = house.created()
        house.append(upload_id, 0, 10)
    before = house.offsets()
    house.tier = house.recorder._state = MemoryTier()

    house.ask() if face == "session" else house.resumable.head(upload_id)

    assert house.offsets() == before != {}


def test_no_secret_is_in_a_repr_of_what_is_told(house: House) -> None:
    upload_id = house.created(path="a/c.jpg")

    text = repr(house.piece(0, 10)) + repr(house.resumable.head(upload_id)) + repr(request(100, TOKEN))

    assert TOKEN not in text
    assert upload_id not in text
    assert SECRET not in text


def test_an_upload_says_when_it_expires(house: House) -> None:
    now = time.time()

    assert house.piece(0, 10).expires_at == pytest.approx(now + TTL, abs=30)
    assert house.ask(token=OTHER).expires_at == pytest.approx(now + TTL, abs=30)
    assert house.shelf.partials.find(slot("a/b.jpg"), "session", TOKEN) is not None
