"""Of several uploads of one slot the first complete one is the file, and the others meet it."""

from collections.abc import Callable
from typing import Any

import pytest

from hmacfs.errors import FileExists, TakenOver, UploadGone
from hmacfs.services.resumable import Appending
from hmacfs.storage.base import Metadata
from hmacfs.storage.partial import LocalPartial
from tests.services.resuming import RIGHT, House, Make, request
from tests.support.resuming import TYPE, slot


def begins_tus(house: House, body: Any) -> object:
    return house.resumable.create(request(100, ""), "tus", "", (Appending(0, 100, "192.0.2.1"), body))


def continues_tus(house: House, body: Any) -> object:
    return house.append(house.created(), 0, 100, body=body)


def completes_draft(house: House, body: Any) -> object:
    return house.append(house.created(face="draft"), 0, 100, body=body, is_last=True)


def sends_piece(house: House, body: Any) -> object:
    return house.piece(0, 100, body=body)


def sends_whole(house: House, body: Any) -> object:
    return house.whole(body=body)


EACH_FACE = [begins_tus, continues_tus, completes_draft, sends_piece, sends_whole]


@pytest.mark.parametrize("arrived", [0, 40])
@pytest.mark.parametrize("face", EACH_FACE)
def test_an_upload_in_flight_that_another_one_of_the_slot_overtakes_meets_an_existing_file(
    make: Make, face: Callable[[House, Any], object], arrived: int
) -> None:
    house = make(most=5)
    plain = bytearray(b"x" * 100)

    def overtake() -> None:
        house.shelf.storage.store(slot("a/b.jpg"), plain, Metadata(TYPE))

    body = house.body(*filter(None, (RIGHT[:arrived], overtake, RIGHT[arrived:])))
    with pytest.raises(FileExists):
        face(house, body)

    assert house.shelf.read()[0] == plain
    assert house.shelf.names() == []


@pytest.mark.parametrize("step", ["take_over_now", "_publish", "_link"])
@pytest.mark.parametrize("face", EACH_FACE)
def test_a_completion_that_another_upload_of_the_slot_overtakes_meets_an_existing_file(
    make: Make, monkeypatch: pytest.MonkeyPatch, face: Callable[[House, Any], object], step: str
) -> None:
    house = make(most=5)
    plain = bytearray(b"x" * 100)
    real = getattr(LocalPartial, step)

    def meanwhile(*args: Any) -> Any:
        monkeypatch.undo()
        house.shelf.storage.store(slot("a/b.jpg"), plain, Metadata(TYPE))
        return real(*args)

    monkeypatch.setattr(LocalPartial, step, meanwhile)
    with pytest.raises(FileExists):
        face(house, house.body(RIGHT))

    assert house.shelf.read()[0] == plain
    assert house.shelf.names() == []


def test_a_whole_body_that_ends_while_it_is_replaced_keeps_nothing(make: Make) -> None:
    """With versions the file that overtook it may be replaced: the client is told to begin again."""
    house = make(versions={}, most=5)

    def overtake() -> None:
        house.shelf.storage.store(slot("a/b.jpg"), bytearray(b"x"), Metadata(TYPE))

    with pytest.raises((TakenOver, UploadGone)):
        house.whole(body=house.body(RIGHT[:40], overtake, RIGHT[40:]))

    assert house.shelf.names() == []
    assert house.whole().is_complete
    assert house.shelf.read()[0] == RIGHT
