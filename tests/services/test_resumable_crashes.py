"""Uploads that go on after a crash: what a client was told is there, whatever was cut."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hmacfs.errors import Truncated, WrongOffset
from hmacfs.storage.base import Metadata
from tests.services.resuming import FILE, RIGHT, Make
from tests.support.resuming import TYPE, each_death, header, write

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
        assert offset in (30, 64, 80), f"after {calls} calls"
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
