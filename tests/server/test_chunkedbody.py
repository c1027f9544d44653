"""A chunked body straight from the socket: what fills a buffer, what breaks off, and what is left for the next."""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from hmacfs.errors import BadBody, Truncated
from hmacfs.server import socketbody
from hmacfs.server.body import ChunkedBody
from hmacfs.server.chunked import CHUNKS_AT_ONCE, BadChunk
from hmacfs.web.body import StreamBody

from .bodies import CONTINUE, PATIENCE, SHORTLY, everything, filled, left_for_the_next, mark, reset, waiting
from .conftest import Pair

pytestmark = pytest.mark.usefixtures("short_pauses")


# --- chunks ---


class Behind:
    """What a chunked body gives back."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)


@pytest.fixture
def behind() -> Behind:
    return Behind()


Chunked = Callable[..., ChunkedBody]


@pytest.fixture
def chunked(pair: Pair, behind: Behind) -> Chunked:
    """A chunked body on both kinds of connection, of which ``ahead`` came with the head."""

    def build(ahead: bytes = b"", *, expects: bool = False, least: int = 1) -> ChunkedBody:
        return ChunkedBody(pair[0], ahead, behind.parts.append, expects_continue=expects, least_read=least)

    return build


HELLO = b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


@pytest.mark.parametrize("ahead", range(len(HELLO) + 1))
@pytest.mark.parametrize("size", [1, 4, 100])
def test_chunks_are_put_together_wherever_the_head_was_cut(
    pair: Pair, chunked: Chunked, behind: Behind, ahead: int, size: int
) -> None:
    body = chunked(HELLO[:ahead])
    pair[1].sendall(HELLO[ahead:])

    assert not body.is_at_hand
    assert everything(body, size) == b"hello"
    assert body.is_at_hand
    assert not body.failed
    assert behind.parts == []


def test_a_pause_is_none_and_costs_nothing_of_the_body_wherever_it_falls(pair: Pair, chunked: Chunked) -> None:
    body = chunked()
    got = []

    for byte in HELLO:
        assert filled(body, 10) is None
        assert not body.wait(SHORTLY)
        pair[1].sendall(bytes((byte,)))
        assert body.wait(PATIENCE)
        got.append(filled(body, 10))

    assert got[-1] == b""
    assert b"".join(part for part in got if part) == b"hello"
    assert body.wait(PATIENCE)  # it is over


def test_chunks_that_follow_each_other_fill_one_buffer(pair: Pair, chunked: Chunked) -> None:
    pair[1].sendall(HELLO)

    assert filled(chunked(), 100) == b"hello"


def test_a_sender_that_pauses_between_chunks_gets_its_buffer_taken_away(pair: Pair, chunked: Chunked) -> None:
    pair[1].sendall(b"3\r\nhel\r\n2\r")

    assert filled(chunked(), 100) == b"hel"


@pytest.mark.parametrize("ahead", [0, 4, len(HELLO), len(HELLO) + 3])
def test_the_next_request_is_given_back(pair: Pair, chunked: Chunked, behind: Behind, ahead: int) -> None:
    whole = HELLO + b"GET / HTTP/1.1\r\n"
    body = chunked(whole[:ahead])
    pair[1].sendall(whole[ahead:])

    assert everything(body, 100) == b"hello"
    assert filled(body, 100) == b""

    assert behind.data + left_for_the_next(pair[0]) == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize("chunk", [1, 100, 5000, 16384, 70_000, 2**20])
def test_a_chunked_megabyte_arrives_unharmed(pair: Pair, chunked: Chunked, behind: Behind, chunk: int) -> None:
    ours, client = pair
    content = os.urandom(2**17 if chunk == 1 else 2**20 + 7)
    sent = b"".join(in_chunks(content, chunk)) + b"0\r\nX-Sum: 1\r\n\r\nNEXT"
    client.setblocking(False)

    def send() -> None:
        rest = memoryview(sent)
        while rest:
            try:
                rest = rest[client.send(rest) :]
            except BlockingIOError:
                gevent.sleep(SHORTLY)

    sender = gevent.spawn(send)
    body = chunked(least=65536)
    got = everything(body, 262_144)

    sender.get(timeout=PATIENCE)
    assert got == content
    assert body.is_at_hand
    assert behind.data + left_for_the_next(ours) == b"NEXT"


def in_chunks(content: bytes, size: int) -> Iterator[bytes]:
    """The content as chunks of ``size``, without the last one."""
    for start in range(0, len(content), size):
        piece = content[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.fixture
def minced(tcp: Pair, behind: Behind, monkeypatch: pytest.MonkeyPatch) -> ChunkedBody:
    """A body of 25,000 one-byte chunks that have all been sent."""
    ours, client = tcp
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 2**20)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
    client.sendall(b"".join(in_chunks(bytes(25_000), 1)) + b"0\r\n\r\n")
    monkeypatch.setattr(socketbody, "PAUSE_SECONDS", PATIENCE)
    return ChunkedBody(ours, b"", behind.parts.append, expects_continue=False, least_read=1)


def test_others_run_while_a_body_of_one_byte_chunks_is_read(minced: ChunkedBody) -> None:
    turns = []

    def count() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    other = gevent.spawn(count)
    got = filled(minced, 25_000)
    other.kill()

    assert got == bytes(25_000)
    assert len(turns) >= 25_000 // CHUNKS_AT_ONCE // 2


def test_a_sender_of_one_byte_chunks_that_is_ended_is_not_read_on(minced: ChunkedBody) -> None:
    ending = gevent.spawn(minced.end)

    got = filled(minced, 25_000)

    ending.get(timeout=PATIENCE)
    assert got is not None
    assert 0 < len(got) < 25_000
    assert filled(minced, 25_000) == b""


# --- chunks that break off ---


@pytest.mark.parametrize(
    ("sent", "data"),
    [
        (b"", b""),
        (b"3", b""),
        (b"3\r\n", b""),
        (b"3\r\nhe", b"he"),
        (b"3\r\nhel", b"hel"),
        (b"3\r\nhel\r\n0\r\n", b"hel"),
        (b"0\r\nA: b\r\n", b""),
    ],
)
@pytest.mark.parametrize("is_ahead", [True, False])
def test_a_connection_that_ends_before_the_last_chunk_is_no_orderly_end(
    pair: Pair, chunked: Chunked, sent: bytes, data: bytes, is_ahead: bool
) -> None:
    client = pair[1]
    body = chunked(sent if is_ahead else b"")
    client.sendall(b"" if is_ahead else sent)
    client.close()

    if data:
        assert filled(body, 10) == data
    for _ in range(2):  # and it stays so
        with pytest.raises(ConnectionAbortedError):
            filled(body, 10)

    assert body.failed
    assert not body.is_at_hand


@pytest.mark.parametrize("behind_it", [b"", b"0\r\n\r\n"])
@pytest.mark.parametrize("is_ahead", [True, False])
def test_a_broken_chunk_cannot_be_passed_over(pair: Pair, chunked: Chunked, is_ahead: bool, behind_it: bytes) -> None:
    broken = b"3\r\nhel\r\nzz\r\n" + behind_it
    body = chunked(broken if is_ahead else b"")
    pair[1].sendall(b"" if is_ahead else broken)

    assert filled(body, 100) == b"hel"  # what came before the fault is good
    for _ in range(2):
        with pytest.raises(BadChunk):
            filled(body, 100)
        body.settle()

    assert not body.is_at_hand
    assert not body.failed  # somebody is there to read the refusal


def test_what_came_with_the_head_is_given_before_the_fault_behind_it(pair: Pair, chunked: Chunked) -> None:
    body = chunked(b"3\r\nhel")
    pair[1].sendall(b"lo\r\n")

    assert filled(body, 100) == b"hel"
    with pytest.raises(BadChunk):
        filled(body, 100)


def test_a_stream_tells_a_cut_from_a_broken_chunk(pair: Pair, chunked: Chunked) -> None:
    client = pair[1]
    broken = StreamBody(chunked(b"zz\r\n"))  # type: ignore[arg-type]
    cut = StreamBody(chunked(b"5\r\n"))  # type: ignore[arg-type]
    client.close()
    buffer = memoryview(bytearray(10))

    with pytest.raises(BadBody):
        broken.read_into(buffer)
    with pytest.raises(Truncated):
        cut.read_into(buffer)


def test_a_reset_connection_is_a_truncated_chunked_body(tcp: Pair, behind: Behind) -> None:
    ours, client = tcp
    body = ChunkedBody(ours, b"5\r\nhe", behind.parts.append, expects_continue=False, least_read=1)
    stream = StreamBody(body)  # type: ignore[arg-type]
    buffer = memoryview(bytearray(2))
    assert stream.read_into(buffer) == 2
    reset(client)

    assert stream.wait(PATIENCE)
    for _ in range(2):
        with pytest.raises(Truncated):
            stream.read_into(buffer)

    assert body.failed


def test_a_chunked_body_that_was_ended_is_over(pair: Pair, chunked: Chunked) -> None:
    body = chunked(b"5\r\nhel")

    body.end()
    body.settle()

    assert filled(body, 10) == b""
    assert body.read() == b""
    assert body.wait(60)
    assert body.is_ended
    assert not body.is_at_hand
    assert not body.failed  # the answer can still be sent


def test_a_chunked_body_that_is_ended_while_it_is_read_is_over_within_a_second(pair: Pair, chunked: Chunked) -> None:
    body = chunked(b"5\r\nhel")
    ending = gevent.spawn(body.end)

    assert body.read() == b"hel"

    ending.get(timeout=PATIENCE)


# --- the end of the chunks ---


def test_the_end_that_arrived_after_the_last_wanted_byte_is_seen(pair: Pair, chunked: Chunked, behind: Behind) -> None:
    body = chunked(b"5\r\nhe")
    pair[1].sendall(b"llo")
    assert body.read(5) == b"hello"
    assert not body.is_at_hand
    pair[1].sendall(b"\r\n0\r\n\r\nNEXT")
    assert body.wait(PATIENCE)

    body.settle()
    body.settle()

    assert body.is_at_hand
    assert behind.data == b"NEXT"


def test_an_end_that_has_not_arrived_is_not_waited_for(pair: Pair, chunked: Chunked) -> None:
    body = chunked(b"5\r\nhello")

    body.settle()

    assert not body.is_at_hand
    assert not body.failed


def test_a_small_body_that_nobody_wanted_is_at_hand_once_it_is_settled(
    pair: Pair, chunked: Chunked, behind: Behind
) -> None:
    body = chunked(HELLO[:7])
    pair[1].sendall(HELLO[7:] + b"NEXT")

    body.settle()

    assert body.is_at_hand
    assert behind.data == b"NEXT"


def test_a_large_body_that_nobody_wanted_is_not_read(pair: Pair, chunked: Chunked) -> None:
    body = chunked(b"fffff\r\n")
    pair[1].sendall(bytes(100_000))

    body.settle()

    assert not body.is_at_hand
    assert len(waiting_bytes(pair[0])) >= 100_000 - 2 * 16384


def waiting_bytes(ours: Any) -> bytes:
    parts = []
    while part := left_for_the_next(ours):
        parts.append(part)
    return b"".join(parts)


def test_a_client_that_still_waits_for_its_100_continue_has_sent_no_body(
    pair: Pair, chunked: Chunked, behind: Behind
) -> None:
    body = chunked(expects=True)
    pair[1].sendall(HELLO)

    body.settle()

    assert not body.is_at_hand  # what came may be the body or, after a refusal, the next request
    assert behind.parts == []
    assert waiting(pair[1]) == b""


@pytest.mark.parametrize("ahead", [b"", b"3\r\n"])
def test_a_chunked_body_tells_once_to_continue_unless_it_has_begun(pair: Pair, chunked: Chunked, ahead: bytes) -> None:
    body = chunked(ahead, expects=True)
    assert waiting(pair[1]) == b""

    assert filled(body, 5) is None
    pair[1].sendall(HELLO[len(ahead) :])
    assert body.read() == b"hello"

    assert waiting(pair[1]) == (b"" if ahead else CONTINUE)


def test_no_more_is_taken_from_the_socket_than_there_is_room_for(pair: Pair, chunked: Chunked) -> None:
    sent = b"".join(in_chunks(bytes(1000), 100))
    pair[1].sendall(sent)

    assert filled(chunked(), 50) == bytes(50)

    assert len(left_for_the_next(pair[0])) == len(sent) - len(b"64\r\n") - 50


# --- chunks as WSGI reads, and when it is woken ---


def test_read_gives_so_many_bytes_of_the_chunks_and_fewer_only_at_the_end(pair: Pair, chunked: Chunked) -> None:
    body = chunked(HELLO[:6])
    sender = gevent.spawn(pair[1].sendall, HELLO[6:])

    assert [body.read(4), body.read(0), body.read(4), body.read(4), body.read()] == [b"hell", b"", b"o", b"", b""]
    sender.get(timeout=PATIENCE)


def test_read_without_a_size_gives_all_chunks(pair: Pair, chunked: Chunked) -> None:
    content = os.urandom(150_000)
    body = chunked(b"".join(in_chunks(content, 4000)) + b"0\r\n\r\n")

    assert body.read() == content


def test_read_of_a_broken_chunked_body_says_so(pair: Pair, chunked: Chunked) -> None:
    body = chunked(b"3\r\nhe")
    pair[1].close()

    with pytest.raises(ConnectionAbortedError):
        body.read()


@pytest.mark.parametrize(("sent", "expected"), [(b"", 1), (b"f4240\r\n", 4096), (b"f\r\n01234", 10), (b"1\r\nx", 1)])
def test_the_kernel_wakes_us_for_a_worthwhile_piece_of_a_chunk_and_for_every_byte_between_chunks(
    tcp: Pair, behind: Behind, sent: bytes, expected: int
) -> None:
    ours, _ = tcp
    body = ChunkedBody(ours, sent, behind.parts.append, expects_continue=False, least_read=4096)
    filled(body, 100)

    body.wait(SHORTLY)

    assert mark(ours) == expected
    body.release()
    assert mark(ours) == 1


def test_bytes_of_a_chunk_below_the_mark_are_no_silence(tcp: Pair, behind: Behind) -> None:
    ours, client = tcp
    body = ChunkedBody(ours, b"fffff\r\n", behind.parts.append, expects_continue=False, least_read=65536)
    assert filled(body, 10) is None
    body.wait(SHORTLY)
    client.sendall(bytes(1000))

    assert body.wait(0.05)
    assert filled(body, 100_000) == bytes(1000)
