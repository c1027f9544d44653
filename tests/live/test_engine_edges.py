"""Where one mechanism meets another: low marks and time limits, small answers and slow readers, bursts and memory."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.test_memory import resident_kib
from tests.support.http import MIB, Connection, get, head_of, put, put_head, url_of
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.proxy import Proxy, Way
from tests.support.running import begin_upload, refuses
from tests.support.server import Server, open_files

KEEP = [("Connection", "keep-alive")]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hasty"), ReadTimeout=1, WriteTimeout=1, HeadTimeout="1s") as running:
        yield running


@pytest.mark.parametrize("size", [6, 60_000, 100_000])
def test_a_body_in_small_pieces_with_pauses_within_the_limit_is_accepted(hasty: Server, size: int) -> None:
    content = b"x" * size
    with Connection(hasty.address) as connection:
        connection.send(put_head(hasty, f"pauses/{size}", size))
        for number in range(6):
            connection.send(content[number * size // 6 : (number + 1) * size // 6])
            time.sleep(0.3)  # 1.8 seconds in all, longer than the limit for silence
        answer = connection.read_answer()

    assert answer.status == 201


def test_a_slow_body_above_the_least_rate_is_accepted(tmp_path: Path) -> None:
    window = {"hmacfs.core.throttle:WINDOW_SECONDS": 1.0}
    content = bytes(150_000)
    with (
        Server(tmp_path, constants=window, MinBytesPerSecond=20_000) as server,
        Proxy(server.address, up=Way(rate=60_000)) as proxy,
        Connection(proxy.address) as connection,
    ):
        connection.send(put_head(server, "least/enough", len(content)) + content)

        assert connection.read_answer().status == 201


def test_a_client_that_asks_and_asks_and_never_reads_is_cut_off(hasty: Server) -> None:
    put(hasty, "small/file", bytes(60_000))
    before = sum(target.startswith("socket:") for target in open_files(hasty.worker()))
    with Connection(hasty.address) as connection:
        connection.sock.settimeout(2)
        try:
            for _ in range(2000):  # 120 MB of answers, more than the kernel keeps for us
                connection.send(head_of("GET", url_of(hasty, "small/file"), KEEP))
        except OSError:
            pass

        until(
            lambda: sum(target.startswith("socket:") for target in open_files(hasty.worker())) <= before,
            "the connection is closed",
            8,
        )


@pytest.mark.parametrize("sent", [1000, 30_000, 100_000])
def test_a_stalled_upload_whose_head_and_first_bytes_come_together_holds_no_buffer(tmp_path: Path, sent: int) -> None:
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
            connection.send(put_head(server, f"stalled/{number}", size) + bytes(sent))
        until(lambda: len(server.open_store_files()) == count, "every body is being collected")

        until(lambda: (resident_kib(server.worker()) - before) / count < 100, "a stalled upload takes under 100 KiB")


def test_ipv6_clients_of_one_64_network_are_one_client(tmp_path: Path) -> None:
    with Server(tmp_path, MaxUploadsPerClient=2) as server, ExitStack() as stack:
        for number in (1, 2):
            begin_upload(server, stack, f"six/{number}", MIB, headers=[("X-Forwarded-For", f"2001:db8:0:1::{number}")])
        assert put(server, "six/3", b"x", headers=[("X-Forwarded-For", "2001:db8:0:1::3")]).status == 429
        assert put(server, "six/4", b"x", headers=[("X-Forwarded-For", "2001:db8:0:2::3")]).status == 201


def test_the_tag_that_nginx_gave_holds_as_a_precondition(tmp_path: Path) -> None:
    with (
        Server(tmp_path, DirectDownloads="X-Accel-Redirect:/stored/") as server,
        Nginx(server, internal="/stored/") as n,
    ):
        put(n, "tag/file", bytes(MIB))
        etag = get(n, "tag/file")["ETag"]
        assert get(n, "tag/file", [("If-Match", etag)]).status == 200


def test_a_pipelined_upload_outlives_a_stop(tmp_path: Path) -> None:
    size = 2 * MIB
    with Server(tmp_path, GracefulShutdownTimeout=20) as server, Connection(server.address) as connection:
        get_head = head_of("GET", url_of(server, "no/file"), KEEP)
        connection.send(get_head + put_head(server, "piped/file", size) + bytes(MIB))
        assert connection.read_answer().status == 404
        until(server.open_store_files, "the body is being collected")

        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "the listener is closed")
        connection.send(bytes(MIB))

        assert connection.read_answer().status == 201


def test_half_a_head_behind_a_request_has_the_time_of_a_head(hasty: Server) -> None:
    whole = head_of("GET", url_of(hasty, "no/file"), KEEP)
    with Connection(hasty.address) as connection:
        connection.send(whole + whole[:20])
        assert connection.read_answer().status == 404
        connection.sock.settimeout(8)

        assert connection.read_to_end() == b""


def test_a_time_that_no_http_date_can_say_is_served_and_holds_no_place(tmp_path: Path) -> None:
    with Server(tmp_path, MaxWorkers=1, StoreDir=f"/dev/shm/hmacfs-{os.getpid()}") as server:
        try:
            put(server, "far/future", bytes(200_000))
            os.utime(server.store_dir / "far/future", (253402300800,) * 2)

            for _ in range(3):
                assert get(server, "far/future").status == 200
        finally:
            shutil.rmtree(server.store_dir)


def test_silent_connections_cannot_take_the_descriptors_of_transfers(tmp_path: Path) -> None:
    limit = (sys.executable, "-c", _LIMITED)
    with Server(tmp_path, wrapper=limit, HeadTimeout="1m") as server, ExitStack() as stack:
        old = server.worker()
        upload = stack.enter_context(Connection(server.address))
        upload.send(put_head(server, "few/descriptors", MIB) + bytes(MIB // 2))
        until(server.open_store_files, "the body is being collected")
        for _ in range(300):
            stack.enter_context(Connection(server.address))
        upload.send(bytes(MIB // 2))

        assert upload.read_answer().status == 201
        assert server.worker_pids() == [old]


_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_refused_client_reads_its_answer_though_the_server_stops(tmp_path: Path) -> None:
    with Server(tmp_path, GracefulShutdownTimeout=10) as server, Connection(server.address) as connection:
        connection.send(head_of("PUT", "/upload/a/b?v2=" + "0" * 64, [("Content-Length", str(64 * MIB))]))
        connection.send(bytes(MIB))
        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "the listener is closed")

        for _ in range(10):
            connection.send(bytes(MIB))  # raises when the connection was reset

        assert connection.read_answer().status == 403


def test_an_answer_names_no_version_above_ours(hasty: Server) -> None:
    with Connection(hasty.address) as connection:
        connection.send(b"GET /upload/no/file HTTP/1.9\r\nHost: x\r\nConnection: close\r\n\r\n")

        assert connection.read_to_end().startswith(b"HTTP/1.1 404 ")
