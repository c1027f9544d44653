"""Time limits: silence, slowness and the pace of a transfer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.http import MIB, Connection, get, head_of, put, put_head, url_of
from tests.support.polling import until
from tests.support.proxy import Proxy, Way
from tests.support.running import send_for_ever
from tests.support.server import Server, tree

KEEP = [("Connection", "keep-alive")]
RATE = MIB
HEAD_START = 0.25
"""Seconds' worth of bytes that an upload has free: its pieces are that long, and nobody pauses after the last."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Every limit is a second."""
    with Server(tmp_path_factory.mktemp("hasty"), ReadTimeout=1, WriteTimeout=1, HeadTimeout="1s") as running:
        yield running


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("paced"), MaxBytesPerSecond=RATE) as running:
        yield running


@pytest.mark.parametrize(("size", "sent"), [(5, 0), (5, 4), (3 * MIB, 0), (3 * MIB, 2 * MIB), (3 * MIB, 3 * MIB - 1)])
def test_a_body_that_is_silent_for_read_timeout_is_408_and_leaves_nothing(hasty: Server, size: int, sent: int) -> None:
    before = tree(hasty.store_dir)
    with Connection(hasty.address) as connection:
        connection.send(put_head(hasty, "silent/body", size, headers=KEEP) + bytes(sent))
        started = time.monotonic()

        answer = connection.read_answer()
        rest = connection.read_to_end()

        assert 0.9 < time.monotonic() - started < 4
        assert (answer.status, answer.code) == (408, "body-timeout")
        assert answer["Connection"] == "close"
        assert rest == b""
    assert tree(hasty.store_dir) == before
    until(lambda: not hasty.open_store_files(), "the unfinished file is closed")
    assert put(hasty, "silent/body", b"").status == 201
    (hasty.store_dir / "silent" / "body").unlink()
    (hasty.store_dir / "silent").rmdir()


def test_a_client_that_falls_silent_after_100_continue_is_408(hasty: Server) -> None:
    with Connection(hasty.address) as connection:
        connection.send(put_head(hasty, "silent/continued", 5, headers=[("Expect", "100-continue")]))
        interim = connection.read_head()
        answer = connection.read_answer()

    assert (interim.status, answer.status, answer.code) == (100, 408, "body-timeout")


def test_a_body_in_pieces_with_pauses_within_the_limit_is_accepted(hasty: Server) -> None:
    size = 300_000
    content = b"x" * size
    with Connection(hasty.address) as connection:
        connection.send(put_head(hasty, "pauses/file", size))
        for number in range(6):
            connection.send(content[number * size // 6 : (number + 1) * size // 6])
            time.sleep(0.3)  # 1.8 seconds in all, longer than the limit for silence
        answer = connection.read_answer()

    assert answer.status == 201
    assert get(hasty, "pauses/file").body == content


def test_a_trickling_body_is_stored_whole(hasty: Server) -> None:
    content = bytes(range(256)) * 1200
    with Proxy(hasty.address, up=Way(rate=150_000)) as proxy, Connection(proxy.address) as connection:
        connection.send(put_head(hasty, "trickle/file", len(content)) + content)
        answer = connection.read_answer()

    assert answer.status == 201
    assert get(hasty, "trickle/file").body == content


@pytest.mark.parametrize("cut_after", [1000, 2 * MIB])
def test_an_upload_that_the_network_resets_leaves_nothing(hasty: Server, cut_after: int) -> None:
    before = tree(hasty.store_dir)
    with Proxy(hasty.address, up=Way(cut_after=cut_after)) as proxy, Connection(proxy.address) as connection:
        connection.send_all_or_until_refused(put_head(hasty, "reset/file", 3 * MIB), bytes(3 * MIB))
        with pytest.raises((EOFError, ConnectionResetError)):
            connection.read_answer()

    until(lambda: hasty.lines("PUT reset/file"), "the request has ended")
    until(lambda: not hasty.open_store_files(), "the unfinished file is closed")
    assert tree(hasty.store_dir) == before
    assert "Traceback" not in hasty.output()


def until_closed(connection: Connection) -> float:
    """Seconds until the server ends the connection; it may answer before."""
    started = time.monotonic()
    try:
        connection.read_to_end()
    except ConnectionResetError:
        pass
    return time.monotonic() - started


@pytest.mark.parametrize("partial", [b"", b"G", b"PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Le"])
def test_a_head_that_does_not_end_within_head_timeout_is_closed(hasty: Server, partial: bytes) -> None:
    with Connection(hasty.address) as connection:
        connection.send(partial)

        assert 0.9 < until_closed(connection) < 4


def test_a_second_head_that_does_not_end_is_closed(hasty: Server) -> None:
    with Connection(hasty.address) as connection:
        connection.send(head_of("OPTIONS", "/upload/", KEEP))
        connection.read_answer()
        connection.send(b"GET /upload/x HT")

        assert 0.9 < until_closed(connection) < 4


def test_a_head_that_trickles_is_closed_however_often_it_moves(hasty: Server) -> None:
    head = head_of("GET", "/upload/x", [("X-Filling", "x" * 500)])
    with Connection(hasty.address) as connection:
        started = time.monotonic()

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(connection, (bytes((byte,)) for byte in head), 20, pause=0.05)

        assert 0.9 < time.monotonic() - started < 5


def test_an_idle_connection_is_not_held_to_the_time_for_a_head(hasty: Server) -> None:
    with Connection(hasty.address) as connection:
        connection.send(head_of("OPTIONS", "/upload/", KEEP))
        connection.read_answer()
        connection.sock.settimeout(3)

        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        connection.send(head_of("GET", "/upload/absent", KEEP))

        assert connection.read_answer().status == 404


def test_a_receiver_that_reads_nothing_for_write_timeout_is_cut_off(hasty: Server) -> None:
    size = 64 * MIB
    assert put(hasty, "unread/file", bytes(size)).status == 201
    with Connection(hasty.address) as connection:
        connection.send(head_of("GET", url_of(hasty, "unread/file")))
        connection.read_head()
        assert hasty.open_store_files()

        until(lambda: not hasty.open_store_files(), "the file is closed", 6)

        (line,) = until(lambda: hasty.lines("GET unread/file"), "the request is logged")
        assert 0 < int(line.partition("sent=")[2].split()[0]) < size


def test_a_receiver_that_reads_slowly_but_steadily_is_not_cut_off(hasty: Server) -> None:
    content = bytes(range(256)) * 4096
    put(hasty, "slow/receiver", content)
    with Proxy(hasty.address, down=Way(rate=400_000)) as proxy, Connection(proxy.address) as connection:
        connection.send(head_of("GET", url_of(hasty, "slow/receiver")))
        answer = connection.read_answer()

    assert answer.body == content


def seconds_of(server: Server, path: str, size: int) -> float:
    started = time.monotonic()
    assert put(server, path, bytes(size)).status == 201
    return time.monotonic() - started


def test_max_bytes_per_second_is_the_rate_of_an_upload(paced: Server) -> None:
    seconds = seconds_of(paced, "rate/one", 4 * RATE)

    assert 4 * 0.95 - HEAD_START <= seconds <= 4 * 1.05 + 0.3


def test_two_uploads_have_max_bytes_per_second_each(paced: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: seconds_of(paced, f"rate/{name}", 3 * RATE), ("two", "three"))

    assert abs(first - second) <= 0.05 * 3
    assert 3 * 0.95 - HEAD_START <= max(first, second) <= 3 * 1.05 + 0.3


def test_a_download_is_not_held_to_the_rate_of_uploads(paced: Server) -> None:
    (paced.store_dir / "foreign").write_bytes(bytes(20 * RATE))
    started = time.monotonic()

    assert get(paced, "foreign").status == 200

    assert time.monotonic() - started < 5


def test_a_body_below_min_bytes_per_second_is_cut_off_at_the_end_of_the_window(tmp_path: Path) -> None:
    window = {"hmacfs.core.throttle:WINDOW_SECONDS": 2.0}  # 30 in earnest
    with (
        Server(tmp_path, constants=window, MinBytesPerSecond=10_000) as server,
        Connection(server.address) as connection,
    ):
        connection.send(put_head(server, "least/slow", MIB))
        connection.sock.settimeout(0.2)
        started = time.monotonic()
        data = b""
        while not data and time.monotonic() - started < 15:
            connection.send(bytes(1000))  # never silent, yet 5,000 a second at most
            try:
                data = connection.sock.recv(65536)
            except TimeoutError:
                pass

        assert 1.8 < time.monotonic() - started < 5
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nX-Error-Code: body-timeout\r\n" in data
        assert not (server.store_dir / "least").exists()


def test_a_body_above_min_bytes_per_second_is_accepted(tmp_path: Path) -> None:
    window = {"hmacfs.core.throttle:WINDOW_SECONDS": 1.0}
    content = bytes(1_500_000)
    with (
        Server(tmp_path, constants=window, MinBytesPerSecond=200_000) as server,
        Proxy(server.address, up=Way(rate=600_000)) as proxy,
        Connection(proxy.address) as connection,
    ):
        connection.send(put_head(server, "least/enough", len(content)) + content)

        assert connection.read_answer().status == 201
