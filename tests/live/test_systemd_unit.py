"""The lines of contrib/systemd with the real program: started as systemd would start it, and under its hardening."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.faces import FACES, Upload
from tests.support.http import MIB, Connection, get, put
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.sandbox import values
from tests.support.server import ROOT, SECRET, Server
from tests.support.servers import program
from tests.support.skipping import skip_or_fail
from tests.support.slot import content

SERVICE, SWEEP, SOCKET = (
    ROOT / "contrib" / "systemd" / name for name in ("hmacfs.service", "hmacfs-sweep.service", "hmacfs.socket")
)
INSTALLED, CONFIG = "/opt/hmacfs/.venv/bin/hmacfs", "/etc/hmacfs/config.toml"
OURS = [sys.executable, "-m", "hmacfs.cli.main"]


@dataclass(frozen=True)
class Client:
    """Whom to talk to, and the secret to sign with where the server has it from elsewhere."""

    address: tuple[str, int] | str
    prefix: str
    secret: str


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """/var/lib/hmacfs, /run/credentials and the like, in one folder."""
    for name in ("credentials", "run", "log"):
        (tmp_path / name).mkdir()
    (tmp_path / "credentials" / "secret").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "credentials" / "secret").chmod(0o400)
    return tmp_path


def environ_of(unit: Path, state: Path) -> dict[str, str]:
    """What systemd puts into the environment of a unit's commands."""
    given = dict(line.split("=", 1) for line in values(unit, "Environment"))
    folders = {"CREDENTIALS": "credentials", "RUNTIME": "run", "LOGS": "log"}
    told = {f"{name}_DIRECTORY": str(state / folder) for name, folder in folders.items()}
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")
    specifiers = {"%d": str(state / "credentials"), "%b": boot}
    expanded = {name: specifiers.get(value[:2], value[:2]) + value[2:] for name, value in given.items()}
    return {**expanded, **told, "STATE_DIRECTORY": str(state)}


def command_of(line: str, config: Path) -> list[str]:
    """A line of a unit with our program and this configuration in the place of the installed ones."""
    words = shlex.split(line)
    assert INSTALLED in words
    at = words.index(INSTALLED)
    return [*words[:at], *OURS, *(str(config) if word == CONFIG else word for word in words[at + 1 :])]


def run(line: str, server: Server, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = command_of(line, server.config)
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False
    )


def started_by_systemd(state: Path, *, wrapper: tuple[str, ...] = (), notify: str = "", **keys: object) -> Server:
    """A server whose command is ExecStart's; its secret comes as a credential."""
    (line,) = values(SERVICE, "ExecStart")
    environ = environ_of(SERVICE, state) | ({"NOTIFY_SOCKET": notify} if notify else {})
    server = Server(state, wrapper=wrapper, environ=environ, Secret="", LogFile=str(state / "log/hmacfs.log"), **keys)
    assert command_of(line, server.config) == [*OURS, "serve", "--config", str(server.config)]
    return server


def client_of(server: Server) -> Client:
    return Client(server.address, server.prefix, SECRET)


def written(server: Server) -> int:
    """Bytes of all unfinished uploads."""
    return sum(file.stat().st_size for file in (server.store_dir / ".hmacfs" / "partials").rglob("*.part"))


@contextmanager
def notify_socket(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(20)
        yield told


@pytest.fixture
def as_root() -> None:
    if os.geteuid():
        skip_or_fail("mounts and capabilities need root")


@pytest.fixture
def hardened(as_root: None, state: Path) -> Iterator[Server]:
    wrapper = (sys.executable, "-m", "tests.support.sandbox", str(SERVICE), str(state))
    with started_by_systemd(state, wrapper=wrapper) as server:
        yield server


def test_the_secret_of_the_credential_signs_and_none_is_made(state: Path) -> None:
    with started_by_systemd(state) as server:
        answer = put(client_of(server), "a/credential", b"x")

    assert answer.status == 201
    assert not (server.state_dir / "secret").exists()


def test_systemd_is_told_of_readiness_and_of_nothing_else(state: Path) -> None:
    with notify_socket(state / "notify") as told:
        with started_by_systemd(state, notify=str(state / "notify")) as server:
            at_start = told.recv(4096)
            first = server.worker()
            server.signal(signal.SIGHUP)
            until(lambda: first not in server.worker_pids() and server.ready_workers(), "the worker was replaced")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0

        told.setblocking(False)
        with pytest.raises(BlockingIOError):
            told.recv(4096)

    assert b"READY=1" in at_start.split(b"\n")


def test_who_connects_at_readiness_is_answered(state: Path) -> None:
    with notify_socket(state / "notify") as told:
        server = started_by_systemd(state, notify=str(state / "notify"))
        answer = []

        def when_ready() -> None:
            told.recv(4096)
            answer.append(put(client_of(server), "a/first", b"x"))

        with ThreadPoolExecutor(1) as pool:
            client = pool.submit(when_ready)
            with server:
                client.result(30)

    assert answer[0].status == 201


def test_a_reload_that_would_not_serve_fails_before_the_signal(state: Path) -> None:
    with started_by_systemd(state) as server:
        check = values(SERVICE, "ExecReload")[0]
        # Reload commands have the variables of the service, and cannot read the credential.
        environ = environ_of(SERVICE, state) | {"HMACFS_SECRETFILE": str(state / "credentials" / "unreadable")}
        fine = run(check, server, environ)
        server.write_config(UploadMaxSize="huge")
        wrong = run(check, server, environ)

    assert (fine.returncode, fine.stderr) == (0, "")
    assert wrong.returncode != 0
    assert "UploadMaxSize" in wrong.stderr


def test_a_reload_reads_the_configuration_again(state: Path) -> None:
    with started_by_systemd(state) as server:
        client = client_of(server)
        assert put(client, "a/large", bytes(2000)).status == 201
        server.write_config(UploadMaxSize=1000)

        server.signal(signal.SIGHUP)

        until(lambda: put(client, f"a/{os.urandom(4).hex()}", bytes(2000)).status == 413, "the new limit holds")


def test_a_wrong_configuration_ends_with_the_status_that_is_not_started_again(state: Path) -> None:
    server = started_by_systemd(state)
    server.write_config(UploadMaxSize="huge")

    done = run(values(SERVICE, "ExecStart")[0], server, environ_of(SERVICE, state))

    assert values(SERVICE, "RestartPreventExitStatus") == [str(done.returncode)] == ["2"]


def test_sockets_that_systemd_holds_are_served(state: Path) -> None:
    main, operations = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    listen = [f"--listen={host}:{port}" for host, port in (main, operations)]
    assert len(listen) == len(values(SOCKET, "ListenStream", "Socket"))
    kept = environ_of(SERVICE, state) | {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    wrapper = (program("systemd-socket-activate"), *listen, *(f"--setenv={n}={v}" for n, v in kept.items()))
    keys = {"ListenPort": f"127.0.0.1:{main[1]}", "MetricsPort": f"127.0.0.1:{operations[1]}"}
    server = started_by_systemd(state, wrapper=wrapper, **keys)
    server.address = main

    with server:
        statuses = [put(client_of(server), f"a/{number}", b"x").status for number in range(20)]
        log = (state / "log" / "hmacfs.log").read_text(encoding="utf-8")

    assert statuses == [201] * 20
    assert "Listening on " in log


def test_the_hardening_is_in_effect(hardened: Server) -> None:
    status = Path(f"/proc/{hardened.worker()}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())

    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert int(fields["CapBnd"], 16) == int(fields["CapEff"], 16) == 0
    assert fields["Umask"] == "0027"


def test_uploads_downloads_and_resuming_work_under_the_hardening(hardened: Server) -> None:
    client = client_of(hardened)
    large = content(3 * MIB)

    statuses = [put(client, "a/small", b"x", "text/plain").status, put(client, "a/large", large, "image/jpeg").status]
    for face in FACES:
        upload = Upload(face, f"a/{face}", large)
        upload.begin(client, MIB)
        upload.send(client, MIB, len(large))
        assert get(client, f"a/{face}").body == large

    assert statuses == [201, 201]
    answer = get(client, "a/large", [("Range", f"bytes={MIB}-")])
    assert (answer.status, answer["Content-Type"]) == (206, "image/jpeg")
    assert answer.body == large[MIB:]


def test_an_upload_goes_on_behind_a_kill_although_the_boots_id_is_hidden(hardened: Server) -> None:
    client, large = client_of(hardened), content(3 * MIB)
    upload = Upload("session", "a/killed", large)
    assert not Path(f"/proc/{hardened.worker()}/root/proc/sys").exists()
    with Connection(client.address) as connection:
        connection.send(upload.head(client, 0, len(large)) + large[: 2 * MIB])
        until(lambda: written(hardened) == 2 * MIB, "two blocks are written, and nobody asked for them to be synced")
        hardened.signal_group(signal.SIGKILL)
        hardened.wait()
    hardened.start()

    offset = upload.offset(client)

    assert offset >= MIB  # the kill may have come before the second one was recorded
    assert upload.send(client, offset, len(large)).status == 201
    assert get(client, "a/killed").body == large


@pytest.mark.usefixtures("as_root")
def test_a_server_to_which_nobody_tells_the_boots_id_says_what_is_missing(state: Path) -> None:
    wrapper = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o subset=pid proc /proc && exec "$@"', "sh")
    server = Server(state)
    command = [*wrapper, *OURS, "check", "--config", str(server.config)]
    unset = {name: value for name, value in os.environ.items() if name != "BOOT_ID_FOR_HMACFS"}

    done = subprocess.run(command, cwd=ROOT, env=unset, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "BOOT_ID_FOR_HMACFS is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_reloads_workers_and_the_drain_work_under_the_hardening(hardened: Server) -> None:
    client, first = client_of(hardened), hardened.worker()
    hardened.signal(signal.SIGHUP)
    until(lambda: first not in hardened.worker_pids() and hardened.ready_workers(), "the worker was replaced")
    killed = hardened.worker()
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in hardened.worker_pids() and hardened.ready_workers(), "a killed worker was replaced")
    assert put(client, "a/after", b"x").status == 201

    hardened.signal(signal.SIGTERM)

    assert hardened.wait() == 0


def test_the_sweep_works_under_the_hardening_beside_the_server(hardened: Server, state: Path) -> None:
    assert put(client_of(hardened), "a/old", b"x").status == 201
    os.utime(hardened.store_dir / "a" / "old", (1e9, 1e9))
    hardened.write_config(FileTTL="1d")
    command = command_of(values(SWEEP, "ExecStart")[0], hardened.config)
    wrapper = [sys.executable, "-m", "tests.support.sandbox", str(SWEEP), str(state)]
    environ = os.environ | environ_of(SWEEP, state)

    done = subprocess.run(
        [*wrapper, *command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "removed a/old" in done.stdout
    assert get(client_of(hardened), "a/old").status == 410
