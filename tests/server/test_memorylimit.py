"""MaxMemoryMB in a worker: one at a time makes room, and what cannot help is said once."""

import pytest

from hmacfs.server.memorylimit import MemoryLimit
from hmacfs.state.scoreboard import Scoreboard

MIB = 1024 * 1024
OLD = 31.0


def board_of(*mib: int) -> Scoreboard:
    """Workers with so much memory each; this process is the last one."""
    board = Scoreboard(4)
    for count in mib:
        board.bind(board.claim())
        board.set_memory(count * MIB)
    return board


def limit_of(board: Scoreboard, mib: int = 100, workers: int = 2) -> MemoryLimit:
    return MemoryLimit(mib * MIB, board, workers)


@pytest.mark.parametrize(
    ("memory", "age", "goes"),
    [
        ((50, 51), OLD, True),
        ((50, 50), OLD, False),  # the limit is not passed
        ((60, 51), OLD, False),  # the other one is larger
        ((50, 51), 30.0, False),  # it has just come
    ],
)
def test_the_largest_of_several_workers_makes_room(memory: tuple[int, ...], age: float, goes: bool) -> None:
    assert limit_of(board_of(*memory)).is_too_large(age, is_busy=True) is goes


def test_the_next_worker_goes_when_the_one_before_has_a_successor() -> None:
    board = board_of(200, 300)
    board.note_ending()
    board.bind(0)
    limit = limit_of(board)
    assert not limit.is_too_large(OLD, is_busy=False)

    board.bind(board.claim())
    board.set_memory(100)
    board.bind(0)

    assert limit.is_too_large(OLD, is_busy=False)


def test_the_only_worker_goes_when_nothing_runs_in_it() -> None:
    limit = limit_of(board_of(101), workers=1)

    assert not limit.is_too_large(OLD, is_busy=True)
    assert limit.is_too_large(OLD, is_busy=False)


def test_what_idle_workers_need_is_said_when_all_are_there() -> None:
    board = board_of(140)
    limit = limit_of(board)
    before = limit.to_tell()

    board.bind(board.claim())
    board.set_memory(139 * MIB + 1)
    board.bind(0)

    assert before == ""
    assert limit.to_tell() == (
        "The workers use 280 MiB while no transfer runs, more than MaxMemoryMB (100): uploads are refused. "
        "Set MaxMemoryMB well above 280, or lower NumCores"
    )
    assert limit.to_tell() == ""


def test_beside_a_transfer_nothing_is_said_of_idle_workers() -> None:
    board = board_of(101)
    limit = limit_of(board, workers=1)
    board.add_uploads(1)
    beside_upload = limit.to_tell()
    board.add_uploads(-1)
    board.add_downloads(1)
    beside_download = limit.to_tell()
    board.add_downloads(-1)

    assert (beside_upload, beside_download) == ("", "")
    assert limit.to_tell() != ""


@pytest.mark.parametrize("limit", [MemoryLimit(0, Scoreboard(1), 1), MemoryLimit(100 * MIB, None, 1)])
def test_without_a_limit_or_a_server_nothing_happens(limit: MemoryLimit) -> None:
    assert (limit.to_tell(), limit.is_too_large(OLD, is_busy=False)) == ("", False)
