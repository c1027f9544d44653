"""How many bytes of a body stay in the store, whatever becomes of its request: what metrics count as taken in."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hmacfs.core.checksum import Wanted
from hmacfs.errors import RequestError
from hmacfs.services.resumable import Appending
from tests.services.resuming import House, piece_sum, request, stalled, whole_sum
from tests.services.uploading import ScriptedBody
from tests.support.resuming import content_of

RIGHT = content_of(100)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "store", is_live=True)
    yield built
    built.close()


def kept(house: House, content: bytes, take: Callable[[ScriptedBody], object]) -> int:
    """Of a body that brings ``content`` and is over then; ``take`` may be refused."""
    body = house.body(content)
    with suppress(RequestError):
        take(body)
    return body.kept


def test_a_piece_is_kept_and_what_of_it_was_there_already_is_not(house: House) -> None:
    first = kept(house, RIGHT[:40], lambda body: house.piece(0, 40, body=body))
    over = kept(house, RIGHT[20:60], lambda body: house.piece(20, 60, body=body))
    again = kept(house, RIGHT[:40], lambda body: house.piece(0, 40, body=body))
    last = kept(house, RIGHT[60:], lambda body: house.piece(60, 100, body=body))
    late = kept(house, RIGHT[60:], lambda body: house.piece(60, 100, body=body))

    assert (first, over, again, last, late) == (40, 20, 0, 40, 0)


def test_of_a_broken_piece_what_was_recorded_is_kept(house: House) -> None:
    assert kept(house, RIGHT[:30], lambda body: house.piece(0, 40, body=body)) == 30
    assert house.ask().offset == 30


def test_a_piece_with_a_checksum_is_kept_whole_or_not_at_all(house: House) -> None:
    right, wrong = piece_sum(RIGHT[:40]), piece_sum(b"another")

    broken = kept(house, RIGHT[:30], lambda body: house.piece(0, 40, body=body, wanted=right))
    mistaken = kept(house, RIGHT[:40], lambda body: house.piece(0, 40, body=body, wanted=wrong))
    whole = kept(house, RIGHT[:40], lambda body: house.piece(0, 40, body=body, wanted=right))

    assert (broken, mistaken, whole) == (0, 0, 40)


def test_a_body_whose_upload_is_removed_by_its_refusal_is_not_kept(house: House) -> None:
    wrong: Wanted = whole_sum(b"another file")

    assert kept(house, RIGHT, lambda body: house.piece(0, 100, body=body, wanted=wrong)) == 0
    assert house.shelf.names() == []


def test_a_broken_whole_body_is_kept_if_it_replaces_what_there_was_and_else_not(house: House) -> None:
    first = kept(house, RIGHT[:30], lambda body: house.whole(body=body))
    shorter = kept(house, RIGHT[:20], lambda body: house.whole(body=body))
    longer = kept(house, RIGHT[:50], lambda body: house.whole(body=body))

    assert (first, shorter, longer) == (30, 0, 50)


def test_of_a_broken_append_what_was_recorded_is_kept(house: House) -> None:
    upload_id = house.created()

    begun = kept(house, RIGHT[:60], lambda body: house.append(upload_id, 0, 100, body=body))
    ended = kept(house, RIGHT[60:], lambda body: house.append(upload_id, 60, 100, body=body))

    assert (begun, ended) == (60, 40)


def test_a_broken_creation_leaves_nothing_unless_the_client_was_told_the_id(house: House) -> None:
    first = Appending(0, 100, "192.0.2.1")
    ids: list[str] = []

    untold = kept(house, RIGHT[:60], lambda body: house.resumable.create(request(token=""), "tus", "", (first, body)))
    told = kept(
        house,
        RIGHT[:60],
        lambda body: house.resumable.create(request(token=""), "draft", "", (first, body), ids.append),
    )

    assert (untold, told) == (0, 60)


def test_bytes_of_a_body_that_somebody_took_over_are_kept(house: House) -> None:
    with stalled(house, lambda body: house.piece(0, 100, body=body), RIGHT[:40]) as (running, body):
        taken_over = kept(house, RIGHT, lambda other: house.piece(0, 100, body=other))
        with pytest.raises(RequestError):
            running.ended()

    assert (body.kept, taken_over) == (40, 60)
