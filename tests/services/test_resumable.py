"""Uploads by tus and the draft, and how many a slot may have."""

import os
from contextlib import ExitStack
from typing import Any

import pytest

from hmacfs.core import upload
from hmacfs.errors import (
    BadUploadLength,
    BodyTooLong,
    FileExists,
    RequestError,
    TooManyGaps,
    TooManySessions,
    Truncated,
    UnknownUpload,
    UploadComplete,
    UploadGone,
    WrongOffset,
)
from hmacfs.services import intake
from hmacfs.services.resumable import Appending
from hmacfs.storage.base import Metadata
from tests.services.resuming import OTHER, RIGHT, House, Make, request, stalled
from tests.support.polling import until
from tests.support.resuming import slot

# --- tus and the draft ---


def test_an_append_elsewhere_is_refused_with_the_offset_and_before_the_body(house: House) -> None:
    upload_id = house.created()
    house.append(upload_id, 0, 30)
    body = house.body(bytes(100))

    for first in (0, 29, 31):
        with pytest.raises(WrongOffset) as caught:
            house.append(upload_id, first, 100, body=body)
        assert caught.value.offset == 30
    with pytest.raises(BodyTooLong):
        house.append(upload_id, 30, 101, body=body)

    assert body.asked == 0


def test_a_body_without_a_length_is_taken_up_to_the_total(house: House) -> None:
    upload_id = house.created()
    open_end = Appending(0, None, "192.0.2.1")

    assert house.resumable.append(upload_id, open_end, house.body(RIGHT[:30])).offset == 30
    with pytest.raises(BodyTooLong):
        house.resumable.append(upload_id, Appending(30, None, "192.0.2.1"), house.body(RIGHT[30:] + b"x"))

    assert house.resumable.append(upload_id, Appending(100, None, "192.0.2.1"), house.body()).is_complete
    assert house.shelf.read()[0] == RIGHT


def test_a_draft_is_published_only_by_its_last_piece(house: House) -> None:
    upload_id = house.created(face="draft")

    assert not house.append(upload_id, 0, 100, is_last=False).is_complete
    assert not house.is_stored()
    assert house.resumable.head(upload_id).offset == 100
    assert house.append(upload_id, 100, 100, is_last=True).is_complete

    assert house.shelf.read()[0] == RIGHT


def test_lengths_that_contradict_each_other_are_refused_before_the_body(house: House) -> None:
    upload_id = house.created(face="draft")
    body = house.body(bytes(100))

    for said in (
        Appending(0, 50, "", is_last=True),
        Appending(0, 50, "", total=99),
        Appending(0, 50, "", is_last=False, total=101),
        Appending(0, 100, "", is_last=True, total=101),
    ):
        with pytest.raises(BadUploadLength):
            house.resumable.append(upload_id, said, body)

    assert body.asked == 0
    with pytest.raises(BadUploadLength):
        house.resumable.append(upload_id, Appending(0, None, "", is_last=True), house.body(RIGHT[:50]))
    assert house.resumable.head(upload_id).offset == 50


def test_a_published_upload_says_so_until_it_is_forgotten_and_cannot_be_ended(house: House) -> None:
    upload_id = house.created()
    house.append(upload_id, 0, 100)

    told = house.resumable.head(upload_id)

    assert (told.offset, told.is_complete) == (100, True)
    with pytest.raises(UploadComplete):
        house.append(upload_id, 100, 100)
    with pytest.raises(UploadGone):
        house.resumable.terminate(upload_id)
    assert house.shelf.read()[0] == RIGHT


def test_a_completion_that_meets_an_existing_file_is_refused_and_the_partial_goes(house: House) -> None:
    upload_id = house.created()
    house.append(upload_id, 0, 50)
    house.shelf.storage.on_published = lambda path: None  # as if it had been put there by hand
    house.shelf.storage.store(slot("a/b.jpg"), bytearray(b"other"), Metadata(None))

    with pytest.raises(FileExists):
        house.append(upload_id, 50, 100)

    with pytest.raises(UnknownUpload):
        house.resumable.head(upload_id)
    assert house.shelf.read()[0] == b"other"
    assert house.shelf.names() == []


@pytest.mark.parametrize("call", ["fsync", "link", "pwrite"])
def test_an_upload_that_is_deleted_while_it_is_published_is_either_deleted_or_published(
    make: Make, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    house = make(durability="full")
    upload_id = house.created()
    house.append(upload_id, 0, 100, is_last=False)
    outcomes: list[str] = []
    real = getattr(os, call)

    def meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(os, call, real)
        result = real(*args, **options)
        try:
            house.resumable.terminate(upload_id)
            outcomes.append("deleted")
        except RequestError as error:
            outcomes.append(error.code)
        return result

    monkeypatch.setattr(os, call, meanwhile)
    try:
        house.append(upload_id, 100, 100, is_last=True)
        outcomes.append("published")
    except RequestError as error:
        outcomes.append(error.code)

    assert len(outcomes) == 2
    assert ("deleted" in outcomes) != house.is_stored(), outcomes


def test_an_upload_that_begins_is_not_dropped_by_the_next_creation(make: Make) -> None:
    house = make(is_live=True, most=1)
    with stalled(
        house,
        lambda body: house.resumable.create(request(100, ""), "tus", "", (Appending(0, 100, "192.0.2.1"), body)),
        RIGHT[:10],
    ) as (first, body):
        with pytest.raises(TooManySessions):
            house.created()
        body.go_on(RIGHT[10:])

        assert first.ended().is_complete


def test_a_repeated_last_piece_of_a_published_upload_is_a_wrong_offset(house: House) -> None:
    """A browser repeats a request whose answer it lost; tus clients correct an offset and give up at 403."""
    upload_id = house.created()
    house.append(upload_id, 0, 100)

    with pytest.raises(WrongOffset) as refused:
        house.append(upload_id, 60, 100)
    with pytest.raises(UploadComplete):
        house.append(upload_id, 100, 100)

    assert refused.value.offset == 100


def test_a_creation_whose_body_breaks_off_leaves_nothing_that_nobody_knows(house: House) -> None:
    first = Appending(0, 100, "192.0.2.1", is_last=True), house.body(RIGHT[:10])

    with pytest.raises(Truncated):
        house.resumable.create(request(100, ""), "draft", "", first)

    assert house.shelf.names() == []


def test_a_creation_that_was_told_may_go_on(house: House) -> None:
    told: list[str] = []
    first = Appending(0, 100, "192.0.2.1", is_last=True), house.body(RIGHT[:10])

    with pytest.raises(Truncated):
        house.resumable.create(request(100, ""), "draft", "", first, told.append)

    assert house.resumable.head(told[0]).offset == 10


# --- limits of a slot ---


def test_a_slot_has_so_many_uploads_and_one_more_is_refused_before_its_body(house: House) -> None:
    for number in range(3):
        house.piece(0, 10, token=f"token-number-{number}-x")
    body = house.body(RIGHT)

    with pytest.raises(TooManySessions) as caught:
        house.piece(0, 10, body=body)
    with pytest.raises(TooManySessions):
        house.whole(body=body)

    assert (caught.value.status, body.asked) == (429, 0)
    assert house.piece(0, 10, path="a/c.jpg").offset == 10
    assert house.piece(10, 20, token="token-number-1-x").offset == 20


def test_a_tus_creation_beyond_the_limit_drops_the_least_advanced_idle_one(house: House) -> None:
    house.piece(0, 10, token="token-number-0-x")
    ids = [house.created() for _ in range(2)]
    house.append(ids[0], 0, 20)
    house.append(ids[1], 0, 5)

    house.created()

    assert house.resumable.head(ids[0]).offset == 20
    with pytest.raises(UnknownUpload):
        house.resumable.head(ids[1])
    assert house.ask(token="token-number-0-x").offset == 10


def test_bodies_without_a_token_count_beside_the_partials(house: House) -> None:
    for _ in range(2):
        house.admission.enter_slot(slot("a/b.jpg"))
    house.piece(0, 10)

    with pytest.raises(TooManySessions):
        house.piece(0, 10, token=OTHER)

    for _ in range(2):
        house.admission.leave_slot(slot("a/b.jpg"))


def test_a_refused_gap_is_told_with_an_offset_that_outlives_a_power_cut(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "MAX_GAPS", 2)
    house = make(durability="full")
    with pytest.raises(Truncated):
        house.piece(0, 50, body=house.body(RIGHT[:10]))
    for first in (20, 40):
        house.piece(first, first + 5)
    with pytest.raises(Truncated):
        house.piece(10, 20, body=house.body(RIGHT[10:15]))

    with pytest.raises(TooManyGaps) as caught:
        house.piece(60, 65)

    assert caught.value.offset == 15
    assert make(durability="full", boot=7).ask().offset == 15
    assert house.piece(15, 20).offset == 25


def test_small_bodies_that_keep_us_waiting_count_too(live: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TICK_SECONDS", 0.02)
    plain, path = request(100, ""), slot("a/b.jpg")
    with ExitStack() as silent:
        bodies = [
            silent.enter_context(stalled(live, lambda body: live.uploads.receive(plain, body), RIGHT[:10]))
            for _ in range(3)
        ]
        until(lambda: live.admission.slot_bodies(path) == 3, "three small bodies that count")

        with (
            stalled(live, lambda body: live.uploads.receive(plain, body), RIGHT[:10]) as (late, _body),
            pytest.raises(TooManySessions),
        ):
            late.ended()
        live.uploads.receive(plain, live.body(RIGHT))  # one that is here already counts for nothing

        running, body = bodies[0]
        body.go_on(RIGHT[10:])
        with pytest.raises(FileExists):
            running.ended()
        until(lambda: live.admission.slot_bodies(path) == 2, "two small bodies that count")

    assert live.admission.slot_bodies(path) == 0
    assert live.shelf.read()[0] == RIGHT
