"""hmacfs status asks a running server, once or for as long as somebody watches."""

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Done, asked, config_in, lines
from tests.support.http import get, put
from tests.support.metrics import scrape
from tests.support.polling import PATIENCE, until
from tests.support.ports import free_port
from tests.support.redis import PASSWORD, RedisServer
from tests.support.running import small_tmpfs
from tests.support.server import Server

MIB = 1024 * 1024


def status(server: Server, *arguments: str) -> Done:
    return asked("status", "--config", server.config, *arguments)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), NumCores=2) as running:
        until(lambda: status(running).returncode == 0, "it is well")
        yield running


def told(done: Done) -> dict[str, str]:
    """Label to text; what goes on below is joined."""
    found: dict[str, str] = {}
    label = ""
    for line in lines(done.stdout):
        label = line[:12].strip() or label
        found[label] = f"{found[label]} / {line[12:]}" if label in found else line[12:]
    return found


# --- once ---


def test_people_are_told_in_a_few_lines(server: Server) -> None:
    done = status(server)

    assert (done.returncode, done.stderr) == (0, "")
    found = told(done)
    assert list(found) == ["Health", "Server", "Load", "Now", "Completed", "Bans", "Store", "State", "Last sweep"]
    assert found["Health"] == "ready"
    assert re.fullmatch(r"\d+\.\d+\.\d+, up \w+, 2 workers", found["Server"])
    assert re.fullmatch(r"\d+\.\d % of a processor, [\d.]+ MiB of memory", found["Load"])
    assert found["State"] == "embedded up"


def test_it_agrees_with_the_metrics(server: Server) -> None:
    assert put(server, "agree/file", b"hello").status == 201
    assert get(server, "agree/file").status == 200

    def agrees() -> bool:
        metrics, known = scrape(server), json.loads(status(server, "--json").stdout)["completed"]
        uploads, downloads = (metrics.value(f"hmac_file_server_{name}_total") for name in ("uploads", "downloads"))
        return uploads >= 1 and downloads >= 1 and known == {"uploads": uploads, "downloads": downloads}

    until(agrees, "both say the same")
    assert "1 file" in told(status(server))["Store"]


def test_programs_get_one_json_object(server: Server) -> None:
    done = status(server, "--json")

    (line,) = lines(done.stdout)
    values = json.loads(line)
    assert (done.returncode, values["condition"], values["reasons"]) == (0, "ready", [])
    assert values["memory"] > 20_000_000
    assert values["store"]["free"] > 0


def test_a_server_on_one_unix_socket_and_operations_on_another_are_reached(tmp_path: Path) -> None:
    socket_path = str(tmp_path / "op.sock")

    with Server(tmp_path, address=str(tmp_path / "main.sock"), MetricsPort=f"unix:{socket_path}") as server:
        assert status(server).returncode in (0, 3)  # a tier may not have been looked at yet

        server.stop()
        done = status(server)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hmacfs: no answer: nobody listens at {socket_path}. Is the server running?\n"


@pytest.mark.parametrize("metrics_port", ["", "same"])
def test_it_falls_back_to_the_main_listener_where_there_is_one_alone(tmp_path: Path, metrics_port: str) -> None:
    port = free_port()
    given = f"127.0.0.1:{port}" if metrics_port else ""

    with Server(tmp_path, address=("127.0.0.1", port), MetricsPort=given) as server:
        until(lambda: status(server).returncode == 0, "it is well")


def test_every_interface_is_asked_on_this_machine(tmp_path: Path) -> None:
    port = free_port()

    with Server(tmp_path, MetricsPort=f":{port}") as server:
        server.keys["MetricsPort"] = f"127.0.0.1:{port}"
        until(lambda: status(server).returncode == 0, "it is well")


# --- what is wrong ---


def test_a_server_that_does_not_run_is_one_sentence_and_exit_status_1(tmp_path: Path) -> None:
    port = free_port()

    done = asked("status", "--config", config_in(tmp_path, MetricsPort=f"127.0.0.1:{port}"))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hmacfs: no answer: nobody listens at 127.0.0.1:{port}. Is the server running?\n"
    assert os.listdir(tmp_path) == ["config.toml"]


@contextmanager
def stranger(answer: bytes) -> Iterator[int]:
    """Another server, which says the same to everybody. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def answering(status_line: str, body: str) -> bytes:
    return f"HTTP/1.1 {status_line}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    "answer",
    [
        answering("404 Not Found", "404 page not found\n"),  # Prometheus itself, on the same default port
        answering("200 OK", "<html>"),
        answering("200 OK", '{"status": "UP"}'),
        answering("200 OK", "[]"),
        answering("200 OK", "[" * 900_000),
    ],
)
def test_another_server_at_that_address_is_told_as_such(tmp_path: Path, answer: bytes) -> None:
    with stranger(answer) as port:
        done = asked("status", "--config", config_in(tmp_path, MetricsPort=f"127.0.0.1:{port}"))

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = lines(done.stderr)
    assert line.startswith(f"hmacfs: what answers at 127.0.0.1:{port} is no hmacfs of this version.")
    assert "MetricsPort" in line


def test_what_is_no_http_is_told_in_one_sentence(tmp_path: Path) -> None:
    with stranger(b"220 mail.example ESMTP\r\n") as port:
        done = asked("status", "--config", config_in(tmp_path, MetricsPort=f"127.0.0.1:{port}"))

    assert (done.returncode, done.stdout, len(lines(done.stderr))) == (1, "", 1)
    assert "Traceback" not in done.stderr


def test_the_other_sides_words_do_not_steer_the_terminal(server: Server, tmp_path: Path) -> None:
    values: dict[str, Any] = json.loads(status(server, "--json").stdout)
    values |= {"condition": "\x1b[31mready", "reasons": [{"code": "x", "sentence": "\x1b[2Jgone\nforged"}]}

    with stranger(answering("200 OK", json.dumps(values))) as port:
        done = asked("status", "--config", config_in(tmp_path, MetricsPort=f"127.0.0.1:{port}"))

    assert "\x1b" not in done.stdout
    assert "[2Jgone forged" in done.stdout
    assert done.returncode == 4  # a condition that is not known is no good one


def test_without_metrics_there_is_nobody_to_ask(tmp_path: Path) -> None:
    done = asked("status", "--config", config_in(tmp_path, MetricsEnabled=False))

    assert (done.returncode, done.stdout) == (2, "")
    assert "MetricsEnabled is false" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "100000"])
def test_seconds_have_bounds(tmp_path: Path, seconds: str) -> None:
    done = asked("status", "--config", config_in(tmp_path), f"--watch={seconds}")

    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_the_exit_status_tells_degraded_from_not_ready(tmp_path: Path) -> None:
    with (
        small_tmpfs(tmp_path / "store", 16) as store,
        RedisServer() as redis,
        Server(tmp_path, MinFreeSpace="2MiB", RedisAddr=f"127.0.0.1:{redis.port}", RedisPassword=PASSWORD) as server,
    ):
        until(lambda: status(server).returncode == 0, "it is well")

        redis.kill()
        degraded = until(lambda: done if (done := status(server)).returncode == 3 else None, "a tier is down")
        (store / "filler").write_bytes(bytes(15 * MIB))
        full = until(lambda: done if (done := status(server)).returncode == 4 else None, "the store is full")

        assert degraded is not None
        assert told(degraded)["Health"].startswith("degraded / Shared state: redis is down (")
        assert told(degraded)["State"] == "redis down, embedded up"
        assert full is not None
        assert re.match(r"not ready / .* are free, less than MinFreeSpace \(2.0 MiB\)\. / Shared", told(full)["Health"])


def test_help_says_what_the_exit_statuses_mean() -> None:
    text = " ".join(asked("status", "--help").stdout.split())

    assert (
        "0 when it is ready, 1 when it does not answer, 3 when something wants a person but uploads are taken, and 4 "
        "when uploads are refused"
    ) in text
