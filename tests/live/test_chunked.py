"""Bodies in chunks on real connections: refused by the file server, and read by our worker in a small application."""

import hashlib
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import repeat

import pytest

from tests.support.flood import Pings
from tests.support.http import MIB, Answer, Connection, get, head_of, put, query_of, url_of
from tests.support.polling import until
from tests.support.reading import SILENCE_SECONDS, Reading
from tests.support.running import send_for_ever
from tests.support.server import Server
from tests.support.skipping import skip_or_fail

KEEP = ("Connection", "keep-alive")
CHUNKED = ("Transfer-Encoding", "chunked")
HELLO = b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def in_chunks(content: bytes, size: int) -> bytes:
    return b"".join(chunk(content[at : at + size]) for at in range(0, len(content), size)) + LAST


# --- a body that nobody reads ---


def refused_head(server: Server, path: str) -> bytes:
    """Of an upload whose length nobody knows, which is 411."""
    target = f"{url_of(server, path)}?{query_of(server, path, 5)}"
    return head_of("PUT", target, [CHUNKED, KEEP])


@pytest.mark.parametrize("size", [1000, 65536, 50 * MIB])
def test_a_refused_body_of_50_mb_in_chunks_is_answered_and_never_a_reset(server: Server, size: int) -> None:
    piece = chunk(bytes(size))
    with Connection(server.address) as connection:
        connection.send(refused_head(server, "refused/large"))
        for _ in range(50 * MIB // size):
            connection.send(piece)
        connection.send(LAST)
        answer = connection.read_answer()
        rest = connection.read_to_end()

    assert (answer.status, answer.code, answer["Connection"]) == (411, "length-required", "close")
    assert rest == b""


@pytest.mark.parametrize("times", [1, 3])
def test_a_connection_outlives_small_chunked_bodies_that_are_refused(server: Server, times: int) -> None:
    with Connection(server.address) as connection:
        for _ in range(times):
            connection.send(refused_head(server, "refused/small") + HELLO)
            answer = connection.read_answer()
            assert (answer.status, answer["Connection"]) == (411, "keep-alive")
        connection.send(head_of("GET", url_of(server, "no/file"), [KEEP]))

        assert connection.read_answer().status == 404


def test_requests_behind_unread_chunked_bodies_are_answered_in_turn(server: Server) -> None:
    put(server, "piped/file", b"content")
    file = head_of("GET", url_of(server, "piped/file"), [KEEP])
    with_body = head_of("GET", url_of(server, "no/file"), [KEEP, CHUNKED])
    with Connection(server.address) as connection:
        connection.send(refused_head(server, "a") + HELLO + file + with_body + HELLO + file)
        answers = [connection.read_answer() for _ in range(4)]

    assert [(answer.status, answer.body[:7]) for answer in answers if answer.status == 200] == [(200, b"content")] * 2
    assert [answer.status for answer in answers] == [411, 200, 404, 200]


@pytest.mark.parametrize(
    "framing", [b"zz\r\n\r\n", b"0x0\r\n\r\n", b"0\n\n", b"5\r\nhello0\r\n\r\n", b"0\r\nHost: y\r\n\r\n"]
)
def test_what_stands_behind_a_broken_body_is_no_request(server: Server, framing: bytes) -> None:
    put(server, "smuggled/file", b"content")
    with Connection(server.address) as connection:
        connection.send(refused_head(server, "a") + framing + head_of("GET", url_of(server, "smuggled/file"), [KEEP]))
        answer = connection.read_answer()
        connection.half_close()
        rest = connection.read_to_end()

    assert (answer.status, answer["Connection"]) == (411, "close")
    assert rest == b""


def test_a_refused_client_that_sends_chunks_for_ever_is_cut_off_and_nobody_waits(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shorter = {"hmacfs.server.connection:LINGER_SECONDS": 1.5}
    with (
        Server(tmp_path_factory.mktemp("endless"), constants=shorter) as server,
        Connection(server.address) as connection,
        Pings(server) as pings,
    ):
        connection.send(refused_head(server, "endless"))
        assert connection.read_answer().status == 411
        started = time.monotonic()

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(connection, repeat(chunk(b"x") * 10_000), 20)

        assert 1 < time.monotonic() - started < 5
    assert pings.quantile(0.99) < 0.1


# --- a body that is read ---


@pytest.fixture(scope="module")
def reading() -> Iterator[Reading]:
    with Reading() as running:
        yield running


def told(content: bytes) -> bytes:
    """What the application says of a body."""
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}".encode()


def head(*headers: tuple[str, str]) -> bytes:
    return head_of("PUT", "/", [CHUNKED, KEEP, *headers])


def ask(connection: Connection, sent: bytes) -> Answer:
    connection.send(sent)
    return connection.read_answer()


@pytest.mark.parametrize(
    ("size", "piece"), [(0, 1), (1, 1), (5000, 7), (3 * MIB, 1000), (3 * MIB, 65536), (9 * MIB, 9 * MIB)]
)
def test_a_body_in_chunks_is_read_whole_and_its_connection_goes_on(reading: Reading, size: int, piece: int) -> None:
    content = os.urandom(size)
    with Connection(reading.address) as connection:
        for _ in range(3):
            answer = ask(connection, head() + in_chunks(content, piece))

            assert (answer.status, answer.body, answer["Connection"]) == (200, told(content), "keep-alive")


def test_bodies_that_arrive_together_are_read_one_by_one(reading: Reading) -> None:
    contents = [b"first", b"", os.urandom(50_000), b"last"]
    lengths = head_of("PUT", "/", [("Content-Length", "3"), KEEP]) + b"mid"
    with Connection(reading.address) as connection:
        connection.send(lengths.join(head() + in_chunks(content, 3000) for content in contents))
        answers = [connection.read_answer().body for _ in range(7)]

    assert answers[::2] == [told(content) for content in contents]
    assert answers[1::2] == [told(b"mid")] * 3


@pytest.mark.parametrize("wanted", [1, 5, 70_000])
def test_a_reader_that_knows_how_much_comes_keeps_the_connection(reading: Reading, wanted: int) -> None:
    content = os.urandom(wanted)
    with Connection(reading.address) as connection:
        for _ in range(3):
            answer = ask(connection, head(("X-Wanted", str(wanted))) + in_chunks(content, 4000))

            assert (answer.body, answer["Connection"]) == (told(content), "keep-alive")


def test_a_body_that_is_left_unread_is_discarded_and_the_connection_closed(reading: Reading) -> None:
    with Connection(reading.address) as connection:
        answer = ask(connection, head(("X-Wanted", "5")) + in_chunks(bytes(30 * MIB), 65536))
        rest = connection.read_to_end()

    assert (answer.body, answer["Connection"]) == (told(bytes(5)), "close")
    assert rest == b""


@pytest.mark.parametrize(
    "begun", [b"", b"5", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n0\r\n", b"fffff\r\n" + bytes(9000)]
)
def test_a_body_in_chunks_that_falls_silent_is_408_wherever_it_does(reading: Reading, begun: bytes) -> None:
    with Connection(reading.address) as connection:
        started = time.monotonic()
        answer = ask(connection, head() + begun)
        rest = connection.read_to_end()

        assert (answer.status, answer.code, answer["Connection"]) == (408, "body-timeout", "close")
        assert rest == b""
        assert SILENCE_SECONDS - 0.1 < time.monotonic() - started < SILENCE_SECONDS + 8


def test_a_body_in_chunks_may_pause_anywhere_within_the_limit(reading: Reading) -> None:
    with Connection(reading.address) as connection:
        connection.send(head())
        for byte in HELLO[:-1]:
            connection.send(bytes((byte,)))
            time.sleep(SILENCE_SECONDS / 10)  # longer than the limit in all
        answer = ask(connection, HELLO[-1:])

    assert answer.body == told(b"hello")


def test_a_client_that_sends_on_behind_a_broken_chunk_can_read_the_refusal(reading: Reading) -> None:
    with Connection(reading.address) as connection:
        connection.send(head() + chunk(b"good") + b"5\nhello\r\n")
        for _ in range(20):
            connection.send(bytes(MIB))  # raises when the connection was reset
        answer = connection.read_answer()
        rest = connection.read_to_end()

    assert (answer.status, answer.code, answer["Connection"]) == (400, "bad-body", "close")
    assert rest == b""


def test_a_body_in_chunks_that_is_cut_off_is_told_from_one_that_ends(reading: Reading) -> None:
    with Connection(reading.address) as connection:
        connection.send(head() + chunk(b"good"))
        connection.half_close()
        answer = connection.read_answer()

    assert (answer.status, answer.code) == (400, "body-truncated")


def test_a_client_is_asked_to_go_on_once_the_body_is_read(reading: Reading) -> None:
    with Connection(reading.address) as connection:
        for _ in range(2):
            connection.send(head(("Expect", "100-continue")))
            assert connection.read_head().status == 100

            assert ask(connection, HELLO).body == told(b"hello")


def test_a_client_whose_body_nobody_wants_is_not_asked_to_go_on(reading: Reading) -> None:
    with Connection(reading.address) as connection:
        answer = ask(connection, head(("Expect", "100-continue"), ("X-Wanted", "0")))

    assert (answer.status, answer["Connection"]) == (200, "close")


def test_nobody_waits_while_one_byte_chunks_are_read(reading: Reading) -> None:
    block, blocks = chunk(b"x") * 100_000, 5
    answers = []

    def send() -> None:
        with Connection(reading.address) as connection:
            connection.send(head())
            for _ in range(blocks):
                connection.send(block)
            answers.append(ask(connection, LAST).body)

    with Pings(reading) as pings:
        senders = [threading.Thread(target=send, daemon=True) for _ in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)

    assert answers == [told(b"x" * 100_000 * blocks)] * 2
    assert pings.quantile(0.99) < 0.1


def test_a_stopping_server_ends_bodies_in_chunks_in_order() -> None:
    begun = [b"", b"5", b"5\r\nhel", b"fffff\r\n" + bytes(100_000)]
    with Reading(drain=1) as reading, ExitStack() as stack:
        connections = [stack.enter_context(Connection(reading.address)) for _ in begun]
        for connection, sent in zip(connections, begun, strict=True):
            connection.send(head(("Expect", "100-continue")))
            assert connection.read_head().status == 100
            connection.send(sent)

        # Whoever is silent for longer than SILENCE_SECONDS has its own end; the drain is shorter.
        reading.process.send_signal(signal.SIGTERM)
        answers = [connection.read_answer() for connection in connections]

        assert [(answer.status, answer["Connection"]) for answer in answers] == [(200, "close")] * len(begun)
        assert answers[3].body.startswith(b"100000 ")
        until(lambda: reading.process.poll() is not None, "the server has ended")


# --- clients of others ---


def test_pythons_own_client_is_understood(reading: Reading) -> None:
    client = http.client.HTTPConnection(*reading.address, timeout=30)
    try:
        for _ in range(2):
            client.request("PUT", "/", iter([b"hel", b"lo" * 100_000]), encode_chunked=True, headers=dict([CHUNKED]))
            assert client.getresponse().read() == told(b"hel" + b"lo" * 100_000)
    finally:
        client.close()


def test_curl_is_understood(reading: Reading) -> None:
    content = os.urandom(3 * MIB)
    url = "http://{}:{}/".format(*reading.address)
    try:
        done = subprocess.run(
            ["curl", "-sS", "-T", "-", "-H", "Expect: 100-continue", url],
            input=content,
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
    except FileNotFoundError:
        skip_or_fail("curl is missing")

    assert done.stdout == told(content)


def test_the_file_server_still_serves(server: Server) -> None:
    assert put(server, "after/all", b"content").status == 201
    assert get(server, "after/all").body == b"content"
