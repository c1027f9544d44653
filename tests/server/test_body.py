"""A body straight from the socket: what fills a buffer, when 100 Continue goes out, and what is left for the next."""

import os

import gevent
import pytest

from hmacfs.errors import Truncated
from hmacfs.server import socketbody
from hmacfs.web.body import StreamBody

from .bodies import CONTINUE, PATIENCE, SHORTLY, everything, filled, left_for_the_next, mark, reset, transfer, waiting
from .conftest import Pair

pytestmark = pytest.mark.usefixtures("short_pauses")


# --- filling ---


def test_a_buffer_is_filled_from_its_start(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"hello")

    buffer = bytearray(b"..........")
    count = transfer(ours, 100).fill(memoryview(buffer))

    assert (count, bytes(buffer)) == (5, b"hello.....")


def test_nothing_yet_is_none_and_the_end_is_zero(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5)

    assert filled(body, 10) is None
    client.sendall(b"hello")
    assert body.wait(PATIENCE)
    assert filled(body, 10) == b"hello"
    assert filled(body, 10) == b""

    assert (body.remaining, body.failed) == (0, False)


def test_a_body_of_no_bytes_is_over_at_once(pair: Pair) -> None:
    body = transfer(pair[0], 0)

    assert body.is_at_hand
    assert filled(body, 10) == b""
    assert not body.failed


def test_a_full_buffer_is_not_waited_with(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"0123456789")
    body = transfer(ours, 10)

    assert [filled(body, 4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]


def test_what_came_with_the_head_comes_first(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"world")
    body = transfer(ours, 11, b"hello ")

    assert everything(body, 100) == b"hello world"


@pytest.mark.parametrize("size", [1, 3, 6, 11, 64])
def test_buffers_of_any_size_give_the_same_body(pair: Pair, size: int) -> None:
    ours, client = pair
    client.sendall(b"worldGET / HTTP/1.1")
    body = transfer(ours, 11, b"hello ")

    assert everything(body, size) == b"hello world"
    assert left_for_the_next(ours) == b"GET / HTTP/1.1"


def test_a_body_that_came_with_its_head_is_read_without_the_socket(pair: Pair) -> None:
    ours, client = pair
    client.close()
    body = transfer(ours, 5, b"hello")

    assert body.is_at_hand
    assert everything(body, 3) == b"hello"
    assert not body.failed


def test_the_next_request_is_left_alone(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"helloGET / HTTP/1.1\r\n")
    body = transfer(ours, 5)

    assert filled(body, 100) == b"hello"
    assert filled(body, 100) == b""

    assert left_for_the_next(ours) == b"GET / HTTP/1.1\r\n"


def test_a_sender_that_comes_in_pieces_fills_one_buffer(tcp: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, client = tcp
    monkeypatch.setattr(socketbody, "PAUSE_SECONDS", PATIENCE)
    body = transfer(ours, 1000)
    client.sendall(bytes(100))

    def more() -> None:
        for _ in range(9):
            client.sendall(bytes(100))
            gevent.sleep(0)

    sender = gevent.spawn(more)

    assert filled(body, 1000) == bytes(1000)
    sender.get(timeout=PATIENCE)


def test_a_sender_that_pauses_gets_its_buffer_taken_away(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"hel")

    assert filled(transfer(ours, 5), 5) == b"hel"


def test_others_run_while_a_body_is_waited_for(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5)
    other = gevent.spawn(client.sendall, b"hello")

    assert body.wait(PATIENCE)

    other.get(timeout=PATIENCE)
    assert filled(body, 5) == b"hello"


def test_a_megabyte_arrives_unharmed(pair: Pair) -> None:
    ours, client = pair
    content = os.urandom(2**20 + 7)
    client.setblocking(False)

    def send() -> None:
        rest = memoryview(content + b"NEXT")
        while rest:
            try:
                rest = rest[client.send(rest) :]
            except BlockingIOError:
                gevent.sleep(SHORTLY)

    sender = gevent.spawn(send)
    got = everything(transfer(ours, len(content), least=65536), 262144)

    sender.get(timeout=PATIENCE)
    assert got == content
    assert left_for_the_next(ours) == b"NEXT"


# --- breaking off ---


def test_a_connection_that_ends_early_cannot_be_used_again(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5)
    client.sendall(b"hel")
    client.close()

    assert everything(body, 10) == b"hel"

    assert body.failed
    assert not body.is_at_hand
    assert filled(body, 10) == b""


def test_a_reset_connection_is_a_truncated_body(tcp: Pair) -> None:
    ours, client = tcp
    body = transfer(ours, 5)
    stream = StreamBody(body)  # type: ignore[arg-type]
    reset(client)

    assert stream.wait(PATIENCE)
    with pytest.raises(Truncated):
        stream.read_into(memoryview(bytearray(5)))

    assert body.failed


def test_the_stream_of_our_worker_is_a_body_of_the_services(pair: Pair) -> None:
    ours, client = pair
    stream = StreamBody(transfer(ours, 5))  # type: ignore[arg-type]
    buffer = memoryview(bytearray(10))

    assert stream.read_into(buffer) is None
    assert not stream.wait(SHORTLY)
    client.sendall(b"hello")
    assert stream.wait(PATIENCE)
    assert stream.read_into(buffer) == 5
    assert stream.read_into(buffer) == 0


# --- waiting ---


def test_waiting_ends_with_bytes_with_the_end_and_with_the_time(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5)

    assert not body.wait(SHORTLY)
    client.sendall(b"h")
    assert body.wait(PATIENCE)
    assert filled(body, 5) == b"h"
    client.close()
    assert body.wait(PATIENCE)


@pytest.mark.parametrize(("remaining", "least", "expected"), [(100_000, 4096, 4096), (10, 4096, 10), (1, 4096, 1)])
def test_the_kernel_wakes_us_for_a_worthwhile_piece_and_never_later_than_the_end(
    tcp: Pair, remaining: int, least: int, expected: int
) -> None:
    ours, _ = tcp
    body = transfer(ours, remaining, least=least)

    body.wait(SHORTLY)

    assert mark(ours) == expected


def test_the_mark_sinks_with_what_is_left(tcp: Pair) -> None:
    ours, client = tcp
    body = transfer(ours, 5000, least=4096)
    body.wait(SHORTLY)
    client.sendall(bytes(4990))
    assert body.wait(PATIENCE)
    assert filled(body, 5000) == bytes(4990)

    assert not body.wait(SHORTLY)
    assert mark(ours) == 10
    client.sendall(bytes(10))
    assert body.wait(PATIENCE)

    assert filled(body, 5000) == bytes(10)


def test_the_end_of_the_connection_wakes_below_the_mark(tcp: Pair) -> None:
    ours, client = tcp
    body = transfer(ours, 5000, least=4096)
    client.sendall(b"hel")
    client.close()

    assert body.wait(PATIENCE)
    assert everything(body, 5000) == b"hel"


def test_the_next_reader_is_woken_by_every_byte(tcp: Pair) -> None:
    ours, _ = tcp
    body = transfer(ours, 5000, least=4096)
    body.wait(SHORTLY)
    assert mark(ours) == 4096

    body.release()

    assert mark(ours) == 1


# --- 100 Continue ---


def test_nobody_is_told_to_continue_before_the_first_read(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5, expects=True)

    assert not body.is_at_hand
    assert body.remaining == 5
    body.release()

    assert waiting(client) == b""


def test_the_first_read_tells_once_to_continue(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5, expects=True)

    assert filled(body, 5) is None
    assert waiting(client) == CONTINUE
    client.sendall(b"hello")
    assert body.wait(PATIENCE)
    assert everything(body, 2) == b"hello"

    assert waiting(client) == b""


def test_a_client_that_did_not_ask_is_told_nothing(pair: Pair) -> None:
    ours, client = pair

    assert filled(transfer(ours, 5), 5) is None

    assert waiting(client) == b""


def test_a_client_that_has_begun_to_send_is_told_nothing(pair: Pair) -> None:
    ours, client = pair
    body = transfer(ours, 5, b"he", expects=True)

    assert filled(body, 2) == b"he"
    assert filled(body, 2) is None

    assert waiting(client) == b""


# --- as WSGI reads ---


def test_read_gives_so_many_bytes_and_fewer_only_at_the_end(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"lo world, this is next")
    body = transfer(ours, 11, b"hel")

    assert [body.read(4), body.read(0), body.read(100), body.read(100), body.read()] == [
        b"hell",
        b"",
        b"o world",
        b"",
        b"",
    ]
    assert left_for_the_next(ours) == b", this is next"


def test_read_without_a_size_gives_the_rest(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"hello")

    assert transfer(ours, 5).read() == b"hello"


def test_read_waits_for_the_rest(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"he")
    sender = gevent.spawn(client.sendall, b"llo")

    assert transfer(ours, 5).read(5) == b"hello"
    sender.get(timeout=PATIENCE)


def test_read_of_a_broken_body_is_short(pair: Pair) -> None:
    ours, client = pair
    client.sendall(b"he")
    client.close()

    assert transfer(ours, 5).read() == b"he"


def test_what_is_at_hand_can_be_skipped(pair: Pair) -> None:
    body = transfer(pair[0], 5, b"hello")

    body.skip_ahead()

    assert (body.remaining, body.is_at_hand, body.read()) == (0, True, b"")


def test_bytes_below_the_mark_are_no_silence(tcp: Pair) -> None:
    ours, client = tcp
    body = transfer(ours, 100_000, least=65536)
    body.wait(0.001)
    client.sendall(bytes(1000))

    assert body.wait(0.05)
    assert filled(body, 100_000) == bytes(1000)


def test_a_body_that_was_ended_is_over(tcp: Pair) -> None:
    ours, client = tcp
    body = transfer(ours, 100_000, least=1)
    client.sendall(bytes(1000))

    body.end()

    assert body.fill(memoryview(bytearray(100))) == 0
    assert body.wait(60)
    assert body.is_ended
    assert not body.failed  # the answer can still be sent


def test_what_came_before_a_reset_is_a_read_of_its_own(tcp: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, client = tcp
    body = transfer(ours, 10)
    client.sendall(b"hello")
    assert body.wait(PATIENCE)
    monkeypatch.setattr(socketbody, "PAUSE_SECONDS", PATIENCE)
    resetting = gevent.spawn(reset, client)

    assert filled(body, 10) == b"hello"
    resetting.get(timeout=PATIENCE)

    assert body.failed
    assert filled(body, 10) == b""
