"""Answers on the wire: one send where one is enough, no body where none may be, and heads that nobody can split."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gunicorn.config import Config

from hmacfs.offload import InlinePool
from hmacfs.server import response as response_module
from hmacfs.server.response import TransferResponse, send_file

from .conftest import Pair

PATIENCE = 20.0


class Wire:
    """A real pair of sockets that keeps every send apart."""

    def __init__(self) -> None:
        self.ours, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client.setblocking(False)

    def sends(self) -> list[bytes]:
        found = []
        try:
            while True:
                found.append(self.client.recv(2**20))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self.ours.close()
        self.client.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


Respond = Callable[..., TransferResponse]


@pytest.fixture
def respond(wire: Wire, parsed: Callable[[bytes], Any]) -> Respond:
    """An answer that has started, to a request of so many words."""

    def start(
        status: str,
        headers: list[tuple[str, str]],
        request: bytes = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    ) -> TransferResponse:
        made = TransferResponse(parsed(request), wire.ours, Config())
        made.start_response(status, headers)
        return made

    return start


def request(method: bytes, version: bytes = b"1.1", *fields: bytes) -> bytes:
    return b"\r\n".join((method + b" /a HTTP/" + version, b"Host: x", *fields, b"", b""))


def split(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), body


# --- one send ---


def test_head_and_small_body_are_one_send(wire: Wire, respond: Respond) -> None:
    answer = respond("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])

    answer.write(b"hello")
    answer.close()

    (sent,) = wire.sends()
    status, headers, body = split(sent)
    assert (status, body) == ("HTTP/1.1 200 OK", b"hello")
    assert (headers["Content-Type"], headers["Content-Length"]) == ("text/plain", "5")
    assert headers["Connection"] == "keep-alive"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["Date"])


def test_an_answer_without_a_body_is_one_send(wire: Wire, respond: Respond) -> None:
    answer = respond("201 Created", [("Location", "/a"), ("Content-Length", "0")])

    answer.close()

    (sent,) = wire.sends()
    assert split(sent)[0] == "HTTP/1.1 201 Created"
    assert sent.endswith(b"Content-Length: 0\r\n\r\n")


def test_a_body_in_blocks_follows_its_head(wire: Wire, respond: Respond) -> None:
    answer = respond("200 OK", [("Content-Length", "10")])

    answer.write(b"01234")
    answer.write(b"56789")
    answer.close()

    assert split(b"".join(wire.sends()))[2] == b"0123456789"


def test_a_body_of_unknown_length_is_chunked(wire: Wire, respond: Respond) -> None:
    answer = respond("200 OK", [])

    answer.write(b"hello")
    answer.close()

    _, headers, body = split(b"".join(wire.sends()))
    assert headers["Transfer-Encoding"] == "chunked"
    assert body == b"5\r\nhello\r\n0\r\n\r\n"


def test_bytes_behind_the_declared_length_are_not_sent(wire: Wire, respond: Respond) -> None:
    answer = respond("200 OK", [("Content-Length", "5")])

    answer.write(b"hello world")
    answer.close()

    assert split(b"".join(wire.sends()))[2] == b"hello"


def test_the_head_is_made_once(wire: Wire, respond: Respond) -> None:
    answer = respond("200 OK", [("Content-Length", "5")])

    head = answer.take_head()

    assert head.endswith(b"\r\n\r\n")
    assert answer.take_head() == b""
    answer.send_headers()
    assert wire.sends() == []


# --- no body ---


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        (b"HEAD", "200 OK", [("Content-Length", "5")]),
        (b"HEAD", "404 Not Found", [("Content-Length", "5")]),
        (b"GET", "204 No Content", []),
        (b"GET", "304 Not Modified", []),
        (b"GET", "304 Not Modified", [("Content-Length", "5")]),
    ],
)
def test_head_and_empty_statuses_carry_no_body_whatever_the_application_says(
    wire: Wire, respond: Respond, method: bytes, status: str, headers: list[tuple[str, str]]
) -> None:
    answer = respond(status, headers, request(method))

    answer.write(b"hello")
    answer.close()

    sent = b"".join(wire.sends())
    assert sent.startswith(b"HTTP/1.1 " + status.encode())
    assert sent.endswith(b"\r\n\r\n")
    assert b"hello" not in sent
    assert b"Transfer-Encoding" not in sent
    assert not answer.should_close()


# --- the connection ---


@pytest.mark.parametrize(
    ("request_", "connection"),
    [
        (request(b"GET"), "keep-alive"),
        (request(b"GET", b"1.1", b"Connection: close"), "close"),
        (request(b"GET", b"1.0"), "close"),
        (request(b"GET", b"1.0", b"Connection: keep-alive"), "keep-alive"),
    ],
)
def test_the_client_is_told_whether_the_connection_stays(
    wire: Wire, respond: Respond, request_: bytes, connection: str
) -> None:
    respond("200 OK", [("Content-Length", "0")], request_).close()

    status, headers, _ = split(b"".join(wire.sends()))
    assert headers["Connection"] == connection
    assert status.startswith("HTTP/1.0" if b"HTTP/1.0" in request_ else "HTTP/1.1")


def test_a_forced_close_is_told(wire: Wire, respond: Respond) -> None:
    answer = respond("403 Forbidden", [("Content-Length", "0")])

    answer.force_close()
    answer.close()

    assert split(b"".join(wire.sends()))[1]["Connection"] == "close"
    assert answer.should_close()


# --- heads that nobody can split ---


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb", "\N{SNOWMAN}"])
def test_a_value_that_could_split_the_head_is_refused_and_nothing_is_sent(
    wire: Wire, respond: Respond, value: str
) -> None:
    for header in (("X-A", value), (f"X-{value}", "a")):
        answer = respond("200 OK", [("Content-Length", "5"), header])
        with pytest.raises(ValueError, match="control character"):
            answer.write(b"hello")

    assert wire.sends() == []


def test_latin_1_and_tabs_may_stand_in_a_value(wire: Wire, respond: Respond) -> None:
    respond("200 OK", [("X-A", "\xe4\t~"), ("Content-Length", "0")]).close()

    assert b"X-A: \xe4\t~\r\n" in b"".join(wire.sends())


def test_an_answer_is_started_once(respond: Respond) -> None:
    answer = respond("200 OK", [("Content-Length", "0")])

    with pytest.raises(AssertionError):
        answer.start_response("500 Internal Server Error", [])


# --- files ---

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def received(client: socket.socket, count: int) -> "gevent.Greenlet[..., bytes]":
    """Reads so many bytes beside the sender."""

    def read() -> bytes:
        client.setblocking(False)
        found = bytearray()
        while len(found) < count:
            try:
                data = client.recv(65536)
            except BlockingIOError:
                gevent.sleep(0.0005)
                continue
            if not data:
                break
            found += data
        return bytes(found)

    return gevent.spawn(read)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    """A descriptor of a file of 3 MiB and its content."""
    content = os.urandom(3 * 2**20)
    (tmp_path / "file").write_bytes(content)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor, content
    os.close(descriptor)


@pytest.mark.parametrize(("first", "count"), [(0, 3 * 2**20), (0, 1), (5, 1000), (2**20 - 1, 2**20 + 2), (7, 0)])
def test_head_and_slice_arrive_whole(pair: Pair, file: tuple[int, bytes], first: int, count: int) -> None:
    ours, client = pair
    descriptor, content = file
    steps: list[int] = []
    reader = received(client, len(HEAD) + count)

    send_file(ours, HEAD, descriptor, first, count, InlinePool(), PATIENCE, steps.append)
    if not count:
        ours.shutdown(socket.SHUT_WR)  # nothing follows that the held-back head could go with

    assert reader.get(timeout=PATIENCE) == HEAD + content[first : first + count]
    assert sum(steps) == count
    assert max(steps, default=0) <= response_module.SENDFILE_BLOCK


def test_the_descriptor_s_own_position_is_left_alone(pair: Pair, file: tuple[int, bytes]) -> None:
    ours, client = pair
    descriptor, _ = file
    reader = received(client, len(HEAD) + 1000)

    send_file(ours, HEAD, descriptor, 10, 1000, InlinePool(), PATIENCE, lambda _: None)

    reader.get(timeout=PATIENCE)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0


def test_a_receiver_that_pauses_for_too_long_is_given_up(pair: Pair, file: tuple[int, bytes]) -> None:
    ours, _ = pair
    descriptor, content = file
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    steps: list[int] = []

    with pytest.raises(TimeoutError):
        send_file(ours, HEAD, descriptor, 0, len(content), InlinePool(), 0.001, steps.append)

    assert sum(steps) < len(content)


def test_a_receiver_that_goes_away_is_an_error(tcp: Pair, file: tuple[int, bytes]) -> None:
    ours, client = tcp
    descriptor, content = file
    client.close()

    with pytest.raises(OSError, match=r"."):
        send_file(ours, HEAD, descriptor, 0, len(content), InlinePool(), PATIENCE, lambda _: None)


def test_a_file_that_became_shorter_is_an_error_and_not_an_end(
    pair: Pair, file: tuple[int, bytes], tmp_path: Path
) -> None:
    ours, client = pair
    descriptor, _ = file
    os.truncate(tmp_path / "file", 100)
    reader = received(client, len(HEAD) + 100)

    with pytest.raises(OSError, match="shorter"):
        send_file(ours, HEAD, descriptor, 0, 200, InlinePool(), PATIENCE, lambda _: None)

    reader.kill()
