"""The life of the processes: stopping, reloading and crashing in the middle of transfers, and ways to be started."""

import grp
import os
import re
import resource
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.http import MIB, Connection, get, head_of, put, put_head, url_of
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.running import begin_upload, refuses, small_tmpfs
from tests.support.server import ROOT, Server, open_files, tree
from tests.support.skipping import skip_or_fail

SIZE = 2 * MIB
KEEP = [("Connection", "keep-alive")]

HAND_OVER = """
import os, socket, sys
where, *command = sys.argv[1:]
if where.startswith("/"):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(where)
else:
    sock = socket.socket()
    sock.bind(("127.0.0.1", int(where)))
sock.listen(100)
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""
"""What systemd does for a socket unit: binds, and becomes the server."""

ONE_CPU = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.argv[1], sys.argv[1:])
"""


def staging(server: Server) -> dict[str, tuple[str, int, str]]:
    return tree(server.store_dir / ".hmacfs" / "staging")


IN_TIME = 1 + 5
"""Seconds: GracefulShutdownTimeout of these tests, three for last words, and two in which facts for shared state are
written. The master kills what is left after that."""


@pytest.mark.parametrize("sent", [100, 1_500_000])
def test_a_stop_ends_a_stalled_upload_at_graceful_shutdown_timeout_and_in_order(tmp_path: Path, sent: int) -> None:
    with Server(tmp_path, GracefulShutdownTimeout=1) as server, ExitStack() as stack:
        begin_upload(server, stack, "stalled/file", SIZE, sent)
        started = time.monotonic()

        server.signal(signal.SIGTERM)
        exit_status = server.wait()

        assert time.monotonic() - started < IN_TIME
        assert exit_status == 0
        assert staging(server) == {}
        assert not (server.store_dir / "stalled").exists()
        (line,) = server.lines("Incoming request: PUT stalled/file")  # so its "finally" has run
        assert "code=draining" in line or "code=body-truncated" in line
        assert "Traceback" not in server.output()


def test_the_client_of_an_upload_that_a_stop_ends_is_told(tmp_path: Path) -> None:
    with Server(tmp_path, GracefulShutdownTimeout=1) as server, ExitStack() as stack:
        connection = begin_upload(server, stack, "told/file", SIZE)

        server.signal(signal.SIGTERM)
        answer = connection.read_answer()

        assert (answer.status, answer.code) == (503, "draining")
        assert int(answer["Retry-After"]) > 0


def test_a_stop_ends_a_download_that_nobody_reads_in_time(tmp_path: Path) -> None:
    with Server(tmp_path, GracefulShutdownTimeout=1) as server, Connection(server.address) as connection:
        put(server, "unread/file", bytes(32 * MIB))
        connection.send(head_of("GET", url_of(server, "unread/file")))
        connection.read_head()
        started = time.monotonic()

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert time.monotonic() - started < IN_TIME
        assert len(server.lines("Incoming request: GET unread/file")) == 1


def test_new_uploads_are_refused_while_running_ones_finish(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ExitStack() as stack:
        running = begin_upload(server, stack, "drain/running", SIZE)
        late = stack.enter_context(Connection(server.address))
        head = put_head(server, "drain/late", 5, headers=KEEP)
        late.send(head_of("OPTIONS", "/upload/", KEEP))
        assert late.read_answer().status == 204
        late.send(head[:20])
        for _ in range(3):  # by then it has read the beginning of the head too
            get(server, "nothing")

        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "new connections are refused")
        late.send(head[20:] + b"hello")
        refused = late.read_answer()
        rest = late.read_to_end()
        running.send(bytes(SIZE - 100_000))
        status = running.read_answer().status

        assert (refused.status, refused.code) == (503, "draining")
        assert int(refused["Retry-After"]) > 0
        assert refused["Connection"] == "close"
        assert rest == b""
        assert status == 201
        assert server.wait() == 0
        assert not (server.store_dir / "drain" / "late").exists()
        assert (server.store_dir / "drain" / "running").stat().st_size == SIZE


def test_an_upload_that_reaches_a_worker_behind_a_reload_is_taken(tmp_path: Path) -> None:
    with Server(tmp_path) as server, Connection(server.address) as late, Connection(server.address) as idle:
        head = put_head(server, "reload/late", 5, headers=KEEP)
        for connection in (late, idle):
            connection.send(head_of("OPTIONS", "/upload/", KEEP))
            assert connection.read_answer().status == 204
        late.send(head[:20])
        for _ in range(3):  # by then it has read the beginning of the head too
            get(server, "nothing")

        server.signal(signal.SIGHUP)
        assert idle.read_to_end() == b"", "the old worker is about to end"
        late.send(head[20:] + b"hello")
        taken = late.read_answer()
        rest = late.read_to_end()

        assert (taken.status, taken["Connection"], rest) == (201, "close", b"")


def test_a_running_download_finishes_during_a_stop(tmp_path: Path) -> None:
    content = os.urandom(32 * MIB)
    with Server(tmp_path) as server, Connection(server.address) as connection:
        put(server, "drain/file", content)
        connection.send(head_of("GET", url_of(server, "drain/file")))
        length = int(connection.read_head()["Content-Length"])

        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "new connections are refused")
        received = b"".join(connection.blocks(length))
        connection.sock.close()

        assert received == content
        assert server.wait() == 0


def test_an_upload_outlives_two_reloads_while_new_workers_serve(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ExitStack() as stack:
        connection = begin_upload(server, stack, "reload/file", SIZE)
        old = server.worker()

        for number in range(2):
            known = set(server.worker_pids())
            server.signal(signal.SIGHUP)
            until(lambda known=known: set(server.ready_workers()) - known, "a new worker runs")  # type: ignore[misc]
            assert put(server, f"reload/{number}", b"x").status == 201
        assert old in server.worker_pids()
        connection.send(bytes(SIZE - 100_000))
        answer = connection.read_answer()
        connection.sock.close()

        assert answer.status == 201
        assert get(server, "reload/file").body == bytes(SIZE)
        until(lambda: len(server.worker_pids()) == 1, "the old workers end")


def serving(log: Path) -> set[int]:
    """Workers that say in ``log`` that they have begun to serve."""
    return {int(pid) for pid in re.findall(r"serves pid=(\d+)", log.read_text(encoding="utf-8"))}


def test_while_old_workers_end_after_a_reload_the_master_does_all_it_does_else(tmp_path: Path) -> None:
    log, rotated = tmp_path / "hmacfs.log", tmp_path / "hmacfs.log.1"
    with Server(tmp_path, LogFile=str(log)) as server, ExitStack() as stack:
        connection = begin_upload(server, stack, "reload/file", SIZE)
        old = server.worker()
        server.signal(signal.SIGHUP)
        (new,) = until(lambda: serving(log) - {old}, "a new worker serves")

        log.rename(rotated)
        server.signal(signal.SIGUSR1)
        os.kill(new, signal.SIGKILL)
        until(lambda: log.exists(), "the log is opened anew")
        until(lambda: serving(log), "another worker takes the place of the killed one")
        assert put(server, "reload/other", b"x").status == 201
        assert old in server.worker_pids()
        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "new connections are refused")
        connection.send(bytes(SIZE - 100_000))
        answer = connection.read_answer()
        connection.sock.close()

        assert answer.status == 201
        assert server.wait() == 0
        assert (server.store_dir / "reload" / "file").stat().st_size == SIZE


def test_a_reload_with_code_that_cannot_be_imported_keeps_the_old_workers(tmp_path: Path) -> None:
    code, folder = tmp_path / "code", tmp_path / "server"
    folder.mkdir()
    shutil.copytree(ROOT / "hmacfs", code / "hmacfs", ignore=shutil.ignore_patterns("__pycache__"))
    with Server(folder, code=code, NumCores=2) as server:
        put(server, "kept/file", b"x")
        old = sorted(server.worker_pids())
        with open(code / "hmacfs" / "web" / "files.py", "a", encoding="utf-8") as module:
            module.write("\ndef broken(:\n")

        server.signal(signal.SIGHUP)
        until(lambda: server.lines("ERROR["), "the refusal is logged")

        assert sorted(server.worker_pids()) == old
        assert get(server, "kept/file").body == b"x"
        assert put(server, "kept/after", b"y").status == 201
        assert server.process.poll() is None
        assert "SyntaxError" in server.output()


def test_a_refused_reload_is_one_line(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        before = len(server.output())
        server.config.write_text("Secret = [", encoding="utf-8")

        server.signal(signal.SIGHUP)
        until(lambda: server.lines("ERROR["), "the refusal is logged")
        get(server, "last/line")
        until(lambda: server.lines("last/line"), "a request behind it is logged")

        beside = ("Incoming request", "State tier")  # the latter comes from a worker that has just begun
        told = [line for line in server.output()[before:].splitlines() if not any(word in line for word in beside)]
        assert len(told) == 1, told


def test_no_line_is_lost_while_the_log_is_rotated_under_load(tmp_path: Path) -> None:
    log = tmp_path / "hmacfs.log"
    asked: list[str] = []
    ended = threading.Event()

    def ask(client: int) -> None:
        with Connection(server.address) as connection:
            number = 0
            while not ended.is_set():
                path = f"load-{client}-{number}-end"
                connection.send(head_of("GET", f"/upload/{path}", KEEP))
                assert connection.read_answer().status == 404
                asked.append(path)
                number += 1

    with Server(tmp_path, LogFile=str(log), NumCores=2) as server:
        threads = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
        for thread in threads:
            thread.start()
        for number in range(5):
            seen = len(asked)
            until(lambda seen=seen: len(asked) > seen + 200, "the load goes on")  # type: ignore[misc]
            rotated = tmp_path / f"hmacfs.log.{number}"
            log.rename(rotated)
            server.signal(signal.SIGUSR1)
            pids = (server.pid, *server.worker_pids())
            until(
                lambda pids=pids, rotated=rotated: all(  # type: ignore[misc]
                    str(log) in (held := open_files(pid)) and str(rotated) not in held for pid in pids
                ),
                "every process writes to the new file",
            )
        ended.set()
        for thread in threads:
            thread.join(20)
        server.signal(signal.SIGTERM)
        server.wait()

    files = [log, *(tmp_path / f"hmacfs.log.{number}" for number in range(5))]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if "GET load-" in line]
    assert all(line.startswith("INFO[") for line in lines)
    assert sorted(line.split()[4] for line in lines) == sorted(asked)


@pytest.mark.parametrize("sent", [100_000, SIZE - 1])
def test_a_worker_killed_in_the_middle_leaves_no_file_and_no_claim_on_space(tmp_path: Path, sent: int) -> None:
    with (
        small_tmpfs(tmp_path / "mount", 64) as mount,
        Server(tmp_path, StoreDir=str(mount / "store"), MinFreeSpace="24MiB") as server,
        ExitStack() as stack,
    ):
        size = 30 * MIB
        begin_upload(server, stack, "killed/file", size, sent)
        assert put(server, "killed/other", bytes(size)).status == 507
        old = server.worker()

        os.kill(old, signal.SIGKILL)
        until(lambda: [pid for pid in server.ready_workers() if pid != old], "another worker runs")

        assert not (server.store_dir / "killed").exists()
        assert staging(server) == {}
        assert put(server, "killed/file", bytes(size)).status == 201
        assert put(server, "killed/third", bytes(size)).status == 507


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_socket_from_systemd_is_served(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "handed-over.sock")
    port = free_port()
    where, address = (path, path) if kind == "unix" else (str(port), ("127.0.0.1", port))
    other = f"127.0.0.1:{free_port()}"
    launcher = [sys.executable, "-c", HAND_OVER, where]
    with Server(tmp_path, wrapper=launcher, address=address, ListenPort=other, NumCores=2) as server:
        assert put(server, "activated/file", b"body").status == 201
        assert get(server, "activated/file").body == b"body"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(other.rpartition(":")[2])))

        server.signal(signal.SIGHUP)
        old = set(server.worker_pids())
        until(lambda: len(set(server.ready_workers()) - old) == 2, "new workers run")
        assert get(server, "activated/file").body == b"body"
        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        if kind == "unix":
            assert stat.S_ISSOCK(os.stat(path).st_mode)  # systemd's, not ours


def test_systemd_is_told_when_the_server_is_ready(tmp_path: Path) -> None:
    path = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(path)
        notified.settimeout(20)

        with Server(tmp_path, environ={"NOTIFY_SOCKET": path}):
            message = notified.recv(4096)

    assert b"READY=1" in message.split(b"\n")


def test_num_cores_auto_is_one_worker_on_one_processor(tmp_path: Path) -> None:
    launcher = [sys.executable, "-c", ONE_CPU]
    with Server(tmp_path, wrapper=launcher, NumCores=1) as server:
        server.write_config(NumCores="auto")
        old = server.worker()
        server.signal(signal.SIGHUP)
        until(lambda: old not in server.worker_pids() and server.ready_workers(), "a new worker runs")

        assert len(server.worker_pids()) == 1


def test_num_cores_auto_is_one_worker_for_each_processor_that_may_be_used(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    with Server(tmp_path, NumCores=1) as server:
        server.write_config(NumCores="auto")
        old = server.worker()
        server.signal(signal.SIGHUP)

        until(lambda: old not in server.worker_pids(), "the old worker ends")
        until(lambda: 1 <= len(server.ready_workers()) <= cpus, "no more workers than processors run")


def test_a_client_in_ipv4_on_the_socket_for_both_has_its_ipv4_address(tmp_path: Path) -> None:
    try:
        port = free_port("::1")
    except OSError:
        skip_or_fail("this machine has no IPv6")
    with Server(tmp_path, address=("::1", port), ListenPort=f":{port}", NumCores=2) as server:
        for host in ("::1", "127.0.0.1"):
            server.address = (host, port)
            path = f"from-{host.replace(':', '-')}"
            assert get(server, path).status == 404
            (line,) = until(lambda path=path: server.lines(f"GET {path}"), "the request is logged")  # type: ignore[misc]
            assert f"client={host} " in line  # and not ::ffff:127.0.0.1


def test_unix_socket_group_owns_the_socket(tmp_path: Path) -> None:
    if os.geteuid():
        skip_or_fail("giving a socket to another group needs root")
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (os.getegid(), 0))
    path = str(tmp_path / "hmacfs.sock")
    with Server(tmp_path, address=path, UnixSocketGroup=group.gr_name, UnixSocketMode="0620") as server:
        info = os.stat(path)

        assert (info.st_gid, stat.S_IMODE(info.st_mode)) == (group.gr_gid, 0o620)
        assert put(server, "unix/file", b"x").status == 201


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        skip_or_fail("too few descriptors for this test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_1500_idle_connections_are_held_while_new_ones_are_served(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ExitStack() as stack:
        idle = []
        for _ in range(1500):
            connection = stack.enter_context(Connection(server.address))
            connection.send(head_of("OPTIONS", "/upload/", KEEP))
            idle.append(connection)
        for connection in idle:
            assert connection.read_answer().status == 204

        assert put(server, "crowd/file", bytes(SIZE)).status == 201
        assert get(server, "crowd/file").body == bytes(SIZE)
        for connection in idle:
            connection.send(head_of("OPTIONS", "/upload/", KEEP))
        for connection in idle:
            assert connection.read_answer().status == 204
