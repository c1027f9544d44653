"""Processes and signals: stopping, reloading, crashing, and the ways to listen."""

import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.http import MIB, Connection, get, head_of, put, put_head, request, sign_v, url_of
from tests.support.leaks import Kind
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.running import refuses
from tests.support.server import SECRET, Server, open_files, processes, tree
from tests.support.skipping import skip_or_fail

SIZE = 2 * MIB
BODY = bytes(range(256)) * (SIZE // 256)

Stop = Callable[[Server], None]


def begin(server: Server, connection: Connection, path: str) -> None:
    """Send half of an upload and wait until the server is at it."""
    connection.send(put_head(server, path, SIZE))
    connection.send(BODY[: SIZE // 2])
    until(server.open_store_files, "the body is being collected")


def finish(connection: Connection) -> int:
    """Send the other half; the status."""
    connection.send(BODY[SIZE // 2 :])
    return connection.read_answer().status


def group_members(group: int) -> list[int]:
    return [pid for pid, state, _, leader in processes() if leader == group and state != "Z"]


def term(server: Server) -> None:
    server.signal(signal.SIGTERM)


def interrupt(server: Server) -> None:
    server.signal(signal.SIGINT)


def interrupt_group(server: Server) -> None:
    server.signal_group(signal.SIGINT)


@pytest.mark.parametrize("stop", [term, interrupt, interrupt_group])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_lets_a_running_upload_finish(tmp_path: Path, stop: Stop, workers: int) -> None:
    with Server(tmp_path, NumCores=workers) as server, Connection(server.address) as connection:
        begin(server, connection, "drained/file")
        group = server.pid

        stop(server)
        until(lambda: refuses(server), "new connections are refused")
        status = finish(connection)
        connection.sock.close()
        exit_status = server.wait()

        assert status == 201
        assert exit_status == 0
        assert (server.store_dir / "drained" / "file").read_bytes() == BODY
        assert len(server.lines("Stopped")) == 1
        assert server.output().rstrip("\n").split("\n")[-1].endswith("] Stopped")
        assert group_members(group) == []


def test_an_idle_server_stops_soon(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        started = time.monotonic()

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("stop", [interrupt, interrupt_group])
def test_a_second_interrupt_stops_at_once_and_publishes_nothing(tmp_path: Path, stop: Stop) -> None:
    with Server(tmp_path) as server, Connection(server.address) as connection:
        begin(server, connection, "abandoned/file")
        group = server.pid
        stop(server)
        until(lambda: refuses(server), "new connections are refused")
        started = time.monotonic()

        stop(server)
        server.wait()

        assert time.monotonic() - started < 5  # GracefulShutdownTimeout is 30 s
        until(lambda: not group_members(group), "the workers are gone")
        assert not (server.store_dir / "abandoned").exists()
        assert len(server.lines("Stopped")) == 1


def test_an_upload_that_does_not_end_is_cut_at_graceful_shutdown_timeout(tmp_path: Path) -> None:
    with Server(tmp_path, GracefulShutdownTimeout=1) as server, Connection(server.address) as connection:
        begin(server, connection, "stuck/file")
        group = server.pid

        server.signal(signal.SIGTERM)
        server.wait()

        until(lambda: not group_members(group), "the workers are gone")
        assert not (server.store_dir / "stuck").exists()


def test_log_file_takes_every_line_and_usr1_reopens_it(tmp_path: Path) -> None:
    log, rotated = tmp_path / "hmacfs.log", tmp_path / "hmacfs.log.1"
    with Server(tmp_path, LogFile=str(log), NumCores=2) as server:
        get(server, "before")
        until(lambda: "GET before" in log.read_text(encoding="utf-8"), "the request is logged")
        log.rename(rotated)

        server.signal(signal.SIGUSR1)
        until(lambda: log.exists(), "the log is opened again")

        def settled() -> bool:
            """Whether no process writes to the old file any more."""
            return not any(
                str(rotated) in held for pid in (server.pid, *server.worker_pids()) for held in open_files(pid)
            )

        until(settled, "every process has let go of the old file")
        get(server, "after")
        until(lambda: "GET after" in log.read_text(encoding="utf-8"), "the request is in the new file")
        assert "GET after" not in rotated.read_text(encoding="utf-8")
        assert "Incoming request" not in server.output()


def test_hup_applies_a_changed_key_and_lets_a_running_upload_finish(tmp_path: Path) -> None:
    with Server(tmp_path, UploadMaxSize=SIZE) as server, Connection(server.address) as connection:
        assert put(server, "reload/early", bytes(SIZE + 1)).status == 413
        begin(server, connection, "reload/running")
        old = server.worker()
        server.write_config(UploadMaxSize=SIZE + 1)

        server.signal(signal.SIGHUP)
        numbers = iter(range(10_000))
        until(lambda: put(server, f"reload/{next(numbers)}", bytes(SIZE + 1)).status == 201, "the new limit holds")
        status = finish(connection)
        connection.sock.close()

        assert status == 201
        assert get(server, "reload/running").body == BODY
        until(lambda: old not in server.worker_pids(), "the old worker ends")
        assert server.process.poll() is None


def test_hup_drops_no_request(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2) as server:
        put(server, "steady/file", b"x")
        old = set(server.worker_pids())

        server.signal(signal.SIGHUP)
        statuses: set[int] = set()

        def replaced() -> bool:
            """Ask once more, and tell whether only new workers run."""
            statuses.add(get(server, "steady/file").status)
            return not old & set(server.worker_pids())

        until(replaced, "the workers are replaced")

        assert statuses == {200}


@pytest.mark.parametrize("broken", ["Secret = [", 'UploadMaxSize = "huge"\n', 'Secret = "short"\n'])
def test_hup_with_a_broken_configuration_keeps_serving_with_the_old_one(tmp_path: Path, broken: str) -> None:
    with Server(tmp_path) as server:
        put(server, "kept/before", b"x")
        old = server.worker()
        server.config.write_text(broken, encoding="utf-8")

        server.signal(signal.SIGHUP)
        until(lambda: server.lines("Reload refused"), "the refusal is logged")

        assert put(server, "kept/after", b"y").status == 201
        assert server.worker_pids() == [old]
        assert get(server, "kept/before").body == b"x"
        assert server.process.poll() is None


def test_a_worker_killed_in_the_middle_of_an_upload_leaves_nothing_and_is_replaced(tmp_path: Path) -> None:
    with Server(tmp_path) as server, Connection(server.address) as connection:
        before = tree(server.store_dir)
        begin(server, connection, "killed/file")
        old = server.worker()

        os.kill(old, signal.SIGKILL)
        until(lambda: [pid for pid in server.worker_pids() if pid != old], "another worker runs")

        assert get(server, "killed/file").status == 404
        assert tree(server.store_dir) == before
        assert put(server, "killed/file", BODY).status == 201


def test_a_killed_server_starts_again_on_the_same_store(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with Connection(server.address) as connection:
            put(server, "again/whole", b"whole")
            before = tree(server.store_dir)
            begin(server, connection, "again/half")
            worker = server.worker()
            server.signal(signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            server.wait()
        server.stop()

        server.start()

        assert tree(server.store_dir) == before
        assert get(server, "again/whole").body == b"whole"
        assert put(server, "again/half", BODY).status == 201


def test_a_secret_is_made_at_first_start_and_kept(tmp_path: Path) -> None:
    server = Server(tmp_path, Secret="")
    with server:
        made = (server.state_dir / "secret").read_text(encoding="utf-8").strip()
        mode = stat.S_IMODE((server.state_dir / "secret").stat().st_mode)
        assert made not in server.output()
    with server:
        kept = (server.state_dir / "secret").read_text(encoding="utf-8").strip()
        configured, server.keys["Secret"] = server.keys["Secret"], made
        assert put(server, "made/file", b"x").status == 201

    assert configured == ""
    assert len(made) >= 32
    assert mode == 0o600
    assert kept == made


def signed_put(server: Server, secret: str, path: str) -> int:
    """The status of an upload of one byte that was signed with ``secret``."""
    target = f"{url_of(server, path)}?v={sign_v(secret, path.encode(), 1)}"
    return request(server, "PUT", target, [("Content-Length", "1")], b"x").status


@pytest.mark.shows(Kind.SECRET, because="the test names its files by the secrets")
def test_secret_verifies_what_was_signed_with_it_and_with_allow_weak_secret_it_may_be_short(tmp_path: Path) -> None:
    server = Server(tmp_path, Secret="short", AllowWeakSecret=True)
    with server:
        statuses = [signed_put(server, secret, f"signed/{secret}") for secret in ("short", "other", SECRET)]
    server.write_config(AllowWeakSecret=False)
    with pytest.raises(AssertionError, match="the server ended with 2"), server:
        pass

    assert statuses == [201, 403, 403]
    assert "AllowWeakSecret" in server.output()


def test_store_dir_and_state_dir_hold_all_that_a_server_writes(tmp_path: Path) -> None:
    files, facts = tmp_path / "files" / "of ours", tmp_path / "facts"
    with Server(tmp_path, Secret="", StoreDir=str(files), StateDir=str(facts)) as server:
        made = (facts / "secret").read_text(encoding="utf-8").strip()
        status = signed_put(server, made, "folder/file")
        until(lambda: (facts / "state.db").exists(), "the catalogue is made")

    assert status == 201
    assert (files / "folder" / "file").read_bytes() == b"x"
    assert {path.name for path in files.iterdir()} == {".hmacfs", "folder"}
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "output.log", "files", "facts"}


def test_a_taken_port_is_told_and_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(tmp_path, address=("127.0.0.1", listener.getsockname()[1]))

        with pytest.raises(AssertionError, match="the server ended with 2"):
            server.start()

    assert "is in use" in server.output()
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_unix_socket_mode_is_that_of_the_socket_and_it_serves(tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "hmacfs.sock")
    with Server(tmp_path, address=path, UnixSocketMode=mode) as server:
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert stat.S_IMODE(os.stat(path).st_mode) == int(mode, 8)
        assert put(server, "unix/file", b"body").status == 201
        assert get(server, "unix/file").body == b"body"


@pytest.mark.parametrize("spelling", ["hmacfs.sock", "{folder}/hmacfs.sock"])
def test_unix_socket_makes_a_socket_of_a_path_in_listen_port(tmp_path: Path, spelling: str) -> None:
    path = str(tmp_path / "hmacfs.sock")
    with Server(tmp_path, address=path, ListenPort=spelling.format(folder=tmp_path), UnixSocket=True) as server:
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert get(server, "absent").status == 404


def test_without_unix_socket_a_bare_name_in_listen_port_is_no_address(tmp_path: Path) -> None:
    server = Server(tmp_path, ListenPort="hmacfs.sock", UnixSocket=False)

    with pytest.raises(AssertionError, match="the server ended with 2"), server:
        pass

    assert "ListenPort" in server.output()
    assert not (tmp_path / "hmacfs.sock").exists()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "hmacfs.sock")
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)

    with Server(tmp_path, address=path) as server:
        assert put(server, "unix/file", b"body").status == 201


def test_a_unix_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "hmacfs.sock")
    second_folder = tmp_path / "second"
    second_folder.mkdir()
    with Server(tmp_path, address=path) as first:
        second = Server(second_folder, ListenPort=f"unix:{path}")

        with pytest.raises(AssertionError, match="the server ended with 2"):
            second.start()

        assert "is in use" in second.output()
        assert get(first, "absent").status == 404


def test_a_file_in_the_place_of_the_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hmacfs.sock"
    path.write_bytes(b"precious")
    server = Server(tmp_path, address=str(path))

    with pytest.raises(AssertionError, match="the server ended with 2"):
        server.start()

    assert path.read_bytes() == b"precious"


def test_a_proxy_on_a_unix_socket_is_believed(tmp_path: Path) -> None:
    with Server(tmp_path, address=str(tmp_path / "hmacfs.sock")) as server:
        get(server, "unix/client", [("X-Forwarded-For", "203.0.113.1, 198.51.100.7")])

        until(lambda: server.lines("GET unix/client"), "the request is logged")
        assert " client=198.51.100.7 " in server.lines("GET unix/client")[0]


def test_listen_port_without_a_host_is_every_interface_in_ipv4_and_ipv6(tmp_path: Path) -> None:
    try:
        port = free_port("::1")
    except OSError:
        skip_or_fail("this machine has no IPv6")
    with Server(tmp_path, address=("127.0.0.1", port), ListenPort=f":{port}") as server:
        assert put(server, "both/file", b"body").status == 201
        server.address = ("::1", port)
        assert get(server, "both/file").body == b"body"
        assert put(server, "both/other", b"body").status == 201


def test_listen_port_takes_an_ipv6_address_in_brackets(tmp_path: Path) -> None:
    try:
        port = free_port("::1")
    except OSError:
        skip_or_fail("this machine has no IPv6")
    with Server(tmp_path, address=("::1", port), ListenPort=f"[::1]:{port}") as server:
        assert put(server, "six/file", b"body").status == 201


def test_gunicorn_runs_the_application_from_its_own_command_line(tmp_path: Path) -> None:
    with Server(tmp_path, wsgi=True) as server:
        assert put(server, "wsgi/file", b"body", "text/plain").status == 201
        assert get(server, "wsgi/file").body == b"body"

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert len(server.lines("Stopped")) == 1


def test_num_cores_is_the_number_of_workers(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=3) as server:
        assert len(server.worker_pids()) == 3


def test_a_stop_while_workers_start_is_not_lost(tmp_path: Path) -> None:
    for round_ in range(3):
        folder = tmp_path / str(round_)
        folder.mkdir()
        with Server(folder, NumCores=3, GracefulShutdownTimeout=20) as server:
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGKILL)  # the master starts new ones at this moment
            started = time.monotonic()
            server.signal(signal.SIGTERM)

            assert server.wait() == 0
            assert time.monotonic() - started < 10


def test_an_idle_connection_does_not_delay_a_stop(tmp_path: Path) -> None:
    with Server(tmp_path) as server, Connection(server.address) as connection:
        connection.send(head_of("GET", "/upload/none"))
        assert connection.read_answer().status == 404
        started = time.monotonic()

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert time.monotonic() - started < 5


def test_a_connection_that_has_sent_nothing_does_not_delay_a_stop(tmp_path: Path) -> None:
    with Server(tmp_path, HeadTimeout="1m") as server, Connection(server.address):
        put(server, "after/it", b"x")  # the silent one was accepted before
        started = time.monotonic()

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert time.monotonic() - started < 5
