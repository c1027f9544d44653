"""The proxy that cuts: the server gets every byte before the cut and none behind it."""

import socket
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

import pytest

from tests.support.cutting import Bodies, CuttingProxy, Kind
from tests.support.http import Connection, head_of
from tests.support.polling import until

HEAD = head_of("PATCH", "/x", [("Content-Length", "1000")])
CHUNKED_HEAD = head_of("PATCH", "/x", [("Transfer-Encoding", "chunked")])
BODY = bytes(range(250)) * 4


class Recorder:
    """A server that writes down what each connection sends, and how it ends; "done" makes it answer 204."""

    def __init__(self) -> None:
        self.received: list[bytearray] = []
        self.ends: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def address(self) -> tuple[str, int]:
        name: tuple[str, int] = self._listener.getsockname()
        return name

    def __enter__(self) -> "Recorder":
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.received.append(bytearray())
            self.ends.append("open")
            self._threads.append(threading.Thread(target=self._record, args=(sock, len(self.ends) - 1)))
            self._threads[-1].start()

    def _record(self, sock: socket.socket, number: int) -> None:
        with sock:
            try:
                while data := sock.recv(4096):
                    self.received[number] += data
                    if self.received[number].endswith(b"done"):
                        sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                self.ends[number] = "ended"
            except ConnectionResetError:
                self.ends[number] = "reset"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as running:
        yield running


def send_until_cut(proxy: CuttingProxy, pieces: Sequence[bytes]) -> None:
    """Send all on one connection and see it reset."""
    with Connection(proxy.address) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_and_read(connection, pieces)


def send_and_read(connection: Connection, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        connection.send(piece)
    connection.read_head()


def one_by_one(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


@pytest.mark.parametrize("kind", [Kind.ENDED, Kind.RESET])
@pytest.mark.parametrize("position", [0, 1, 999, 1000])
def test_the_server_gets_every_byte_before_the_cut_and_none_behind_it(
    recorder: Recorder, kind: Kind, position: int
) -> None:
    with CuttingProxy(recorder.address, [position], kind) as proxy:
        send_until_cut(proxy, [HEAD + BODY])

        until(lambda: recorder.ends == [kind.value], "the server sees the cut")
    assert bytes(recorder.received[0]) == HEAD + BODY[:position]
    assert proxy.forwarded == position


def test_a_silent_cut_leaves_the_servers_side_open(recorder: Recorder) -> None:
    with CuttingProxy(recorder.address, [500], Kind.SILENT) as proxy:
        send_until_cut(proxy, [HEAD + BODY])

        until(lambda: [len(each) for each in recorder.received] == [len(HEAD) + 500], "the server has all bytes")
        assert recorder.ends == ["open"]
    until(lambda: recorder.ends == ["ended"], "the end of the proxy ends it")


def test_bytes_that_come_one_by_one_are_cut_at_the_same_place(recorder: Recorder) -> None:
    with CuttingProxy(recorder.address, [5]) as proxy:
        send_until_cut(proxy, [*one_by_one(HEAD + BODY[:5]), BODY[5:]])

        until(lambda: recorder.ends == ["ended"], "the server sees the cut")
    assert bytes(recorder.received[0]) == HEAD + BODY[:5]


def test_bytes_are_counted_over_requests_and_connections_and_what_comes_later_goes_through(recorder: Recorder) -> None:
    with CuttingProxy(recorder.address, [1300, 1500]) as proxy:
        send_until_cut(proxy, [HEAD + BODY, HEAD + BODY])
        send_until_cut(proxy, [HEAD + BODY])
        with Connection(proxy.address) as connection:
            connection.send(HEAD + BODY[:-4] + b"done")
            answer = connection.read_head()

        until(lambda: "open" not in recorder.ends, "all connections end")
    assert [bytes(data) for data in recorder.received] == [
        HEAD + BODY + HEAD + BODY[:300],
        HEAD + BODY[:200],
        HEAD + BODY[:-4] + b"done",
    ]
    assert answer.status == 204
    assert (proxy.forwarded, list(proxy.pending)) == (2500, [])


def test_the_answer_to_a_request_that_is_cut_behind_its_last_byte_never_arrives(recorder: Recorder) -> None:
    with CuttingProxy(recorder.address, [1000]) as proxy:
        send_until_cut(proxy, [HEAD + BODY[:-4] + b"done"])

        until(lambda: recorder.ends == ["ended"], "the server sees the cut")
    assert bytes(recorder.received[0]) == HEAD + BODY[:-4] + b"done"


def test_of_chunked_coding_only_the_data_is_counted(recorder: Recorder) -> None:
    stream = CHUNKED_HEAD + b"3;name=value\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"

    with CuttingProxy(recorder.address, [5]) as proxy:
        send_until_cut(proxy, [stream])

        until(lambda: recorder.ends == ["ended"], "the server sees the cut")
    assert bytes(recorder.received[0]) == CHUNKED_HEAD + b"3;name=value\r\nabc\r\n4\r\nde"


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_bodies_are_told_from_heads_and_chunked_coding_however_the_stream_is_cut_up(step: int) -> None:
    chunked = CHUNKED_HEAD + b"a\r\n0123456789\r\nA;x=y\r\nabcdefghij\r\n0\r\nTrailer: x\r\n\r\n"
    empty = head_of("GET", "/", [("X-Body", "none")])
    stream = b"".join((empty, HEAD, BODY, chunked, empty, HEAD, BODY))
    bodies = Bodies()

    pieces = [piece for at in range(0, len(stream), step) for piece in bodies.split(stream[at : at + step])]

    assert b"".join(piece for piece, _ in pieces) == stream
    assert b"".join(piece for piece, is_body in pieces if is_body) == BODY + b"0123456789abcdefghij" + BODY
