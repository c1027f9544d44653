"""Of two requests at one upload the newer one wins, and who stands still keeps nobody waiting for ever."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from hmacfs.errors import Draining, TakenOver, UnknownUpload, UploadBusy, WrongOffset
from hmacfs.services import intake
from hmacfs.services.resumable import Appending
from hmacfs.storage.base import Metadata
from tests.services.resuming import FILE, RIGHT, TOKEN, House, Make, Running, StallingBody, request, stalled
from tests.support.resuming import TYPE, header, slot


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


def running_piece(house: House, body: Any) -> object:
    return house.piece(0, 100, body=body)


def running_whole(house: House, body: Any) -> object:
    return house.whole(body=body)


def running_patch(house: House, body: Any) -> object:
    return house.append(house.created(), 0, 100, body=body)


def running_creation(house: House, body: Any) -> object:
    """The client is told the id before it has sent everything (104)."""
    first = Appending(0, 100, "192.0.2.1", is_last=True), body
    return house.resumable.create(request(100, ""), "draft", "", first, lambda upload_id: None)


@pytest.mark.parametrize("short_of", ["uploads of the client", "places", "space"])
@pytest.mark.parametrize("running", [running_piece, running_whole, running_patch, running_creation])
def test_who_continues_an_upload_is_not_refused_for_what_the_request_that_hangs_holds(
    make: Make, monkeypatch: pytest.MonkeyPatch, running: Callable[[House, Any], object], short_of: str
) -> None:
    limits = {
        "uploads of the client": {"uploads_per_client": 1},
        "places": {"transfers": 1},
        "space": {"free_space": 1},
    }
    house = make(is_live=True, limits=limits[short_of])
    house.admission._free_bytes = lambda: 150
    monkeypatch.setattr(intake, "TICK_SECONDS", 0.02)
    upload_id = house.shelf.partials.new_id(slot("a/b.jpg"))
    monkeypatch.setattr(house.shelf.partials, "new_id", lambda path: upload_id)

    with stalled(house, lambda body: running(house, body), RIGHT[:10]) as (old, _body):
        if running in (running_patch, running_creation):
            done = house.append(upload_id, 10, 100, is_last=True if running is running_creation else None)
        else:
            done = house.piece(10, 100)

        assert done.is_complete
        with pytest.raises(TakenOver):
            old.ended()

    assert house.shelf.read()[0] == RIGHT


def test_a_worker_that_a_reload_replaces_takes_pieces(live: House) -> None:
    live.piece(0, 10)

    live.admission.drain(30.0)

    assert live.piece(10, 100).is_complete


@pytest.mark.parametrize("running", [running_piece, running_patch])
def test_a_server_that_stops_lets_who_runs_finish_instead_of_ending_it_for_who_comes(
    live: House, monkeypatch: pytest.MonkeyPatch, running: Callable[[House, Any], object]
) -> None:
    upload_id = live.shelf.partials.new_id(slot("a/b.jpg"))
    monkeypatch.setattr(live.shelf.partials, "new_id", lambda path: upload_id)
    with stalled(live, lambda body: running(live, body), RIGHT[:10]) as (old, body):
        live.admission.draining = True
        with pytest.raises(Draining):
            live.append(upload_id, 10, 100) if running is running_patch else live.piece(10, 100)
        body.go_on(RIGHT[10:])

        assert old.ended().is_complete

    live.admission.draining = False
