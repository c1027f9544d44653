"""A plain PUT with an X-Session-Token, which may break off, and what the published file remembers of its token."""

from typing import Any

import pytest

from hmacfs.errors import FileExists, Truncated, UnknownUpload, UploadGone
from hmacfs.storage.base import Metadata
from hmacfs.storage.partial import LocalPartial
from tests.services.resuming import FILE, OTHER, RIGHT, TOKEN, House, Make, stalled
from tests.support.resuming import TYPE, slot

# --- a plain PUT with a token ---


def test_a_whole_body_with_a_token_is_published_with_it(house: House) -> None:
    done = house.whole()

    assert (done.is_complete, done.offset, done.secret) == (True, 100, TOKEN)
    assert house.shelf.read() == FILE
    assert house.shelf.names() == []
    assert house.ask().is_complete


def test_a_broken_whole_body_is_what_its_token_stands_for_from_then_on(house: House) -> None:
    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:40]))

    assert house.ask().offset == 40
    assert house.piece(40, 100).is_complete
    assert house.shelf.read() == FILE


def test_a_whole_body_of_which_nothing_arrived_leaves_nothing(house: House) -> None:
    with pytest.raises(Truncated):
        house.whole(body=house.body())

    assert house.shelf.names() == []


def test_a_whole_body_never_merges_with_what_its_token_had(house: House) -> None:
    house.piece(0, 10, body=house.body(b"a" * 10))
    house.piece(50, 60, body=house.body(b"a" * 10))

    with pytest.raises(Truncated):
        house.whole(body=house.body(b"b" * 40))

    assert house.ask().offset == 40
    house.piece(40, 100, body=house.body(b"c" * 60))
    assert house.shelf.read()[0] == b"b" * 40 + b"c" * 60


@pytest.mark.parametrize("arrived", [1, 29, 30])
def test_a_broken_whole_body_that_is_not_longer_is_dropped(house: House, arrived: int) -> None:
    house.piece(0, 30, body=house.body(b"a" * 30))

    with pytest.raises(Truncated):
        house.whole(body=house.body(b"b" * arrived))

    assert house.ask().offset == 30
    assert house.shelf.partials.count(slot("a/b.jpg")) == 1
    house.piece(30, 100)
    assert house.shelf.read()[0] == b"a" * 30 + RIGHT[30:]


def test_a_broken_whole_body_never_lowers_what_was_told_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.piece(0, 10)
    told: list[int] = []
    real = LocalPartial.take_over

    def meanwhile(partial: LocalPartial, **options: bool) -> bool:
        if not told:
            told.append(house.piece(10, 80).offset)  # between the comparison and taking over
        return real(partial, **options)

    monkeypatch.setattr(LocalPartial, "take_over", meanwhile)
    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:40]))
    monkeypatch.undo()

    assert house.ask().offset >= max([10, *told])


def test_a_whole_body_that_is_published_ends_every_other_upload_of_the_slot(make: Make) -> None:
    house = make(most=4)
    house.piece(0, 10)
    house.piece(0, 20, token=OTHER)
    upload_id = house.created()

    assert house.whole(body=house.body(RIGHT)).is_complete

    assert house.shelf.partials.count(slot("a/b.jpg")) == 0
    assert house.shelf.read() == FILE
    with pytest.raises((UnknownUpload, UploadGone)):
        house.append(upload_id, 0, 10)
    with pytest.raises(FileExists):
        house.piece(20, 30, token=OTHER)


def test_two_whole_bodies_with_one_token_at_once_both_go_on_and_the_first_is_published(live: House) -> None:
    with (
        stalled(live, lambda body: live.whole(body=body), RIGHT[:10]) as (early, early_body),
        stalled(live, lambda body: live.whole(body=body), b"x" * 20) as (late, late_body),
    ):
        early_body.go_on(RIGHT[10:])
        assert early.ended().is_complete
        late_body.go_on(b"x" * 80)
        with pytest.raises(FileExists):
            late.ended()

    assert live.shelf.read() == FILE
    assert live.shelf.names() == []


def test_a_whole_body_whose_token_begins_an_upload_at_the_same_moment_stages_on_its_own(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = house.shelf.partials.create

    def meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(house.shelf.partials, "create", real)
        house.piece(0, 10, body=house.body(b"x" * 10))
        return real(*args, **options)

    monkeypatch.setattr(house.shelf.partials, "create", meanwhile)

    assert house.whole().is_complete
    assert house.shelf.read() == FILE
    assert house.shelf.names() == []


def test_an_empty_file_is_published_by_every_way(house: House) -> None:
    assert house.whole(total=0).is_complete
    upload_id = house.created(total=0, path="a/c.jpg")
    assert house.append(upload_id, 0, 0, total=0).is_complete

    assert house.shelf.read() == (b"", FILE[1])
    assert house.shelf.read("a/c.jpg") == (b"", Metadata(TYPE))


# --- what is published remembers ---


def test_a_published_file_answers_its_token_and_nothing_changes(house: House) -> None:
    house.whole()
    body = house.body(b"x" * 50)

    asked, again = house.ask(), house.piece(0, 50, body=body)

    for told in (asked, again):
        assert (told.is_complete, told.offset) == (True, 100)
        assert told.entity is not None
    assert body.script == []  # read and dropped
    assert house.shelf.read() == FILE
    assert house.shelf.names() == []


def test_a_published_file_is_told_without_a_token_only_to_who_asks_with_its_size(house: House) -> None:
    house.whole()

    assert house.ask(token="").is_complete
    with pytest.raises(FileExists):
        house.ask(total=99, token="")
    with pytest.raises(FileExists):
        house.ask(token=OTHER)
    body = house.body(bytes(50))
    for token in ("", OTHER):
        with pytest.raises(FileExists):
            house.piece(0, 50, token=token, body=body)
    assert body.asked == 0


def test_a_file_without_a_token_of_its_own_answers_no_token(house: House) -> None:
    house.shelf.storage.store(slot("a/b.jpg"), bytearray(RIGHT), Metadata(TYPE))

    assert house.ask(token="").is_complete
    with pytest.raises(FileExists):
        house.ask()
