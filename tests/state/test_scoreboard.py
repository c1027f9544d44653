"""Numbers shared by real processes: every worker adds to its own slot, and a killed one leaves nothing behind."""

import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hmacfs.state import scoreboard
from hmacfs.state.scoreboard import Load, Scoreboard

CLIENT = "192.0.2.1"


@contextmanager
def worker(board: Scoreboard, slot: int, work: Callable[[], object]) -> Iterator[int]:
    """A process that is bound to ``slot``, has done its work, and lives until the block ends. Yields its number."""
    done, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            board.bind(slot)
            work()
            os.write(tell, b"done")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(tell)
        assert os.read(done, 4) == b"done", "the worker failed"
        yield pid
    finally:
        os.close(done)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def at_work(board: Scoreboard, pending: int = 0, written: int = 0, memory: int = 0, client: str = "") -> None:
    board.add_pending(pending)
    board.add_written(written)
    board.set_memory(memory)
    if client:
        board.enter_client(client)


# --- slots ---


def test_slots_are_claimed_from_the_lowest_on_and_used_again() -> None:
    board = Scoreboard(4)

    assert [board.claim() for _ in range(3)] == [0, 1, 2]
    board.release(1)

    assert [board.claim(), board.claim()] == [1, 3]


def test_more_workers_than_slots_share_the_last_one() -> None:
    board = Scoreboard(most_workers=1)

    assert [board.claim() for _ in range(4)] == [0, 1, 1, 1]


def test_a_fresh_board_is_empty() -> None:
    board = Scoreboard(3)

    assert (board.pending(), board.written(), board.memory()) == (0, 0, 0)


# --- sums over processes ---


def test_the_numbers_of_all_processes_add_up_in_each_of_them() -> None:
    board = Scoreboard(3)
    slots = [board.claim() for _ in range(3)]

    with (
        worker(board, slots[1], lambda: at_work(board, 10, 100, 1000)),
        worker(board, slots[2], lambda: at_work(board, 20, 200, 2000)),
    ):
        board.bind(slots[0])
        at_work(board, 5, 50, 500)

        assert (board.pending(), board.written(), board.memory()) == (35, 350, 3500)

        def sees_all() -> None:
            assert (board.pending(), board.written(), board.memory()) == (35, 350, 3500)

        with worker(board, slots[0], sees_all):
            pass


def test_numbers_of_today_s_disks_fit() -> None:
    board = Scoreboard(2)
    board.add_pending(2**50)
    board.add_written(2**60)

    assert (board.pending(), board.written()) == (2**50, 2**60)


def test_pending_bytes_may_be_taken_back() -> None:
    board = Scoreboard()
    board.add_pending(100)
    board.add_pending(-60)

    assert board.pending() == 40


def test_a_killed_worker_s_promises_memory_and_clients_vanish_and_what_it_wrote_stays() -> None:
    board = Scoreboard(2)
    mine, other = board.claim(), board.claim()
    board.bind(mine)
    with worker(board, other, lambda: at_work(board, 10, 100, 1000, CLIENT)):
        assert (board.pending(), board.written(), board.memory()) == (10, 100, 1000)
        assert board.enter_client(CLIENT) == 2

    board.release(other)

    assert (board.pending(), board.written(), board.memory()) == (0, 100, 0)
    assert board.enter_client(CLIENT) == 2  # both are ours
    assert board.claim() == other


def test_releasing_one_worker_leaves_the_others_alone() -> None:
    board = Scoreboard(3)
    slots = [board.claim() for _ in range(3)]
    board.bind(slots[2])
    at_work(board, 5, 50, 500, CLIENT)
    board.bind(slots[0])
    at_work(board, 1, 10, 100)

    board.release(slots[1])

    assert (board.pending(), board.written(), board.memory()) == (6, 60, 600)


def test_the_successor_of_a_killed_worker_begins_from_nothing() -> None:
    board = Scoreboard(1)
    slot = board.claim()
    with worker(board, slot, lambda: at_work(board, 10, 100, 1000, CLIENT)):
        pass
    board.release(slot)

    def starts_afresh() -> None:
        assert board.enter_client(CLIENT) == 1
        assert (board.pending(), board.memory()) == (0, 0)

    with worker(board, board.claim(), starts_afresh):
        pass


def test_the_largest_worker_knows_that_it_is() -> None:
    board = Scoreboard(3)
    slots = [board.claim() for _ in range(3)]
    board.bind(slots[1])
    board.set_memory(500)

    with worker(board, slots[0], lambda: board.set_memory(400)):
        assert board.is_largest()
        board.set_memory(300)
        assert not board.is_largest()
        board.set_memory(400)
        assert board.is_largest()


def test_a_worker_about_to_end_is_not_judged_by_the_memory_limit_and_counts_in_the_load() -> None:
    board = Scoreboard(3)
    old, new = board.claim(), board.claim()
    board.bind(new)
    board.set_memory(300)

    with worker(board, old, lambda: (board.set_memory(400), board.note_ending())):
        assert (board.memory(), board.load().memory) == (300, 700)
        assert board.is_largest()
        assert board.serving() == 1
    board.release(old)
    board.bind(board.claim())
    board.set_memory(50)

    assert (board.slot, board.memory(), board.serving()) == (old, 350, 2)


def test_the_lowest_of_the_workers_that_stay_tells_once_of_each_limit() -> None:
    board = Scoreboard(3)
    slots = [board.claim() for _ in range(3)]
    for slot in slots:
        board.bind(slot)
        board.set_memory(100)
    board.bind(slots[0])
    board.note_ending()

    told = [board.may_tell_limit(limit) for limit in (60, 60, 70) for slot in slots if board.bind(slot) is None]

    assert told == [False, True, False, False, False, False, False, True, False]


# --- clients ---


def test_a_client_is_counted_up_and_down() -> None:
    board = Scoreboard()

    assert [board.enter_client(CLIENT) for _ in range(3)] == [1, 2, 3]
    board.leave_client(CLIENT)
    board.leave_client(CLIENT)
    assert board.enter_client(CLIENT) == 2
    board.leave_client(CLIENT)
    board.leave_client(CLIENT)

    assert board.enter_client(CLIENT) == 1


def test_a_client_is_counted_over_all_processes() -> None:
    board = Scoreboard(3)
    slots = [board.claim() for _ in range(3)]

    def twice() -> None:
        board.enter_client(CLIENT)
        board.enter_client(CLIENT)

    with worker(board, slots[1], twice), worker(board, slots[2], lambda: board.enter_client(CLIENT)):
        board.bind(slots[0])
        assert board.enter_client(CLIENT) == 4
        assert board.enter_client("192.0.2.2") == 1


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client's places are the same ones."""
    real = scoreboard._digest
    monkeypatch.setattr(scoreboard, "_digest", lambda client: real(client) // 1024 * 1024)


@pytest.mark.usefixtures("crowded")
def test_clients_that_collide_are_counted_apart() -> None:
    board = Scoreboard(2)
    board.claim()
    clients = [f"192.0.2.{number}" for number in range(scoreboard._PROBES)]

    for expected in (1, 2):
        assert [board.enter_client(client) for client in clients] == [expected] * len(clients)
    for client in clients[::2]:
        board.leave_client(client)
        board.leave_client(client)
    newcomers = [f"198.51.100.{number}" for number in range(len(clients) // 2)]
    assert [board.enter_client(client) for client in newcomers] == [1] * len(newcomers)

    assert [board.enter_client(client) for client in clients] == [1, 3] * (len(clients) // 2)


@pytest.mark.usefixtures("crowded")
def test_clients_that_collide_are_counted_apart_in_another_process_too() -> None:
    board = Scoreboard(2)
    mine, other = board.claim(), board.claim()
    clients = [f"192.0.2.{number}" for number in range(scoreboard._PROBES)]

    def enter() -> None:
        for number, client in enumerate(clients):
            for _ in range(number):
                board.enter_client(client)

    with worker(board, other, enter):
        board.bind(mine)
        assert [board.enter_client(client) for client in reversed(clients)] == list(range(len(clients), 0, -1))


@pytest.mark.usefixtures("crowded")
def test_clients_without_a_place_are_still_counted_in_their_own_worker() -> None:
    board = Scoreboard()
    clients = [f"192.0.2.{number}" for number in range(3 * scoreboard._PROBES)]

    for expected in (1, 2, 3):
        assert [board.enter_client(client) for client in clients] == [expected] * len(clients)
    for _ in range(3):
        for client in clients:
            board.leave_client(client)

    assert [board.enter_client(client) for client in clients] == [1] * len(clients)


def test_more_clients_than_places_are_counted_and_leave_nothing() -> None:
    board = Scoreboard(2)
    slot = board.claim()
    clients = [f"2001:db8::{number:x}" for number in range(2 * scoreboard._CLIENTS)]

    assert {board.enter_client(client) for client in clients} == {1}
    assert {board.enter_client(client) for client in clients} == {2}
    for client in clients * 2:
        board.leave_client(client)

    assert board._clients == {}
    board.bind(board.claim())
    assert slot == 0
    assert {board.enter_client(client) for client in clients[:100]} == {1}


# --- what is known of a secret ---

SECRET, OTHER_SECRET = 7, 2**59 + 1


def fail_for(board: Scoreboard, *clients: str, secret: int = SECRET) -> None:
    for client in clients:
        board.note_failure(secret, client)


def test_failing_clients_of_all_workers_are_told_apart_up_to_three_in_each() -> None:
    board = Scoreboard(2)
    one = worker(board, 0, lambda: fail_for(board, "a", "b", "a"))
    two = worker(board, 1, lambda: fail_for(board, "b", "c", "d", "e"))
    with one, two:
        assert board.failing(SECRET) == 4
        assert board.failing(OTHER_SECRET) == 0


def test_another_secret_begins_with_nothing() -> None:
    board = Scoreboard(1)
    fail_for(board, "a", "b", "c")
    board.note_success(SECRET)

    fail_for(board, "a", secret=OTHER_SECRET)

    assert (board.failing(SECRET), board.failing(OTHER_SECRET)) == (0, 1)
    assert (board.has_succeeded(SECRET), board.has_succeeded(OTHER_SECRET)) == (True, False)


def test_a_success_is_known_to_all_and_outlives_its_worker() -> None:
    board = Scoreboard(2)
    with worker(board, 1, lambda: board.note_success(SECRET)):
        pass
    board.release(1)

    assert board.has_succeeded(SECRET)


def test_of_several_that_want_to_tell_at_once_one_does() -> None:
    boards = [copy.copy(Scoreboard(3))]
    boards += [copy.copy(boards[0]) for _ in range(2)]
    for slot, board in enumerate(boards):
        board.bind(slot)

    asked = [board.may_tell(SECRET) for board in boards]
    told = [board.may_tell(SECRET) for board in (*reversed(boards), *boards)]

    assert asked == [False] * 3
    assert told.count(True) == 1
    assert [board.may_tell(OTHER_SECRET) for board in boards] == [False] * 3


def test_two_that_claimed_at_the_same_moment_tell_once() -> None:
    board = Scoreboard(2)
    one, two = copy.copy(board), copy.copy(board)
    one.bind(0)
    two.bind(1)
    for each in (one, two):  # as if neither had seen the other's claim
        each._words[each._base + scoreboard._TOLD] = SECRET

    assert [two.may_tell(SECRET), one.may_tell(SECRET), two.may_tell(SECRET), one.may_tell(SECRET)] == [
        False,
        True,
        False,
        False,
    ]


# --- what the server does, and what the store holds ---


def test_the_load_is_that_of_all_workers() -> None:
    board = Scoreboard(4)
    for _ in range(2):
        board.bind(board.claim())
        board.set_memory(1000)
        board.set_load(12.5, 7, 3)
        board.add_uploads(2)
        board.add_downloads(1)

    assert board.load() == Load(2000, 25.0, 14, 6, 4, 2)


def test_a_worker_that_is_gone_does_nothing_any_more_and_what_it_stored_is_there() -> None:
    board = Scoreboard(4)
    board.bind(board.claim())
    board.set_load(12.5, 7, 3)
    board.add_uploads(2)
    board.add_stored(5, 500)

    board.release(board.slot)

    assert board.load() == Load(0, 0.0, 0, 0, 0, 0)
    assert board.stored(0, 0, 0) == (5, 500)


def test_the_store_holds_what_a_sweep_counted_and_what_came_and_went_since() -> None:
    now = 1.0
    board = Scoreboard(4, lambda: now)
    board.add_stored(3, 300)  # before the sweep, which counts it
    now = 2.0
    board.add_stored(1, 50)
    board.add_stored(-2, -200)

    assert board.stored(mark=1500, files=10, count=1000) == (9, 850)
    now = 3.0
    assert board.stored(mark=3000, files=9, count=840) == (9, 840)


def test_what_came_between_a_sweep_and_the_first_look_at_its_note_is_counted() -> None:
    now = 1.0
    board = Scoreboard(2, lambda: now)
    for slot, moment in ((0, 1.0), (0, 5.0), (1, 4.0), (1, 6.0)):
        now = moment
        board.bind(slot)
        board.add_stored(1, 10)

    before, after = board.stored(mark=4500, files=2, count=20), board.stored(mark=5500, files=3, count=30)

    assert (before, after) == ((4, 40), (4, 40))


def test_a_server_that_starts_behind_a_sweep_counts_everything_of_its_own() -> None:
    board = Scoreboard(1)
    board.add_stored(1, 10)

    assert board.stored(mark=1000, files=5, count=50) == (6, 60)


def test_a_note_that_nobody_looked_at_for_long_counts_from_the_oldest_moment_that_is_remembered() -> None:
    now = 1.0
    board = Scoreboard(1, lambda: now)
    for _ in range(5000):
        now += 1.0
        board.add_stored(1, 10)

    assert board.stored(mark=1500, files=0, count=0) == (4095, 40950)


def test_files_of_the_same_moment_take_one_place_in_the_memory_of_a_slot() -> None:
    board = Scoreboard(1, lambda: 1.0)
    for _ in range(5000):
        board.add_stored(1, 10)

    assert board.stored(mark=990, files=0, count=0) == (5000, 50000)


def test_a_stop_is_seen_by_every_worker() -> None:
    board = Scoreboard(4)
    assert not board.is_stopping()

    board.note_stopping()

    assert board.is_stopping()


def test_workers_are_counted_while_they_live() -> None:
    board = Scoreboard(4)
    slots = [board.claim() for _ in range(3)]

    before = board.workers()
    board.release(slots[1])

    assert (before, board.workers()) == (3, 2)


def test_the_board_is_as_old_as_the_server() -> None:
    before = time.monotonic()

    board = Scoreboard(1)

    assert before <= board.began <= time.monotonic()


# --- who tells of all workers ---


def test_one_worker_of_all_tells_once_in_each_interval() -> None:
    board = Scoreboard(2)
    slots = [board.claim() for _ in range(2)]
    told = []

    for second in range(1, 31):
        for slot in slots:
            board.bind(slot)
            if board.turn(second, 10) is not None:
                told.append((second, slot))

    assert told == [(11, 0), (21, 0)]


def test_where_the_first_worker_does_not_tell_the_next_one_does_a_second_later() -> None:
    board = Scoreboard(2)
    board.claim()
    board.bind(board.claim())

    told = [second for second in range(1, 31) if board.turn(second, 10) is not None]

    assert told == [12, 22]


def test_a_shorter_interval_holds_at_once_and_a_long_pause_is_told_once() -> None:
    board = Scoreboard()
    board.turn(1, 3600)

    told = [second for second in (2, 3, 8, 9, 1000, 1001, 1006) if board.turn(second, 5) is not None]

    assert told == [8, 1000, 1006]


def test_what_is_told_is_the_sum_of_all_workers_since_the_last_time_and_outlives_a_killed_one() -> None:
    board = Scoreboard(2)
    board.turn(1, 10)
    for slot, requests in ((board.claim(), 3), (board.claim(), 4)):
        board.bind(slot)
        board.add_work(requests, 1)
    board.bind(0)
    first = board.turn(11, 10)
    board.release(1)
    board.add_work(5, 2)

    assert (first, board.turn(21, 10), board.collections()) == (7, 5, 4)
