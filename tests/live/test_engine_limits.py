"""Who may transfer now: concurrency, clients, free space and memory."""

import errno
import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.test_memory import resident_kib
from tests.support.http import MIB, Connection, get, head_of, put, put_head, url_of
from tests.support.metrics import ask
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.running import begin_upload, held_by, only, small_tmpfs
from tests.support.server import Server, tree

SIZE = 2 * MIB
SENT = 100_000


def begin_upload_at(server: Server, stack: ExitStack, worker: int, path: str, size: int) -> Connection:
    """A stalled upload at one worker of several."""
    with only(server, worker):
        connection = stack.enter_context(Connection(server.address))
        connection.send(put_head(server, path, size) + bytes(SENT))
        until(lambda: held_by(server, worker), "the body is being collected")
    return connection


def test_a_transfer_over_max_workers_waits_for_its_turn(tmp_path: Path) -> None:
    with Server(tmp_path, MaxWorkers=1) as server, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        first = begin_upload(server, stack, "turn/first", SIZE)
        second = pool.submit(put, server, "turn/second", bytes(SIZE))
        for _ in range(20):  # by then it would have been stored
            get(server, "nothing")
        waited = not second.done()

        first.send(bytes(SIZE - SENT))

        assert waited
        assert first.read_answer().status == 201
        assert second.result().status == 201


@pytest.mark.parametrize("end", ["abort", "refusal"])
def test_a_transfer_that_ends_badly_gives_its_turn_back(tmp_path: Path, end: str) -> None:
    with Server(tmp_path, MaxWorkers=1) as server, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        first = begin_upload(server, stack, "turn/first", SIZE)
        second = pool.submit(put, server, "turn/second", bytes(SIZE))

        if end == "abort":
            first.sock.close()
        else:
            first.half_close()
            assert first.read_answer().status == 400

        assert second.result().status == 201
        assert put(server, "turn/first", bytes(SIZE)).status == 201


def test_a_transfer_over_max_workers_that_waits_too_long_is_503(tmp_path: Path) -> None:
    shorter = {"hmacfs.services.gate:WAIT_SECONDS": 1.5}
    with Server(tmp_path, MaxWorkers=1, constants=shorter) as server, ExitStack() as stack:
        first = begin_upload(server, stack, "late/first", SIZE)
        (server.store_dir / "foreign").write_bytes(bytes(SIZE))
        started = time.monotonic()

        with ThreadPoolExecutor(3) as pool:
            answers = [
                pool.submit(put, server, "late/second", bytes(SIZE)),
                pool.submit(put, server, "late/small", b"x"),
                pool.submit(get, server, "foreign"),
            ]
            refused = [answer.result() for answer in answers]

        assert 1.4 < time.monotonic() - started < 4.5  # five seconds in earnest
        assert [(answer.status, answer.code) for answer in refused] == [(503, "server-busy")] * 3
        assert [answer["Retry-After"] for answer in refused] == ["5"] * 3
        first.send(bytes(SIZE - SENT))
        assert first.read_answer().status == 201
        assert put(server, "late/second", bytes(SIZE)).status == 201


def test_a_client_that_gives_up_waiting_takes_no_turn(tmp_path: Path) -> None:
    with Server(tmp_path, MaxWorkers=1) as server, ExitStack() as stack:
        first = begin_upload(server, stack, "gone/first", SIZE)
        for number in range(3):
            with Connection(server.address) as connection:
                connection.send(put_head(server, f"gone/{number}", SIZE) + bytes(SENT))
        first.send(bytes(SIZE - SENT))

        assert first.read_answer().status == 201
        assert put(server, "gone/last", bytes(SIZE)).status == 201


def test_small_requests_go_on_while_every_place_is_taken(tmp_path: Path) -> None:
    with Server(tmp_path, MaxWorkers=1) as server, ExitStack() as stack:
        begin_upload(server, stack, "taken/first", SIZE)

        assert get(server, "absent").status == 404
        assert put(server, "taken/large", b"", headers=[("Content-Range", "x")]).status == 400


@pytest.fixture(scope="module")
def two_each(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("two"), MaxUploadsPerClient=2, NumCores=2) as running:
        yield running


def stored_soon(server: Server, path: str, size: int = 5) -> None:
    """An upload that is accepted as soon as the server has noticed the end of others."""
    until(lambda: put(server, path, bytes(size)).status == 201, "an upload is accepted again")


@pytest.mark.parametrize("size", [5, SIZE])
def test_an_upload_over_max_uploads_per_client_is_429_in_whichever_worker(two_each: Server, size: int) -> None:
    workers = two_each.worker_pids()
    with ExitStack() as stack:
        connections = [begin_upload_at(two_each, stack, pid, f"each-{size}/{pid}", SIZE) for pid in workers]
        refused = []
        for pid in workers:
            with only(two_each, pid):
                refused.append(put(two_each, f"each-{size}/third", bytes(size)))
        assert [(answer.status, answer.code) for answer in refused] == [(429, "too-many-uploads")] * 2
        assert all(int(answer["Retry-After"]) > 0 for answer in refused)
        assert get(two_each, f"each-{size}/third").status == 404

        connections[0].sock.close()
        stored_soon(two_each, f"each-{size}/third", size)
        connections[1].send(bytes(SIZE - SENT))
        assert connections[1].read_answer().status == 201

    until(lambda: not two_each.open_store_files(), "all uploads have ended")


def test_an_ended_upload_counts_no_more(two_each: Server) -> None:
    for number in range(6):
        assert put(two_each, f"ended/{number}", bytes(SIZE)).status == 201


def test_clients_behind_a_trusted_proxy_are_counted_one_by_one(two_each: Server) -> None:
    with ExitStack() as stack:
        for number, address in enumerate(("198.51.100.1", "198.51.100.1", "198.51.100.2")):
            begin_upload(two_each, stack, f"proxied/{number}", SIZE, headers=[("X-Forwarded-For", address)])

        def status(address: str) -> int:
            path = f"proxied/again-{address}"
            return put(two_each, path, b"x", headers=[("X-Forwarded-For", address)]).status

        assert status("198.51.100.1") == 429
        assert status("203.0.113.9, 198.51.100.1") == 429
        assert status("198.51.100.2") == 201
        assert status("198.51.100.3") == 201

    until(lambda: not two_each.open_store_files(), "all uploads have ended")


def test_nginx_in_front_is_not_one_client(two_each: Server) -> None:
    with Nginx(two_each) as proxy, ExitStack() as stack:
        for number in range(2):
            begin_upload(two_each, stack, f"front/{number}", SIZE, headers=[("X-Forwarded-For", "198.51.100.1")])

        assert put(proxy, "front/third", b"x").status == 201

    until(lambda: not two_each.open_store_files(), "all uploads have ended")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Server]:
    """64 MiB, of which 16 must stay free; two workers."""
    with (
        small_tmpfs(tmp_path / "mount", 64) as mount,
        Server(tmp_path, StoreDir=str(mount / "store"), MinFreeSpace="16MiB", NumCores=2) as running,
    ):
        yield running


def test_min_free_space_stays_free_beside_what_is_in_flight_in_every_worker(small_disk: Server) -> None:
    server, part = small_disk, 20 * MIB
    before = tree(server.store_dir)
    with ExitStack() as stack:
        running = [begin_upload_at(server, stack, pid, f"flight/{pid}", part) for pid in server.worker_pids()]
        for pid in server.worker_pids():
            with only(server, pid), Connection(server.address) as connection:
                connection.send(put_head(server, "flight/third", part, headers=[("Expect", "100-continue")]))
                refused = connection.read_answer()  # before the body, so without a 100
                assert (refused.status, refused.code) == (507, "storage-full")
        assert put(server, "flight/small", bytes(MIB)).status == 201
        assert before.keys() <= tree(server.store_dir).keys()

        running[0].sock.close()
        until(lambda: len(server.open_store_files()) == 1, "the server has noticed the abort")
        stored_soon(server, "flight/third", part)
        running[1].send(bytes(part - SENT))
        assert running[1].read_answer().status == 201

    assert put(server, "flight/fourth", bytes(10 * MIB)).status == 507


def test_space_is_counted_once_when_an_upload_has_been_written(small_disk: Server) -> None:
    for number in range(4):
        assert put(small_disk, f"once/{number}", bytes(11 * MIB)).status == 201

    assert put(small_disk, "once/more", bytes(5 * MIB)).status == 507
    (small_disk.store_dir / "once" / "0").unlink()
    stored_soon(small_disk, "once/more", 11 * MIB)


def test_existence_is_told_before_space(small_disk: Server) -> None:
    assert put(small_disk, "known", b"x").status == 201

    assert put(small_disk, "known", bytes(60 * MIB)).code == "file-exists"


def test_a_disk_that_is_full_in_the_middle_is_507_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        small_tmpfs(tmp_path / "mount", 32) as mount,
        Server(tmp_path, StoreDir=str(mount / "store"), MinFreeSpace=0) as server,
    ):
        before = tree(server.store_dir)

        refused = put(server, "full/file", bytes(50 * MIB))

        assert (refused.status, refused.code) == (507, "storage-full")
        until(lambda: not server.open_store_files(), "the unfinished file is closed")
        assert tree(server.store_dir) == before
        assert put(server, "full/file", bytes(20 * MIB)).status == 201


def filled(file: Path) -> None:
    """Write until nothing more fits."""
    with open(file, "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(65536))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def test_a_small_file_on_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        small_tmpfs(tmp_path / "mount", 16) as mount,
        Server(tmp_path, StoreDir=str(mount / "store"), MinFreeSpace=0) as server,
    ):
        filled(mount / "ballast")

        refused = put(server, "full/small", bytes(20_000))

        assert (refused.status, refused.code) == (507, "storage-full")
        assert not (server.store_dir / "full" / "small").exists()
        (mount / "ballast").unlink()
        assert put(server, "full/small", bytes(20_000)).status == 201


def test_over_max_memory_mb_downloads_go_on_and_uploads_do_not(tmp_path: Path) -> None:
    with Server(tmp_path, MaxMemoryMB=1) as server:
        (server.store_dir / "foreign").write_bytes(bytes(SIZE))
        until(lambda: put(server, "memory/large", bytes(SIZE)).status == 503, "the memory has been looked at")

        for size in (1, SIZE):
            refused = put(server, f"memory/refused-{size}", bytes(size))
            assert (refused.status, refused.code) == (503, "server-busy")
            assert int(refused["Retry-After"]) > 0
        assert get(server, "foreign").body == bytes(SIZE)


def test_a_memory_limit_that_idle_workers_pass_is_told_once_with_what_they_need(tmp_path: Path) -> None:
    never_replaced = {"hmacfs.server.memorylimit:_LEAST_AGE_SECONDS": 3600.0}
    with Server(tmp_path, NumCores=2, MaxMemoryMB=60, constants=never_replaced) as server:
        until(lambda: server.lines("while no transfer runs"), "it is told")
        both = sum(resident_kib(pid) for pid in server.worker_pids()) / 1024
        assert put(server, "memory/refused", b"x").code == "server-busy"
        server.write_config(NumCores=2, MaxMemoryMB=70)
        server.signal(signal.SIGHUP)
        until(lambda: len(server.lines("while no transfer runs")) == 2, "it is told of the new limit too")

    first, second = server.lines("while no transfer runs")
    needed = int(first.partition("use ")[2].split()[0])
    assert needed == pytest.approx(both, rel=0.1)
    assert "more than MaxMemoryMB (60): uploads are refused." in first
    assert f"Set MaxMemoryMB well above {needed}, or lower NumCores" in first
    assert "more than MaxMemoryMB (70)" in second


def test_beside_workers_that_a_reload_replaced_uploads_are_judged_by_the_new_ones(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2, GracefulShutdownTimeout=60) as server, ExitStack() as stack:
        limit = sum(resident_kib(pid) for pid in server.worker_pids()) * 3 // 2 // 1024
        server.write_config(MaxMemoryMB=limit)
        assert put(server, "reload/large", bytes(30 * MIB)).status == 201
        old = server.worker_pids()
        for worker in old:
            with only(server, worker):
                begin_download(server, stack, "reload/large")

        server.signal(signal.SIGHUP)
        until(lambda: memory_told(server) > limit * MIB, "new workers serve beside the old ones")
        answers = [put(server, f"reload/{number}", b"x").status for number in range(20)]

        assert answers == [201] * 20
        assert set(old) <= set(server.worker_pids())


def memory_told(server: Server) -> int:
    """Resident bytes of all workers, by the server's own word."""
    return int(json.loads(ask(server, "/status.json").body)["memory"])


def begin_download(server: Server, stack: ExitStack, path: str) -> None:
    """One that nobody reads beyond its head."""
    connection = stack.enter_context(Connection(server.address))
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.send(head_of("GET", url_of(server, path)))
    connection.read_head()


def test_a_stalled_upload_holds_no_buffer(tmp_path: Path) -> None:
    count, size = 200, 10 * MIB
    with Server(tmp_path) as server, ExitStack() as stack:
        put(server, "warm/up", bytes(4 * MIB))
        get(server, "warm/up")
        until(lambda: not server.open_store_files(), "the download has ended")
        with ExitStack() as warm:
            for number in range(8):
                begin_upload(server, warm, f"warm/{number}", size)
        until(lambda: not server.open_store_files(), "the first uploads have ended")
        before = resident_kib(server.worker())

        for number in range(count):
            connection = stack.enter_context(Connection(server.address))
            connection.send(put_head(server, f"stalled/{number}", size))
        until(lambda: len(server.open_store_files()) == count, "every body is being collected")

        assert (resident_kib(server.worker()) - before) / count < 100


def test_a_stalled_download_holds_no_buffer(tmp_path: Path) -> None:
    count, size = 100, 20 * MIB
    with Server(tmp_path) as server, ExitStack() as stack:
        put(server, "stalled/file", bytes(size))
        get(server, "stalled/file")
        until(lambda: not server.open_store_files(), "the download has ended")
        before = resident_kib(server.worker())

        for _ in range(count):
            connection = stack.enter_context(Connection(server.address))
            connection.send(head_of("GET", url_of(server, "stalled/file")))
            connection.read_head()
        until(lambda: len(server.open_store_files()) == count, "every download runs")

        assert (resident_kib(server.worker()) - before) / count < 100
