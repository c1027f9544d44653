"""Whose turn it is, and what is noted of the last sweep."""

import os
from pathlib import Path

import pytest

from hmacfs.core.wallclock import Moment, Swept
from hmacfs.storage import storedir, sweepfile
from hmacfs.storage.sweepfile import SweepFile

MOMENT = Moment(1_800_000_000.25, 12.5, 0xFEDC_BA98_7654_3211)


@pytest.fixture
def store(tmp_path: Path) -> str:
    storedir.prepare(str(tmp_path / "store"))
    return str(tmp_path / "store")


def test_only_one_process_of_all_sweeps_at_a_time(store: str) -> None:
    one, other = SweepFile(store), SweepFile(store)

    with one.turn() as is_ours, other.turn() as is_theirs:
        assert (is_ours, is_theirs) == (True, False)
    with other.turn() as is_theirs:
        assert is_theirs


def test_what_one_notes_another_reads(store: str) -> None:
    assert SweepFile(store).load() == Swept()

    SweepFile(store).save(Swept(MOMENT, None, MOMENT, trouble="storage-failed"))

    assert SweepFile(store).load() == Swept(MOMENT, None, MOMENT, trouble="storage-failed")
    assert os.listdir(os.path.join(store, ".hmacfs")).count("sweep.json") == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"last": 5}', '{"last": {"wall": "x"}}', '{"last": {}}', "null"])
def test_notes_that_cannot_be_read_count_as_none(store: str, content: str) -> None:
    Path(store, ".hmacfs/sweep.json").write_text(content)

    assert SweepFile(store).load() == Swept()


@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN", "1" + "0" * 400, "[]", "null"])
@pytest.mark.parametrize("name", ["wall", "steady", "boot"])
def test_moments_that_no_clock_says_count_as_none(store: str, name: str, value: str) -> None:
    if name == "boot" and value.isdigit():
        return  # a number like any other
    values = {"wall": "1.5", "steady": "1.5", "boot": "1"} | {name: value}
    moment = ", ".join(f'"{key}": {text}' for key, text in values.items())
    Path(store, ".hmacfs/sweep.json").write_text(f'{{"last": {{{moment}}}}}')

    assert SweepFile(store).load() == Swept()


def test_notes_that_are_a_folder_or_nested_without_end_count_as_none(store: str) -> None:
    notes = Path(store, ".hmacfs/sweep.json")
    notes.write_text("[" * 100_000)
    assert SweepFile(store).load() == Swept()
    notes.unlink()
    notes.mkdir()

    assert SweepFile(store).load() == Swept()


def test_the_clocks_go_forward_and_know_this_boot() -> None:
    clocks = sweepfile.clocks()

    first, second = clocks(), clocks()

    assert first.boot == second.boot
    assert second.steady >= first.steady > 0
    assert first.wall > 1_600_000_000
