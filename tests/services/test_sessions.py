"""Uploads by X-Session-Token: asking, and pieces in any order."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmacfs.core import upload
from hmacfs.errors import (
    BadBody,
    BadSignature,
    BodyTimeout,
    Draining,
    PreconditionFailed,
    TooManyGaps,
    TooManyRequests,
    Truncated,
    UnknownUpload,
    WrongOffset,
    WrongSlot,
)
from hmacfs.storage.base import Metadata
from tests.services.resuming import FILE, OTHER, RIGHT, TOKEN, House, Make, request
from tests.services.uploading import Silence
from tests.support.resuming import content_of, header, slot

# --- RequestRateLimit ---


@pytest.fixture
def counted(house: House) -> list[str]:
    """Every request that was counted, by its client; the fourth one is refused."""
    came: list[str] = []

    def check(client: str) -> None:
        came.append(client)
        if len(came) > 3:
            raise TooManyRequests(10)

    house.admission.check_rate = check
    return came


def test_a_piece_is_counted_once_whether_it_begins_an_upload_or_goes_on(house: House, counted: list[str]) -> None:
    house.piece(0, 10)
    house.piece(10, 20)
    house.piece(0, 20, token=OTHER)

    assert counted == ["192.0.2.1"] * 3


def test_a_first_piece_that_comes_too_often_begins_nothing(house: House, counted: list[str]) -> None:
    counted += ["192.0.2.1"] * 3
    body = house.body(RIGHT[:10])

    with pytest.raises(TooManyRequests):
        house.piece(0, 10, body=body)

    assert house.shelf.names() == []
    assert body.asked == 0


def test_a_first_piece_whose_file_is_there_by_then_is_counted_once(
    house: House, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = house.shelf.partials.create

    def meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        house.shelf.storage.store(slot("a/b.jpg"), bytearray(RIGHT), FILE[1])
        return real(*args, **options)

    monkeypatch.setattr(house.shelf.partials, "create", meanwhile)

    assert house.piece(0, 10).is_complete
    assert counted == ["192.0.2.1"]


# --- asking and sending pieces ---


def test_asking_for_nothing_begins_nothing_and_gives_a_fresh_token(house: House) -> None:
    fresh, again = house.ask(token=""), house.ask(token="")

    assert (fresh.offset, fresh.is_complete) == (0, False)
    assert len(fresh.secret) >= 16
    assert fresh.secret != again.secret
    assert house.ask(token=OTHER).secret == OTHER
    assert house.shelf.names() == []


def test_pieces_in_any_order_make_the_file(house: House) -> None:
    assert house.piece(0, 10).offset == 10
    assert house.piece(60, 100).offset == 10
    assert house.piece(20, 60).offset == 10
    assert not house.is_stored()
    assert house.ask().offset == 10

    done = house.piece(10, 20)

    assert (done.is_complete, done.offset) == (True, 100)
    assert done.entity is not None
    assert house.shelf.read() == FILE
    assert house.shelf.names() == []
    assert house.told.completed == [("a/b.jpg", 100)]


def test_a_first_piece_without_a_token_begins_an_upload_of_its_own(house: House) -> None:
    one, other = house.piece(0, 10, token=""), house.piece(0, 20, token="")

    assert one.secret != other.secret
    assert house.ask(token=one.secret).offset == 10
    assert house.ask(token="").secret == other.secret  # the furthest one


def test_a_later_piece_of_nothing_is_unknown(house: House) -> None:
    for token in ("", TOKEN):
        body = house.body(RIGHT[10:20])
        with pytest.raises(UnknownUpload) as caught:
            house.piece(10, 20, token=token, body=body)
        assert body.asked == 0

    assert caught.value.status == 404
    assert house.shelf.names() == []


@pytest.mark.parametrize("values", [{"path": "a/c.jpg"}, {"total": 101}, {"content_type": "image/png"}])
def test_a_token_of_another_slot_is_refused_before_the_body(house: House, values: dict[str, Any]) -> None:
    house.piece(0, 10)
    body = house.body(bytes(5))

    with pytest.raises(WrongSlot):
        house.piece(0, 5, body=body, **values)
    with pytest.raises(WrongSlot):
        house.ask(**values)
    with pytest.raises(WrongSlot):
        house.whole(body=body, **values)

    assert body.asked == 0
    assert house.ask().offset == 10


def test_without_chunking_only_the_offset_is_accepted(make: Make) -> None:
    house = make(in_any_order=False)
    house.piece(0, 10)

    for first in (0, 9, 11):
        body = house.body(bytes(50))
        with pytest.raises(WrongOffset) as caught:
            house.piece(first, 50, body=body)
        assert (caught.value.offset, caught.value.provided, body.asked) == (10, first, 0)

    assert house.piece(10, 100).is_complete


def test_an_unsigned_request_learns_nothing(house: House) -> None:
    house.piece(0, 10)
    house.shelf.storage.store(slot("a/taken"), bytearray(b"x"), Metadata(None))

    for path in ("a/b.jpg", "a/taken"):
        for ask in (house.sessions.ask, lambda asked: house.sessions.put_whole(asked, house.body())):
            unsigned = request(1000, TOKEN, path=path)
            with pytest.raises(BadSignature):
                ask(type(unsigned)(**{name: getattr(unsigned, name) for name in unsigned.__slots__} | {"claim": None}))


def test_a_refusal_for_if_match_comes_before_anything_is_made(house: House) -> None:
    with pytest.raises(PreconditionFailed):
        house.ask(must_match=True)
    with pytest.raises(PreconditionFailed):
        house.piece(0, 10, must_match=True)

    assert house.shelf.names() == []


# --- bytes once recorded ---


def test_a_byte_once_recorded_is_never_written_again(house: House) -> None:
    house.piece(0, 5)
    house.piece(10, 20, body=house.body(b"a" * 10))
    house.piece(0, 15, body=house.body(b"b" * 15))
    house.piece(5, 30, body=house.body(b"c" * 25))

    done = house.piece(0, 100, body=house.body(b"d" * 100))

    assert done.is_complete
    assert house.shelf.read()[0] == RIGHT[:5] + b"b" * 5 + b"a" * 10 + b"c" * 10 + b"d" * 70


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 100)), min_size=1, max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_of_overlapping_pieces_counts_for_every_byte(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]]
) -> None:
    house = House(tmp_path_factory.mktemp("overlap"))
    model: dict[int, int] = {}
    answer = house.piece(0, 1, body=house.body(b"\xff"))
    model[0] = 0xFF
    for number, (low, high) in enumerate(pieces):
        first, end = min(low, high - 1), max(low + 1, high)
        if answer.is_complete:
            break
        answer = house.piece(first, end, body=house.body(bytes([number]) * (end - first)))
        for at in range(first, end):
            model.setdefault(at, number)
        prefix = next((at for at in range(101) if at not in model), 101)
        assert answer.offset == prefix

    if not answer.is_complete:
        house.piece(0, 100, body=house.body(b"\xee" * 100))
        for at in range(100):
            model.setdefault(at, 0xEE)

    assert house.shelf.read()[0] == bytes(model[at] for at in range(100))
    house.close()


def test_repeated_bytes_are_read_and_dropped(house: House) -> None:
    house.piece(0, 50)
    body = house.body(b"x" * 50)

    assert house.piece(0, 50, body=body).offset == 50

    assert body.script == []
    house.piece(50, 100)
    assert house.shelf.read() == FILE


# --- bodies that break ---


BREAKS: dict[str, Any] = {
    "the end": None,
    "a reset": Truncated("ConnectionResetError"),
    "bad framing": BadBody("ChunkError"),
    "silence": Silence(10_000.0),
}


@pytest.mark.parametrize("how", BREAKS.values(), ids=list(BREAKS))
def test_what_had_arrived_of_a_broken_piece_is_recorded(house: House, how: Any) -> None:
    script = [RIGHT[:30], *([how] if how is not None else [])]
    with pytest.raises((Truncated, BadBody, BodyTimeout)):
        house.piece(0, 100, body=house.body(*script))

    assert house.ask().offset == 30
    assert house.offsets() == {header().key: 30}
    assert house.piece(30, 100).is_complete
    assert house.shelf.read() == FILE
    assert house.offsets() == {}


def test_a_body_that_a_stopping_server_ends_is_told_so_and_kept(house: House) -> None:
    def drain() -> None:
        house.admission.draining = True

    with pytest.raises(Draining):
        house.piece(0, 100, body=house.body(RIGHT[:30], drain))

    house.admission.draining = False
    assert house.ask().offset == 30


def test_nothing_is_admitted_while_draining_but_asking_is(house: House) -> None:
    house.piece(0, 10)
    house.admission.draining = True

    for refused in (lambda: house.piece(10, 20), lambda: house.whole(), lambda: house.created()):
        with pytest.raises(Draining):
            refused()

    assert house.ask().offset == 10
    assert house.shelf.partials.count(slot("a/b.jpg")) == 1


def test_pieces_that_break_off_never_leave_more_gaps_than_there_may_be(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmacfs.core.upload.MAX_GAPS", 4)
    monkeypatch.setattr("hmacfs.storage.journal.MAX_GAPS", 4)
    total = 1000
    content = content_of(total)
    house.piece(0, 1, total)
    house.piece(total - 1, total, total)

    for first in range(900, 100, -20):  # each would close the last hole, and breaks off behind its first byte
        with pytest.raises((Truncated, TooManyGaps)):
            house.piece(first, total, total, body=house.body(content[first : first + 1]))

    left = house.shelf.left(TOKEN)
    assert upload.Extents(left).gaps == 4
    assert house.piece(0, total, total).is_complete
