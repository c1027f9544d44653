"""Uploads that go on where they were broken off, by every common rule of the protocol's section 5."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmacfs.core import upload
from hmacfs.core.checksum import Wanted
from hmacfs.errors import (
    BadBody,
    BadSignature,
    BadUploadLength,
    BodyTimeout,
    BodyTooLong,
    ChecksumMismatch,
    Draining,
    FileExists,
    PreconditionFailed,
    RequestError,
    StorageFull,
    TakenOver,
    TooManyGaps,
    TooManySessions,
    TooManyUploads,
    Truncated,
    UnknownUpload,
    UploadBusy,
    UploadComplete,
    UploadGone,
    WrongOffset,
    WrongSlot,
)
from hmacfs.services.resumable import Appending
from hmacfs.state.memory import MemoryTier
from hmacfs.storage.base import Metadata
from hmacfs.storage.partial import LocalPartial
from tests.services.resuming import (
    SECRET,
    TOKEN,
    House,
    Running,
    StallingBody,
    piece_sum,
    request,
    stalled,
    whole_sum,
)
from tests.services.test_uploads import Silence
from tests.support.resuming import TTL, TYPE, content_of, each_death, header, slot, write

OTHER = "token-of-client-2"
RIGHT = content_of(100)
FILE = RIGHT, Metadata(TYPE, "", sha256(TOKEN.encode()).hexdigest())
Make = Callable[..., House]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds the use cases; whatever a test does, everything that was taken is given back at its end."""
    made: list[House] = []

    def build(store: Path = tmp_path / "store", **options: Any) -> House:
        made.append(House(store, **options))
        return made[-1]

    yield build
    for house in made:
        house.close()


@pytest.fixture
def house(make: Make) -> House:
    return make()


@pytest.fixture
def live(make: Make) -> House:
    """Time passes by itself, for requests in threads."""
    return make(is_live=True)


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
        with pytest.raises((TakenOver, FileExists, UploadGone)):
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


# --- taking over ---


def test_an_overlapping_piece_ends_the_one_that_stalls_within_five_seconds(live: House) -> None:
    with stalled(live, lambda body: live.piece(0, 100, body=body), RIGHT[:30]) as (first, _):
        begun = time.monotonic()
        done = live.piece(20, 100, body=live.body(b"x" * 10, RIGHT[30:]))
        took = time.monotonic() - begun
        with pytest.raises(TakenOver):
            first.ended()

    assert done.is_complete
    assert took < 5
    assert live.shelf.read() == FILE  # what the first had was recorded, and was not written again


def test_who_is_ended_had_everything_recorded_that_had_arrived(live: House) -> None:
    with stalled(live, lambda body: live.piece(0, 90, body=body), RIGHT[:33]) as (first, _):
        assert live.piece(89, 90).offset == 33
        with pytest.raises(TakenOver):
            first.ended()

    assert live.ask().offset == 33


def test_disjoint_pieces_go_on_in_parallel(live: House) -> None:
    with stalled(live, lambda body: live.piece(0, 50, body=body), RIGHT[:10]) as (first, body):
        with stalled(live, lambda later: live.piece(50, 90, body=later), RIGHT[50:60]) as (second, later):
            assert live.piece(90, 100).offset == 10
            later.go_on(RIGHT[60:90])
            assert second.ended().offset == 10
        body.go_on(RIGHT[10:50])
        assert first.ended().is_complete

    assert live.shelf.read() == FILE


def test_asking_ends_nobody_and_tells_what_is_recorded(live: House) -> None:
    with stalled(live, lambda body: live.piece(0, 100, body=body), RIGHT[:40]) as (first, body):
        assert live.ask().offset == 40
        assert live.ask(token="").offset == 40
        body.go_on(RIGHT[40:])
        assert first.ended().is_complete


def test_a_repeated_piece_that_is_there_already_ends_nobody(live: House) -> None:
    live.piece(0, 20)
    with stalled(live, lambda body: live.piece(20, 100, body=body), RIGHT[20:40]) as (first, body):
        assert live.piece(0, 20).offset == 40
        body.go_on(RIGHT[40:])
        assert first.ended().is_complete


@pytest.mark.parametrize("how", ["head", "append", "terminate"])
def test_any_request_on_an_upload_resource_ends_the_one_that_runs(live: House, how: str) -> None:
    upload_id = live.created()
    deeds: dict[str, Callable[[], Any]] = {
        "head": lambda: live.resumable.head(upload_id).offset,
        "append": lambda: live.append(upload_id, 25, 60).offset,
        "terminate": lambda: live.resumable.terminate(upload_id),
    }
    with stalled(live, lambda body: live.append(upload_id, 0, 100, body=body), RIGHT[:25]) as (first, _):
        begun = time.monotonic()
        result = deeds[how]()
        assert time.monotonic() - begun < 5
        with pytest.raises(TakenOver):
            first.ended()

    assert first.seconds < 20
    assert result == {"head": 25, "append": 60, "terminate": None}[how]
    if how == "terminate":
        with pytest.raises(UnknownUpload):
            live.resumable.head(upload_id)
        assert live.shelf.names() == []


def test_a_piece_that_flows_is_ended_after_the_block_that_is_on_its_way(house: House) -> None:
    house.piece(0, 10)
    other = house.shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert other is not None
    body = house.body(RIGHT[10:30], lambda: other.claim(50, 60), RIGHT[30:50], RIGHT[50:])

    with pytest.raises(TakenOver):
        house.piece(10, 100, body=body)

    assert body.script == [RIGHT[50:]]
    assert house.ask().offset == 50
    other.close()


def test_a_piece_at_a_wrong_offset_ends_the_one_that_runs_and_is_told_where_that_one_stood(live: House) -> None:
    upload_id = live.created()
    with stalled(live, lambda body: live.append(upload_id, 0, 100, body=body), RIGHT[:25]) as (first, _):
        with pytest.raises(WrongOffset) as caught:
            live.append(upload_id, 10, 100)
        with pytest.raises(TakenOver):
            first.ended()

    assert caught.value.offset == 25


def test_an_offset_that_head_told_is_accepted(live: House) -> None:
    upload_id = live.created()
    with stalled(live, lambda body: live.append(upload_id, 0, 100, body=body), RIGHT[:25]):
        offset = live.resumable.head(upload_id).offset

        assert live.append(upload_id, offset, 100).is_complete

    assert live.shelf.read() == (RIGHT, Metadata(TYPE))


def test_of_many_who_take_over_each_other_every_byte_is_right(live: House) -> None:
    bodies = [StallingBody(RIGHT[10 * number : 10 * number + 5]) for number in range(4)]
    runs = [
        Running(lambda number=number: live.piece(10 * number, 100, body=bodies[number]))  # type: ignore[misc]
        for number in range(1)
    ]
    assert bodies[0].stalls.wait(20)
    for number in range(1, 4):
        runs.append(Running(lambda number=number: live.piece(10 * number, 100, body=bodies[number])))  # type: ignore[misc]
        assert bodies[number].stalls.wait(20)

    for run in runs[:-1]:
        with pytest.raises(TakenOver):
            run.ended()
    bodies[-1].go_on(RIGHT[35:])
    assert runs[-1].ended().offset == 5
    assert live.piece(0, 100).is_complete

    assert live.shelf.read() == FILE


HOLDER = """
import sys
from pathlib import Path
from tests.support.resuming import Shelf, slot
partial = Shelf(Path(sys.argv[1]), wall=__import__("time").time).partials.find(slot("a/b.jpg"), "session", sys.argv[2])
claim = partial.claim(0, 100)
claim.write(memoryview(bytes(20)), 0, record=True, watch=None)
print("held", flush=True)
sys.stdin.read()
"""


def test_an_upload_whose_holder_stands_still_is_busy_after_five_seconds(house: House) -> None:
    house.shelf.partials.create(header(), others=lambda: 0, drop_idle=False, is_draft=False).close()
    command = (sys.executable, "-c", HOLDER, str(house.store), TOKEN)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        begun, body = house.clock.time, house.body(bytes(10))

        with pytest.raises(UploadBusy) as caught:
            house.piece(10, 100, body=body)

        assert 5 < house.clock.time - begun < 5.2
        assert (caught.value.status, body.asked) == (503, 0)
        assert house.ask().offset == 20
        holder.kill()
    assert house.piece(20, 100, body=house.body(b"x" * 80)).is_complete


# --- checksums ---


def test_a_checksum_given_at_the_beginning_is_verified_at_the_end(house: House) -> None:
    house.piece(0, 50, wanted=whole_sum(RIGHT))

    assert house.piece(50, 100).is_complete

    assert house.shelf.read()[1].sha256 == sha256(RIGHT).hexdigest()


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha-256", "sha-512"])
def test_a_checksum_given_with_the_last_piece_is_of_the_whole_file(house: House, algorithm: str) -> None:
    house.piece(0, 20)
    house.piece(50, 100)

    assert house.piece(20, 50, wanted=whole_sum(RIGHT, algorithm)).is_complete

    assert house.shelf.read()[1].sha256 == (sha256(RIGHT).hexdigest() if algorithm == "sha-256" else "")


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_whole_file_with_another_checksum_is_not_published_and_another_upload_stays(house: House, when: str) -> None:
    house.piece(0, 30, token=OTHER)
    wrong = whole_sum(b"something else")
    house.piece(0, 50, **({"wanted": wrong} if when == "first" else {}))

    with pytest.raises(ChecksumMismatch):
        house.piece(50, 100, **({"wanted": wrong} if when == "last" else {}))

    assert not house.is_stored()
    assert house.ask(token=OTHER).offset == 30
    assert house.ask().offset == 0
    assert house.piece(0, 100).is_complete


def test_a_piece_with_another_checksum_leaves_the_offset_and_the_bytes_where_they_were(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(ChecksumMismatch):
        house.piece(20, 70, body=house.body(b"x" * 50), wanted=piece_sum(b"y" * 50))

    assert house.ask().offset == 30
    assert house.piece(30, 100, wanted=piece_sum(RIGHT[30:])).is_complete
    assert house.shelf.read() == FILE


def test_a_broken_piece_with_a_checksum_records_nothing(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(Truncated):
        house.piece(30, 100, body=house.body(RIGHT[30:90]), wanted=piece_sum(RIGHT[30:]))

    assert house.ask().offset == 30


def test_a_piece_checksum_covers_repeated_bytes_too(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(ChecksumMismatch):
        house.piece(0, 40, body=house.body(b"x" * 30, RIGHT[30:40]), wanted=piece_sum(RIGHT[:40]))
    assert house.piece(0, 40, wanted=piece_sum(RIGHT[:40])).offset == 40


def test_a_tus_piece_with_another_checksum_leaves_the_offset_where_it_was(house: House) -> None:
    upload_id = house.created()
    house.append(upload_id, 0, 30)

    with pytest.raises(ChecksumMismatch):
        house.append(upload_id, 30, 100, body=house.body(b"x" * 70), wanted=piece_sum(RIGHT[30:]))

    assert house.resumable.head(upload_id).offset == 30
    assert house.append(upload_id, 30, 100, wanted=piece_sum(RIGHT[30:])).is_complete
    assert house.shelf.read() == (RIGHT, Metadata(TYPE))


def test_a_checksum_of_a_whole_body_is_the_whole_files_even_as_a_content_digest(house: House) -> None:
    with pytest.raises(ChecksumMismatch):
        house.whole(body=house.body(b"x" * 100), wanted=piece_sum(RIGHT))

    assert not house.is_stored()
    assert house.whole(wanted=piece_sum(RIGHT)).is_complete
    assert house.shelf.read()[1].sha256 == sha256(RIGHT).hexdigest()


def test_a_whole_body_with_another_checksum_leaves_what_its_token_had(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(ChecksumMismatch):
        house.whole(body=house.body(b"x" * 100), wanted=whole_sum(RIGHT))

    assert house.ask().offset == 30


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


# --- what was told outlives a power cut ---


def test_every_offset_that_is_told_has_been_synced(make: Make) -> None:
    house = make(durability="full")
    told: list[int] = [house.piece(0, 10).offset]
    with pytest.raises(Truncated):
        house.piece(10, 100, body=house.body(RIGHT[10:20]))
    told.append(house.ask().offset)
    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:40]))
    told.append(house.ask().offset)

    rebooted = make(durability="full", boot=7)
    assert told == [10, 20, 40]
    assert rebooted.ask().offset == 40
    assert rebooted.piece(40, 100).is_complete
    assert rebooted.shelf.read() == FILE


def test_every_offset_of_an_upload_resource_has_been_synced(make: Make) -> None:
    house, boot = make(durability="full"), 7
    upload_id = house.created()
    tells: list[Callable[[], int]] = [
        lambda: house.append(upload_id, 0, 10).offset,
        lambda: house.resumable.head(upload_id).offset,
    ]
    for tell in tells:
        offset = tell()
        assert make(durability="full", boot=boot).resumable.head(upload_id).offset == offset
        with pytest.raises(Truncated):
            house.append(upload_id, offset, 100, body=house.body(RIGHT[offset : offset + 10]))
    with pytest.raises(WrongOffset) as caught:
        house.append(upload_id, 0, 10)

    assert make(durability="full", boot=9).resumable.head(upload_id).offset == caught.value.offset == 30


# --- crashes ---


CRASHES = [("none", None), ("full", None), ("full", 7)]
"""Durability, and the boot after the crash: None is a process that was killed, another number a machine."""


@pytest.mark.parametrize(("durability", "boot"), CRASHES)
def test_a_session_that_a_crash_cut_at_any_call_is_finished_by_asking_and_sending_what_is_missing(
    make: Make, tmp_path: Path, durability: str, boot: int | None
) -> None:
    def prepare(store: Path) -> Callable[[], object]:
        house = make(store, durability=durability, is_killed=True)
        house.piece(0, 60)
        return lambda: house.piece(60, 100)

    for calls, store in each_death(tmp_path, prepare):
        house = make(store, durability=durability, boot=boot)
        asked = house.ask()
        assert 60 <= asked.offset <= 100, f"after {calls} calls"
        assert asked.is_complete == house.is_stored() == (asked.offset == 100), f"after {calls} calls"
        if not asked.is_complete:
            assert house.piece(asked.offset, 100).is_complete
        assert house.ask().is_complete
        assert house.shelf.read() == FILE, f"after {calls} calls"
    assert calls > 10


@pytest.mark.parametrize(("durability", "boot"), CRASHES)
def test_a_tus_upload_that_a_crash_cut_at_any_call_is_finished_by_its_offset(
    make: Make, tmp_path: Path, durability: str, boot: int | None
) -> None:
    ids: list[str] = []

    def prepare(store: Path) -> Callable[[], object]:
        house = make(store, durability=durability, is_killed=True)
        ids.append(house.created())
        house.append(ids[-1], 0, 60)
        return lambda: house.append(ids[-1], 60, 100)

    for calls, store in each_death(tmp_path, prepare):
        house = make(store, durability=durability, boot=boot)
        told = house.resumable.head(ids[-1])
        assert 60 <= told.offset <= 100
        if told.offset < 100:
            assert house.append(ids[-1], told.offset, 100).is_complete
        # A client that hears of all bytes is done (tus 1.0.0, "HEAD"): it sends nothing more.
        assert house.is_stored(), f"after {calls} calls"
        assert house.resumable.head(ids[-1]).is_complete
        assert house.shelf.read() == (RIGHT, Metadata(TYPE)), f"after {calls} calls"
    assert calls > 10


@pytest.mark.parametrize(("durability", "boot"), CRASHES)
def test_a_draft_that_a_crash_cut_at_any_call_is_finished_by_what_is_missing_or_an_empty_piece(
    make: Make, tmp_path: Path, durability: str, boot: int | None
) -> None:
    ids: list[str] = []

    def prepare(store: Path) -> Callable[[], object]:
        house = make(store, durability=durability, is_killed=True)
        ids.append(house.created(face="draft"))
        return lambda: house.append(ids[-1], 0, 100, is_last=True)

    for calls, store in each_death(tmp_path, prepare):
        house = make(store, durability=durability, boot=boot)
        told = house.resumable.head(ids[-1])
        if not told.is_complete:
            assert house.append(ids[-1], told.offset, 100, is_last=True).is_complete
        assert house.shelf.read()[0] == RIGHT, f"after {calls} calls"


def test_a_crash_in_a_whole_body_with_a_token_never_lowers_what_the_token_had(make: Make, tmp_path: Path) -> None:
    def prepare(store: Path) -> Callable[[], object]:
        house = make(store, is_killed=True)
        house.piece(0, 30)

        def broken_off() -> None:
            with pytest.raises(Truncated):
                house.whole(body=house.body(RIGHT[:80]))

        return broken_off

    for calls, store in each_death(tmp_path, prepare):
        house = make(store)
        offset = house.ask().offset
        assert offset in (30, 80), f"after {calls} calls"
        assert house.piece(offset, 100).is_complete
        assert house.shelf.read() == FILE


def test_a_power_cut_between_the_last_byte_and_publishing_is_healed(make: Make) -> None:
    house = make(durability="full")
    partial = house.shelf.begin(header(), (0, 60))
    partial.settle()
    write(partial, 60, 100)
    partial.close()

    rebooted = make(durability="full", boot=7)

    assert rebooted.ask().offset == 60
    assert rebooted.piece(60, 100).is_complete
    assert rebooted.shelf.read() == FILE


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


# --- what a second reading found ---


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_checksum_of_the_whole_file_counts_whichever_piece_brings_it(house: House, wrong: int) -> None:
    pieces = [(0, 40), (80, 100), (40, 80)]
    carried = [whole_sum(b"another file") if number == wrong else Wanted() for number in range(3)]
    for (first, end), wanted in zip(pieces[:2], carried[:2], strict=True):
        house.piece(first, end, wanted=wanted)

    with pytest.raises(ChecksumMismatch):
        house.piece(40, 80, wanted=carried[2])

    assert not house.is_stored()
    assert house.shelf.names() == []


def test_a_checksum_outlives_the_put_that_takes_the_place_of_an_upload(house: House) -> None:
    house.piece(0, 10, wanted=whole_sum(b"another file"))
    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:60]))
    assert house.ask().offset == 60

    with pytest.raises(ChecksumMismatch):
        house.piece(60, 100)


def test_a_checksum_of_a_draft_counts_whichever_request_brings_it(house: House) -> None:
    upload_id = house.created(face="draft")
    house.append(upload_id, 0, 100, is_last=False, wanted=whole_sum(b"another file"))

    with pytest.raises(ChecksumMismatch):
        house.append(upload_id, 100, 100, is_last=True)


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


def test_asking_does_not_end_who_repeats_what_is_there_already(make: Make) -> None:
    house = make(is_live=True)
    house.piece(0, 10)
    house.piece(50, 100)

    with stalled(house, lambda body: house.piece(0, 100, body=body), RIGHT[:60]) as (writer, body):
        assert house.ask().offset == 100
        assert not writer.is_over
        body.go_on(RIGHT[60:])

        assert writer.ended().is_complete


def test_a_piece_of_nothing_new_ends_when_the_file_is_published(make: Make) -> None:
    house = make(is_live=True)
    house.piece(0, 50)

    with stalled(house, lambda body: house.piece(0, 50, body=body), RIGHT[:1]) as (silent, _body):
        assert house.piece(50, 100).is_complete

        with pytest.raises(TakenOver):
            silent.ended()


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
