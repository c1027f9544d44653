"""Metrics of real servers: exact for what was answered, whatever happens to workers, and out of the public's reach."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import pytest

from tests.support import http
from tests.support.http import Connection
from tests.support.metrics import Scrape, ask, scrape
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.running import begin_upload, refuses, send_for_ever
from tests.support.server import Server, open_files
from tests.support.skipping import skip_or_fail
from tests.telemetry.test_metrics import PROMISED

UPLOADS = "hmac_file_server_uploads_total"
DOWNLOADS = "hmac_file_server_downloads_total"
ERRORS = "hmac_file_server_download_errors_total"
KEPT_ON_PURPOSE = {"active_connections_total", "goroutines_count"}
"""Names that break promtool's rules, and that dashboards out there query."""

RESPAWNS = 8

PLACES = "hmacfs.server.operations:SECONDS"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), NumCores=2) as running:
        yield running


def folder_of(server: Server) -> Path:
    """Where its workers count."""
    (found,) = {
        os.path.dirname(path)
        for pid in server.worker_pids()
        for path in open_files(pid)
        if "/hmacfs-metrics-" in path and path.endswith(".db")
    }
    return Path(found)


class Load:
    """Requests, each of which was answered, and how many there were."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.number = 0

    def run(self, count: int) -> None:
        """So many uploads, downloads and missing files, on connections that both workers take."""
        for _ in range(count):
            self.number += 1
            path = f"load/{self.number}.bin"
            assert http.put(self._server, path, b"x" * 1000).status == 201
            assert http.get(self._server, path).status == 200
            assert http.get(self._server, f"{path}.missing").status == 404

    def told(self) -> Scrape | None:
        """Once all are counted. A worker counts behind the end of an answer, and its text may be a second old."""
        told = scrape(self._server)
        slot = f"{self._server.prefix}<path>"
        found = [
            told.value(UPLOADS),
            told.value(DOWNLOADS),
            told.value(ERRORS),
            told.value("hmac_file_server_upload_bytes_total") / 1000,
            told.value("hmac_file_server_download_bytes_total") / 1000,
            told.value("hmac_file_server_upload_duration_seconds_count"),
            told.value("http_requests_total", method="PUT", path=slot),
            told.value("http_requests_total", method="GET", path=slot) / 2,
        ]
        assert max(found) <= self.number, found
        return told if min(found) == self.number else None

    def assert_counted(self) -> None:
        until(self.told, f"{self.number} of each are counted")


# --- what is told ---


def test_all_that_was_promised_is_told_and_nothing_else(server: Server) -> None:
    http.get(server, "missing")
    http.request(server, "PUT", f"{server.prefix}unsigned", [("Content-Length", "0")])

    told = until(
        lambda: (
            found
            if (found := scrape(server)).value(
                "hmac_file_server_auth_failures_total", protocol="none", reason="missing"
            )
            else None
        ),
        "the refusal is counted",
    )

    promised = {line.split()[0]: line.split()[1] for line in PROMISED.strip().splitlines()}
    assert told.types == promised
    assert told.value("hmac_file_server_errors_total", operation="upload", code="bad-signature") == 1


def test_gauges_say_what_is(server: Server) -> None:
    with ExitStack() as stack:
        begin_upload(server, stack, "gauge/slow", 5_000_000)

        def is_told() -> bool:
            told = scrape(server)
            return (
                told.value("hmac_file_server_transfers_active", direction="upload") == 1
                and told.value("active_connections_total") >= 1
            )

        until(is_told, "the running upload is told")
    told = scrape(server)

    assert told.value("memory_usage_bytes") > 20_000_000
    assert told.value("hmac_file_server_store_free_bytes") > 0
    assert told.value("goroutines_count") == told.value("hmac_file_server_goroutines") >= 2
    until(  # a disk that stands still takes the tier away for a second or two
        lambda: scrape(server).value("hmac_file_server_backend_up", backend="embedded") == 1, "the tier serves"
    )
    until(
        lambda: not scrape(server).value("hmac_file_server_transfers_active", direction="upload"),
        "the upload that was broken off is over",
    )


def test_hostile_paths_and_methods_make_no_series(server: Server) -> None:
    http.get(server, "plain")
    for method in ("BREW", "PROPFIND", "GETX"):
        http.request(server, method, f"{server.prefix}a")
    before = scrape(server).labels("http_requests_total")

    for number in range(50):
        http.request(server, f"M{number}", f"{server.prefix}a/{number}")
        http.request(server, "GET", f"{server.prefix}a%0a{number}%22%7d")
        http.request(server, "GET", f"/elsewhere/{number}")

    assert scrape(server).labels("http_requests_total") == before


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready", "/status.json"])
def test_the_public_listener_does_not_know_the_paths(server: Server, path: str) -> None:
    answer = http.request(server, "GET", path)

    assert (answer.status, answer.code) == (404, "not-found")


def test_the_operations_listener_serves_no_file(server: Server) -> None:
    assert http.put(server, "public", b"x").status == 201

    assert ask(server, f"{server.prefix}public").status == 404
    assert ask(server, "/").status == 404
    assert ask(server, "/metrics", "PUT").status == 405


def test_promtool_finds_nothing_but_the_names_that_are_kept(server: Server) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("promtool is not installed (Debian: prometheus)")
    http.get(server, "missing")

    done = subprocess.run(
        [promtool, "check", "metrics"], input=ask(server).body, capture_output=True, check=False, timeout=60
    )

    complaints = (done.stdout + done.stderr).decode().splitlines()
    assert {line.split()[0] for line in complaints} <= KEPT_ON_PURPOSE, complaints


# --- what outlives what ---


def test_counts_are_exact_through_kills_and_reloads(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2) as server:
        load = Load(server)
        load.run(20)
        load.assert_counted()

        for _ in range(2):
            before = server.worker_pids()
            os.kill(before[0], signal.SIGKILL)
            until(lambda before=before: _are_other(server, before[:1]), "another worker has come")
            load.run(20)
            load.assert_counted()

        before = server.worker_pids()
        server.signal(signal.SIGHUP)
        until(lambda: _are_other(server, before), "the old workers have gone")
        load.run(20)
        load.assert_counted()


def _are_other(server: Server, gone: list[int]) -> bool:
    now = server.ready_workers()
    return len(now) == 2 and len(server.worker_pids()) == 2 and not set(now) & set(gone)


def test_workers_that_come_and_go_leave_no_more_files_than_there_are_slots(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        folder, load = folder_of(server), Load(server)
        load.run(1)
        load.assert_counted()
        files = sorted(path.name for path in folder.iterdir())

        for _ in range(RESPAWNS):
            pid = server.worker()
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: server.ready_workers() not in ([], [pid]), "another worker has come")

        load.run(1)
        load.assert_counted()
        assert sorted(path.name for path in folder.iterdir()) == files
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not folder.exists()


def test_a_torn_file_hides_no_other_and_is_counted(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2) as server:
        load = Load(server)
        load.run(5)
        load.assert_counted()
        Path(folder_of(server), "counter_77.db").write_bytes(b"\x40\0\0\0\0\0\0\0\xff\xff\xff\x7f torn by a crash")

        until(
            lambda: scrape(server).value("hmac_file_server_errors_total", operation="metrics", code="internal"),
            "the torn file is counted",
        )
        load.run(1)
        load.assert_counted()


# --- the listener ---


def test_a_server_that_stops_answers_until_its_last_transfer_has_ended(tmp_path: Path) -> None:
    with Server(tmp_path, GracefulShutdownTimeout=30) as server, ExitStack() as stack:
        body = bytes(1_500_000)
        connection = begin_upload(server, stack, "slow", len(body), 1_000_000)
        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "no new connection is taken")

        assert scrape(server).value("hmac_file_server_transfers_active", direction="upload") == 1

        connection.send(body[1_000_000:])
        assert connection.read_answer().status == 201
        assert server.wait() == 0


def test_it_keeps_listening_through_a_reload_and_a_change_is_told(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        old, before = server.operations, server.worker()
        server.write_config(MetricsPort=f"127.0.0.1:{free_port()}")
        server.signal(signal.SIGHUP)
        until(lambda: before not in server.worker_pids() and server.ready_workers(), "it reloads")
        server.keys["MetricsPort"] = "{}:{}".format(*old)

        assert ask(server).status == 200
        assert len(server.lines("MetricsPort change with a restart only")) == 1


def test_an_empty_metrics_port_serves_them_on_the_main_listener(tmp_path: Path) -> None:
    with Server(tmp_path, MetricsPort="") as server:
        assert http.put(server, "a", b"x").status == 201

        assert http.request(server, "GET", "/metrics").status == 200
        assert http.get(server, "a").status == 200
        assert http.request(server, "GET", "/elsewhere").status == 404
        assert len(server.lines("Listening on")) == 1


def test_without_metrics_enabled_nothing_listens_and_nothing_is_counted(tmp_path: Path) -> None:
    with Server(tmp_path, MetricsEnabled=False) as server:
        with pytest.raises(ConnectionRefusedError):
            Connection(server.operations)

        assert http.request(server, "GET", "/metrics").status == 404
        assert not [path for path in open_files(server.worker()) if "hmacfs-metrics-" in path]


def test_the_start_says_where_it_listens(server: Server) -> None:
    host, port = server.operations

    assert server.lines(f"Listening on 127.0.0.1:{server.port}")
    assert server.lines(f"Listening on {host}:{port} for metrics and health")


def taken(server: Server) -> int:
    """Connections of the operations listener that the worker has accepted."""
    port = server.operations[1]
    rows = [line.split() for line in Path(f"/proc/{server.worker()}/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    return len(established.intersection(open_files(server.worker())))


def test_who_takes_all_its_connections_keeps_nobody_from_uploading(tmp_path: Path) -> None:
    with Server(tmp_path, HeadTimeout=60, constants={PLACES: 60.0}) as server:
        with ExitStack() as stack:
            for _ in range(80):
                stack.enter_context(Connection(server.operations))
            until(lambda: taken(server) == 64, "64 are taken")

            assert http.put(server, "a", b"x" * 100_000).status == 201
            assert taken(server) == 64

        assert scrape(server).value(UPLOADS) == 1


@pytest.mark.parametrize(
    "begun",
    [b"GET /metrics HTTP/1.1\r\nX-Filling: ", http.head_of("POST", "/metrics", [("Content-Length", "1000000")])],
    ids=["head", "body"],
)
def test_who_goes_on_sending_a_head_or_a_refused_body_keeps_a_place_no_longer_than_any_other(
    tmp_path: Path, begun: bytes
) -> None:
    with (
        Server(tmp_path, HeadTimeout=60, constants={PLACES: 1.5}) as server,
        Connection(server.operations) as connection,
    ):
        started = time.monotonic()
        connection.send(begun)

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(connection, repeat(b"x"), 20, pause=0.05)

        assert 1 < time.monotonic() - started < 6


HAND_OVER = """
import os, socket, sys
ports, command = sys.argv[1], sys.argv[2:]
held = []
for place, port in enumerate(ports.split(",")):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", int(port)))
    sock.listen(100)
    held.append(os.dup2(sock.fileno(), 20 + place))
for place, number in enumerate(held):
    os.dup2(number, 3 + place)
    os.set_inheritable(3 + place, True)
os.environ.update(LISTEN_FDS=str(len(held)), LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""
"""What systemd does for a socket unit with several ListenStream lines: binds them in their order, and becomes us."""


def test_systemds_second_socket_is_the_operations_listener(tmp_path: Path) -> None:
    main, other = free_port(), free_port()
    wrapper = (sys.executable, "-c", HAND_OVER, f"{main},{other}")

    with Server(tmp_path, wrapper=wrapper, address=("127.0.0.1", main), ListenPort=":1", MetricsPort=":2") as server:
        server.keys["MetricsPort"] = f"127.0.0.1:{other}"
        assert http.put(server, "a", b"x").status == 201

        assert scrape(server).value(UPLOADS) == 1
        assert http.request(server, "GET", "/metrics").status == 404
        assert server.lines(f"Listening on 127.0.0.1:{other} for metrics and health")
