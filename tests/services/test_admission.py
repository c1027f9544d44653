"""Who may transfer now: the order of the refusals, places handed on in turn, and free space that is promised once."""

import copy
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from hmacfs.errors import Draining, RequestError, ServerBusy, StorageFailed, StorageFull, TooManyUploads
from hmacfs.services.admission import Admission, Limits
from hmacfs.state.scoreboard import Scoreboard
from tests.services.gates import Killed, ScriptedEvent, free_places

CLIENT = "192.0.2.1"


class Disk:
    """A filesystem and a clock."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.time = 100.0
        self.asked = 0

    def free_bytes(self) -> int:
        self.asked += 1
        return self.free

    def now(self) -> float:
        return self.time


def admitting(disk: Disk, board: Scoreboard | None = None, **limits: int) -> Admission:
    return Admission(Limits(**limits), board or Scoreboard(), disk.free_bytes, disk.now)


def workers(count: int) -> list[Scoreboard]:
    """One board as seen by several workers, as forking leaves it."""
    board = Scoreboard(count)
    seen = []
    for _ in range(count):
        mine = copy.copy(board)
        mine._clients = {}
        mine.bind(board.claim())
        seen.append(mine)
    return seen


def admit(admitted: Admission, total: int = 0, client: str = CLIENT) -> None:
    with admitted.upload(client, total):
        pass


def test_downloads_and_uploads_share_the_places(waiting: type[ScriptedEvent]) -> None:
    admitted = admitting(Disk(), transfers=2)

    admitted.enter_download()
    with admitted.upload(CLIENT, 1):
        with pytest.raises(ServerBusy):
            admitted.enter_download()
        with pytest.raises(ServerBusy):
            admit(admitted)
    admitted.enter_download()
    admitted.leave_download()
    admitted.leave_download()

    assert free_places(admitted.gate) == 2


# --- the order ---


def test_refusals_come_in_the_order_of_the_protocol(waiting: type[ScriptedEvent]) -> None:
    board = Scoreboard()
    board.enter_client(CLIENT)
    board.set_memory(2)
    disk = Disk(free=10)
    refused: list[type[RequestError]] = []
    remedies: list[Callable[[Admission], object]] = [
        lambda _: board.leave_client(CLIENT),
        lambda admitted: setattr(admitted, "draining", False),
        lambda _: board.set_memory(1),
        lambda admitted: admitted.leave_download(),
        lambda _: setattr(disk, "free", 1000),
    ]
    admitted = admitting(disk, board, transfers=1, uploads_per_client=1, memory=1, free_space=100)
    admitted.draining = True
    admitted.enter_download()

    for remedy in remedies:
        with pytest.raises(RequestError) as caught:
            admit(admitted)
        refused.append(type(caught.value))
        disk.time += 60.0
        remedy(admitted)

    assert refused == [TooManyUploads, Draining, ServerBusy, ServerBusy, StorageFull]
    admit(admitted)


def test_a_server_over_its_memory_does_not_keep_uploads_waiting(waiting: type[ScriptedEvent]) -> None:
    board = Scoreboard()
    board.set_memory(11)

    with pytest.raises(ServerBusy) as caught:
        admit(admitting(Disk(), board, transfers=0, memory=10))

    assert (caught.value.status, caught.value.retry_after, caught.value.detail) == (503, 5, "over MaxMemoryMB")
    assert waiting.waited == []


def test_memory_is_that_of_all_workers() -> None:
    here, there = workers(2)
    admitted = admitting(Disk(), here, memory=10)
    here.set_memory(5)
    there.set_memory(5)
    admit(admitted)

    there.set_memory(6)

    with pytest.raises(ServerBusy):
        admit(admitted)


def test_without_limits_everything_is_admitted_and_no_disk_is_asked() -> None:
    board, disk = Scoreboard(), Disk(free=0)
    board.set_memory(2**40)

    admit(admitting(disk, board), total=2**50)

    assert disk.asked == 0


# --- draining ---


def test_a_draining_server_admits_no_upload_but_keeps_sending() -> None:
    admitted = admitting(Disk(), transfers=2)
    with admitted.upload(CLIENT, 5) as running:
        admitted.draining = True

        with pytest.raises(Draining) as caught:
            admit(admitted)
        admitted.enter_download()
        running.wrote(5)
    admitted.leave_download()

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "draining", 5)


def test_a_worker_that_a_reload_replaces_admits_uploads_for_half_of_its_time() -> None:
    disk = Disk()
    admitted = admitting(disk)

    admitted.drain(30.0)
    disk.time += 14.9
    admit(admitted)
    disk.time += 0.1

    with pytest.raises(Draining):
        admit(admitted)


def test_a_server_that_stops_admits_none_from_then_on_also_behind_a_reload() -> None:
    board = Scoreboard()
    admitted = admitting(Disk(), board)
    admitted.drain(30.0)

    board.note_stopping()

    with pytest.raises(Draining):
        admit(admitted)


# --- clients ---


def test_a_client_may_have_so_many_uploads_at_once_and_others_as_many() -> None:
    admitted = admitting(Disk(), uploads_per_client=2)

    with admitted.upload(CLIENT, 0), admitted.upload(CLIENT, 0):
        with pytest.raises(TooManyUploads) as caught:
            admit(admitted)
        with admitted.upload("192.0.2.2", 0), admitted.upload("192.0.2.2", 0):
            pass
    admit(admitted)

    assert (caught.value.status, caught.value.retry_after) == (429, 5)


def test_a_client_s_uploads_are_counted_over_all_workers() -> None:
    boards = workers(3)
    admitted = [admitting(Disk(), board, uploads_per_client=2) for board in boards]

    with admitted[0].upload(CLIENT, 0):
        with admitted[1].upload(CLIENT, 0):
            for one in admitted:
                with pytest.raises(TooManyUploads):
                    admit(one)
        for one in admitted:
            admit(one)


def test_a_client_without_an_address_is_not_counted() -> None:
    admitted = admitting(Disk(), uploads_per_client=1)

    with ExitStack() as running:
        for _ in range(10):
            running.enter_context(admitted.upload("", 0))

        assert admitted.board.enter_client("somebody") == 1


def test_a_refused_client_is_not_counted(waiting: type[ScriptedEvent]) -> None:
    disk = Disk(free=10)
    admitted = admitting(disk, uploads_per_client=1, transfers=1, free_space=1)

    with admitted.upload("192.0.2.2", 0):
        for _ in range(5):
            with pytest.raises(ServerBusy):
                admit(admitted)
    for _ in range(5):
        with pytest.raises(StorageFull):
            admit(admitted, total=100)
    admitted.draining = True
    for _ in range(5):
        with pytest.raises(Draining):
            admit(admitted)
    admitted.draining = False

    admit(admitted)


# --- space ---


def test_an_upload_may_fill_the_disk_down_to_the_reserve_exactly() -> None:
    admitted = admitting(Disk(free=100), free_space=20)

    admit(admitted, total=80)
    with pytest.raises(StorageFull) as caught:
        admit(admitted, total=81)

    assert (caught.value.status, caught.value.detail) == (507, "MinFreeSpace")


def test_what_is_promised_to_one_upload_is_not_promised_to_another() -> None:
    admitted = admitting(Disk(free=100), free_space=20)

    with admitted.upload(CLIENT, 50):
        with admitted.upload(CLIENT, 30), pytest.raises(StorageFull):
            admit(admitted, total=1)
        admit(admitted, total=30)
    admit(admitted, total=80)


def test_what_is_promised_by_another_worker_counts() -> None:
    here, there = workers(2)
    disk = Disk(free=100)

    with admitting(disk, there, free_space=20).upload(CLIENT, 50):
        with pytest.raises(StorageFull):
            admit(admitting(disk, here, free_space=20), total=31)
        admit(admitting(disk, here, free_space=20), total=30)


def test_what_was_written_is_counted_once_whoever_wrote_it_and_whenever_the_disk_is_asked() -> None:
    """At every moment the room is what the disk will have left when all running uploads are done, less the reserve."""
    boards = workers(3)
    disk = Disk(free=1000)
    admitted = [admitting(disk, board, free_space=100) for board in boards]

    with admitted[0].upload(CLIENT, 300) as first, admitted[1].upload(CLIENT, 200) as second:
        for step in range(20):
            for one in admitted:
                assert one.room() == 1000 - 100 - 500
            for progress in (first, second):
                disk.free -= 10
                progress.wrote(10)
            disk.time += (0.0, 0.4, 1.5)[step % 3]
        assert [one.room() for one in admitted] == [400, 400, 400]
    disk.time += 2.0

    assert [one.room() for one in admitted] == [1000 - 100 - 400] * 3


def test_the_disk_is_asked_at_most_once_a_second() -> None:
    disk = Disk(free=100)
    admitted = admitting(disk, free_space=1)

    for _ in range(100):
        admit(admitted, total=1)
        disk.time += 0.02

    assert disk.asked <= 3


def test_space_that_somebody_else_frees_is_noticed() -> None:
    disk = Disk(free=10)
    admitted = admitting(disk, free_space=10)
    with pytest.raises(StorageFull):
        admit(admitted, total=1)

    disk.free = 100
    disk.time += 1.5

    admit(admitted, total=90)


@pytest.mark.parametrize("error", [RuntimeError, StorageFailed, Killed, GeneratorExit])
@pytest.mark.parametrize("written", [0, 30, 80])
def test_everything_is_given_back_however_an_upload_ends(error: type[BaseException], written: int) -> None:
    board, disk = Scoreboard(), Disk(free=100)
    admitted = admitting(disk, board, transfers=1, uploads_per_client=1, free_space=20)

    def write_and_fail() -> None:
        with admitted.upload(CLIENT, 80) as progress:
            progress.wrote(written)
            raise error

    with pytest.raises(error):
        write_and_fail()

    assert board.pending() == 0
    disk.time += 2.0  # what was written is removed again
    admit(admitted, total=80)


def test_a_disk_that_cannot_be_asked_takes_nothing_along() -> None:
    board = Scoreboard()

    def fail() -> int:
        raise StorageFailed("EIO")

    admitted = Admission(Limits(transfers=1, uploads_per_client=1, free_space=1), board, fail, lambda: 0.0)
    for _ in range(3):
        with pytest.raises(StorageFailed):
            admit(admitted, total=1)

    assert board.pending() == 0
    assert board.enter_client(CLIENT) == 1


def test_free_space_asked_by_two_at_once_is_not_promised_twice() -> None:
    board, disk = Scoreboard(), [1000]
    board.add_pending(500)
    inside, go = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    asked: list[int] = []
    rooms: dict[int, int] = {}

    def free() -> int:
        number, value = len(asked), disk[0]
        asked.append(number)
        inside[number].set()
        assert go[number].wait(20)
        return value

    admitted = Admission(Limits(free_space=1), board, free, lambda: 100.0)
    first = threading.Thread(target=lambda: rooms.__setitem__(1, admitted.room()))
    second = threading.Thread(target=lambda: rooms.__setitem__(2, admitted.room()))
    first.start()
    assert inside[0].wait(20)
    board.add_pending(-300)
    board.add_written(300)
    disk[0] -= 300
    second.start()
    assert inside[1].wait(20)
    for event, thread in zip(go, (first, second), strict=True):
        event.set()
        thread.join(20)

    assert rooms == {1: 499, 2: 499}


def test_an_upload_that_waited_for_its_place_into_a_drain_is_refused() -> None:
    admitted = admitting(Disk(), transfers=1)
    gate = admitted.gate
    entered = gate.enter

    def enter_late() -> None:
        entered()
        admitted.draining = True

    gate.enter = enter_late  # type: ignore[method-assign]

    with pytest.raises(Draining), admitted.upload(CLIENT, 1):
        pass
    assert gate._free == 1


def test_as_many_of_the_largest_uploads_as_there_may_be_are_counted() -> None:
    board = Scoreboard()
    admitted = admitting(Disk(), board, transfers=100_000)
    with ExitStack() as running:
        for _ in range(100_000):
            running.enter_context(admitted.upload(CLIENT, 2**53)).wrote(1)
        during = board.pending()

    assert during > 2**61
    assert board.pending() == 0
