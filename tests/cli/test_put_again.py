"""hmacfs put tries again after what may pass, and goes on where the server stopped (protocol, section 5.1)."""

import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Done, asked, config_in, lines
from tests.support.ports import free_port

MIB = 1024 * 1024
PIECE = 1000
"""Bytes of a file that fits into one block."""


@dataclass
class Request:
    """One request as it came over the wire; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)


@dataclass
class Step:
    """What happens to one connection.

    Attributes:
        answer: sent once the body has been taken; empty for none.
        take: bytes of the body to read; None for all.
        reset: end with RST instead of FIN.
        deed: done once the head has been read.
    """

    answer: bytes = b""
    take: int | None = None
    reset: bool = False
    deed: Callable[[], object] = lambda: None


def says(status: int, **headers: Any) -> bytes:
    """A response without a body."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    length = "" if "Content_Length" in headers else "Content-Length: 0\r\n"
    return f"HTTP/1.1 {status} Told\r\n{named}{length}Connection: close\r\n\r\n".encode()


class ScriptedServer:
    """Serves one connection for each step, in their order, and keeps what it was sent."""

    def __init__(self, listener: socket.socket, steps: list[Step]) -> None:
        self.requests: list[Request] = []
        self._listener = listener
        self._steps = steps

    def serve(self) -> None:
        for step in self._steps:
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(20)
                self._serve_one(peer, step)
        self._listener.close()  # one connection more than foreseen is refused

    def _serve_one(self, peer: socket.socket, step: Step) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            block = peer.recv(65536)
            assert block, "closed within the head"
            data += block
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *named = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in named)}
        request = Request(method, target, headers, bytearray(rest))
        self.requests.append(request)
        step.deed()
        wanted = int(headers.get("content-length", "0")) if step.take is None else step.take
        while len(request.body) < wanted and (block := peer.recv(65536)):
            request.body += block
        peer.sendall(step.answer)
        if step.reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def scripted(*steps: Step) -> Iterator[tuple[int, ScriptedServer]]:
    """The port and the server. At the end every step must have been served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        server = ScriptedServer(listener, list(steps))
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], server
        thread.join(20)
        assert not thread.is_alive()
    assert len(server.requests) == len(steps)


def put(folder: Path, port: int, **keys: Any) -> Done:
    """Put file.bin of ``folder``; between attempts nobody waits unless ``keys`` say so."""
    keys = {"ListenPort": f"127.0.0.1:{port}", "Secret": "a-secret-for-tests-0123456789abcdef"} | keys
    return asked("put", "--config", config_in(folder, **{"RetryDelay": 0, **keys}), folder / "file.bin")


def made_file(folder: Path, size: int) -> bytes:
    content = os.urandom(size)
    (folder / "file.bin").write_bytes(content)
    return content


def assert_put(done: Done, repetitions: int) -> None:
    """A link on standard output, and on standard error one line for each repetition."""
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/upload/[0-9a-f-]{36}/file\.bin\n", done.stdout)
    told = lines(done.stderr)
    assert len(told) == repetitions
    assert all("Trying again in" in line for line in told)


def assert_failed(done: Done, repetitions: int, *words: str) -> None:
    """Nothing on standard output; one line for each repetition, and one with all ``words`` at the end."""
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (1, "")
    *told, last = lines(done.stderr)
    assert len(told) == repetitions
    assert all("Trying again in" in line for line in told)
    for word in words:
        assert word in last


# --- going on ---


def test_an_upload_that_broke_off_goes_on_where_the_server_stopped(tmp_path: Path) -> None:
    content = made_file(tmp_path, 3 * MIB)

    with scripted(Step(take=MIB, reset=True), Step(says(202, Upload_Offset=MIB)), Step(says(201, Location="/x"))) as (
        port,
        server,
    ):
        done = put(tmp_path, port)

    assert_put(done, 1)
    first, ask, rest = server.requests
    assert {request.method for request in server.requests} == {"PUT"}
    assert {request.target for request in server.requests} == {first.target}
    assert {request.headers["content-type"] for request in server.requests} == {"application/octet-stream"}
    assert "content-range" not in first.headers
    assert ask.headers["content-range"] == f"bytes */{3 * MIB}"
    assert (ask.headers["content-length"], ask.body) == ("0", b"")
    assert rest.headers["content-range"] == f"bytes {MIB}-{3 * MIB - 1}/{3 * MIB}"
    assert rest.headers["content-length"] == str(2 * MIB)
    assert rest.body == content[MIB:]


def test_every_request_carries_one_token_of_our_own(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(says(202, Upload_Offset=1)), Step(says(201))) as (port, server):
        put(tmp_path, port)

    (token,) = {request.headers["x-session-token"] for request in server.requests}
    assert re.fullmatch(r"[A-Za-z0-9_-]{16,128}", token)


def test_two_uploads_have_two_tokens(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(says(201)), Step(says(201))) as (port, server):
        put(tmp_path, port)
        put(tmp_path, port)

    assert len({request.headers["x-session-token"] for request in server.requests}) == 2


def test_an_upload_whose_answer_was_lost_is_not_sent_again(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert server.requests[1].body == b""


def test_an_upload_of_which_nothing_arrived_begins_anew(tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    with scripted(Step(take=0, reset=True), Step(says(202, Upload_Offset=0)), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert "content-range" not in server.requests[2].headers
    assert server.requests[2].body == content


def test_a_server_that_has_all_of_it_and_is_storing_it_is_asked_again_and_sent_nothing(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(says(202, Upload_Offset=PIECE)), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 2)
    assert "is storing it. Trying again in 1 s" in done.stderr
    assert [len(each.body) for each in server.requests] == [PIECE, 0, 0]


@pytest.mark.parametrize("answer", [says(404), says(409, Upload_Offset=700), says(202, Upload_Offset=700)])
def test_a_rest_that_does_not_fit_is_asked_for_again(answer: bytes, tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    with scripted(
        Step(take=500, reset=True),
        Step(says(202, Upload_Offset=500)),
        Step(answer),
        Step(says(202, Upload_Offset=700)),
        Step(says(201)),
    ) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 2)
    assert server.requests[-1].body == content[700:]


def test_an_empty_file_is_sent_again_without_asking(tmp_path: Path) -> None:
    made_file(tmp_path, 0)

    with scripted(Step(reset=True), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert "content-range" not in server.requests[1].headers


# --- a server without resuming ---


@pytest.mark.parametrize("status", [400, 403, 404, 405, 411, 501])
def test_a_server_that_cannot_resume_gets_the_whole_file_again(status: int, tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    with scripted(Step(take=500, reset=True), Step(says(status)), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert "content-range" not in server.requests[2].headers
    assert server.requests[2].body == content


@pytest.mark.parametrize(
    "answer",
    [says(202), says(202, Upload_Offset="-1"), says(202, Upload_Offset=PIECE + 1), says(202, Upload_Offset="x")],
)
def test_an_answer_that_tells_no_offset_means_that_the_server_cannot_resume(answer: bytes, tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    with scripted(Step(take=500, reset=True), Step(answer), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert server.requests[2].body == content


def test_such_a_server_is_asked_only_once(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(take=500, reset=True), Step(says(400)), Step(take=500, reset=True), Step(says(201))) as (
        port,
        server,
    ):
        done = put(tmp_path, port)

    assert_put(done, 2)
    assert [request.headers["content-length"] for request in server.requests] == ["1000", "0", "1000", "1000"]


def test_a_rest_that_is_refused_makes_it_start_over(tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    with scripted(Step(take=500, reset=True), Step(says(202, Upload_Offset=500)), Step(says(400)), Step(says(201))) as (
        port,
        server,
    ):
        done = put(tmp_path, port)

    assert_put(done, 2)
    assert server.requests[-1].body == content


def test_a_file_that_exists_on_a_repetition_is_ours_when_its_size_is_right(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(says(400)), Step(says(409)), Step(says(200, Content_Length=PIECE))) as (
        port,
        server,
    ):
        done = put(tmp_path, port)

    assert_put(done, 1)
    head = server.requests[-1]
    assert head.method == "HEAD"
    assert "?" not in head.target


def test_a_file_of_another_size_is_not_ours(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(says(400)), Step(says(409)), Step(says(200, Content_Length=PIECE - 1))) as (
        port,
        _,
    ):
        done = put(tmp_path, port)

    assert_failed(done, 1, "409")


def test_a_file_that_exists_at_the_first_attempt_is_a_refusal(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(says(409, X_Error_Code="file-exists"))) as (port, _):
        done = put(tmp_path, port)

    assert_failed(done, 0, "409", "file-exists")


# --- how often, and how long between ---


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_server_that_is_busy_is_tried_again(status: int, tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    with scripted(Step(says(status)), Step(says(202, Upload_Offset=0)), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert str(status) in done.stderr
    assert server.requests[2].body == content


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)
    times: list[float] = []
    noted = [Step(says(503, Retry_After=1), deed=lambda: times.append(time.monotonic()))]
    noted += [Step(says(201), deed=lambda: times.append(time.monotonic()))]

    with scripted(*noted) as (port, _):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert "Trying again in 1 s" in done.stderr
    assert times[1] - times[0] >= 1


def test_a_server_that_asks_to_wait_for_long_has_refused(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(says(503, Retry_After=3600))) as (port, _):
        done = put(tmp_path, port)

    assert_failed(done, 0, "503")


@pytest.mark.parametrize("status", [400, 403, 413, 500, 507])
def test_a_refusal_is_not_tried_again(status: int, tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(says(status))) as (port, _):
        done = put(tmp_path, port)

    assert_failed(done, 0, str(status))


def test_max_retries_bounds_how_often_put_tries_again(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(reset=True), Step(reset=True)) as (port, _):
        done = put(tmp_path, port, MaxRetries=2)

    assert_failed(done, 2, "failed")
    assert "(1 of 2)" in done.stderr
    assert "(2 of 2)" in done.stderr


def test_max_retries_of_0_never_tries_again(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True)) as (port, _):
        done = put(tmp_path, port, MaxRetries=0)

    assert_failed(done, 0, "failed")


def test_retry_delay_is_the_first_delay_of_put(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)
    times: list[float] = []

    with scripted(
        Step(reset=True, deed=lambda: times.append(time.monotonic())),
        Step(says(201), deed=lambda: times.append(time.monotonic())),
    ) as (port, _):
        done = put(tmp_path, port, RetryDelay=5)

    assert_put(done, 1)
    assert re.search("Trying again in [2345] s", done.stderr)
    assert times[1] - times[0] >= 2.5  # chance takes half of it at most, and 2 s are the default


def test_an_attempt_that_brought_something_forward_begins_the_count_anew(tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)
    steps = []
    for offset in range(100, PIECE, 100):
        steps += [Step(reset=True), Step(says(202, Upload_Offset=offset))]

    with scripted(*steps, Step(says(201))) as (port, server):
        done = put(tmp_path, port, MaxRetries=1)

    assert_put(done, 9)
    assert server.requests[-1].body == content[900:]


def test_a_server_that_is_away_is_tried_again(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    done = put(tmp_path, free_port(), MaxRetries=3)

    assert_failed(done, 3, "nobody listens")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_does_not_speak_http_is_not_tried_again(answer: bytes, tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(answer)) as (port, _):
        done = put(tmp_path, port)

    assert_failed(done, 0, "failed")


# --- what is sent and shown ---


def test_a_file_that_becomes_shorter_ends_the_command(tmp_path: Path) -> None:
    with open(tmp_path / "file.bin", "wb") as file:
        file.truncate(64 * MIB)

    with scripted(Step(deed=lambda: os.truncate(tmp_path / "file.bin", 0))) as (port, _):
        done = put(tmp_path, port)

    assert_failed(done, 0, "become shorter")


def test_a_file_that_grows_is_sent_as_long_as_it_was_signed(tmp_path: Path) -> None:
    content = made_file(tmp_path, PIECE)

    def grow() -> None:
        with open(tmp_path / "file.bin", "ab") as file:
            file.write(bytes(PIECE))

    with scripted(Step(reset=True, deed=grow), Step(says(202, Upload_Offset=500)), Step(says(201))) as (port, server):
        done = put(tmp_path, port)

    assert_put(done, 1)
    assert server.requests[2].body == content[500:]


def test_no_token_and_no_signature_is_shown(tmp_path: Path) -> None:
    made_file(tmp_path, PIECE)

    with scripted(Step(reset=True), Step(says(503)), Step(says(400)), Step(says(500))) as (port, server):
        done = put(tmp_path, port)

    shown = done.stdout + done.stderr
    token = server.requests[0].headers["x-session-token"]
    mac = server.requests[0].target.partition("v2=")[2]
    assert re.fullmatch("[0-9a-f]{64}", mac)
    assert token not in shown
    assert mac not in shown
