"""Downloads: bytes by sendfile, ranges, files that change meanwhile, kept connections, and a proxy that sends."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import MIB, Answer, Connection, get, head_of, put, put_head, request, url_of
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.proxy import Proxy, Way
from tests.support.server import Server

KEEP = [("Connection", "keep-alive")]
LARGE = "large/file.bin"
SIZE = 100 * MIB
SMALL = 64 * 1024


def pattern(first: int, last: int) -> bytes:
    """Bytes ``first`` to ``last`` of the large file: a counter in every 8 bytes, so that every place is told apart."""
    from_, to = first // 8, last // 8 + 1
    block = b"".join(number.to_bytes(8, "big") for number in range(from_, to))
    return block[first - from_ * 8 :][: last - first + 1]


@pytest.fixture(scope="module")
def stored(server: Server) -> Server:
    """The server with the large file."""
    path = server.store_dir / LARGE
    path.parent.mkdir()
    with open(path, "wb") as opened:
        for start in range(0, SIZE, MIB):
            opened.write(pattern(start, start + MIB - 1))
    return server


def idle(server: Server) -> None:
    until(lambda: not server.open_store_files(), "no file is held open")


def test_100_mib_come_whole(stored: Server) -> None:
    digest = hashlib.sha256()
    with Connection(stored.address) as connection:
        connection.send(head_of("GET", url_of(stored, LARGE)))
        answer = connection.read_head()
        for block in connection.blocks(int(answer["Content-Length"])):
            digest.update(block)
        rest = connection.read_to_end()

    with open(stored.store_dir / LARGE, "rb") as opened:
        assert digest.digest() == hashlib.file_digest(opened, "sha256").digest()
    assert (answer.status, answer["Content-Length"], rest) == (200, str(SIZE), b"")
    idle(stored)


def test_head_of_a_large_file_tells_its_length_and_holds_nothing(stored: Server) -> None:
    with Connection(stored.address) as connection:
        for _ in range(3):
            connection.send(head_of("HEAD", url_of(stored, LARGE), KEEP))
            answer = connection.read_answer(bodiless=True)
            assert (answer.status, answer["Content-Length"]) == (200, str(SIZE))
        idle(stored)


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-999999", 0, 999_999),
        (f"bytes={SIZE // 2 + 3}-{SIZE // 2 + 3 * MIB}", SIZE // 2 + 3, SIZE // 2 + 3 * MIB),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-5000001", SIZE - 5_000_001, SIZE - 1),
        (f"bytes={SIZE - 70_000}-", SIZE - 70_000, SIZE - 1),
        (f"bytes={MIB}-{MIB}", MIB, MIB),
    ],
)
def test_a_range_of_a_large_file_is_exactly_that(stored: Server, value: str, first: int, last: int) -> None:
    answer = get(stored, LARGE, [("Range", value)])

    assert answer.status == 206
    assert answer["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.body == pattern(first, last)


def receive_into(got: bytearray, connection: Connection) -> None:
    for block in connection.blocks(SIZE):
        got += block


def test_a_broken_download_is_resumed_where_it_broke(stored: Server) -> None:
    with Proxy(stored.address, down=Way(cut_after=10 * MIB + 12345)) as proxy, Connection(proxy.address) as connection:
        connection.send(head_of("GET", url_of(stored, LARGE)))
        etag = connection.read_head()["ETag"]
        got = bytearray()
        with pytest.raises((EOFError, ConnectionResetError)):
            receive_into(got, connection)
    idle(stored)

    rest = get(stored, LARGE, [("Range", f"bytes={len(got)}-"), ("If-Range", etag)])

    assert 0 < len(got) < SIZE
    assert rest.status == 206
    assert bytes(got) + rest.body == (stored.store_dir / LARGE).read_bytes()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_receiver_that_goes_away_in_the_middle_leaves_the_file_closed(stored: Server, how: str) -> None:
    proxy = Proxy(stored.address, down=Way(cut_after=MIB))
    with proxy, Connection(proxy.address if how == "reset" else stored.address) as connection:
        connection.send(head_of("GET", url_of(stored, LARGE)))
        connection.read_head()
        if how == "half-close":  # says only that no further request follows: the answer still comes whole
            connection.half_close()
            assert sum(map(len, connection.blocks(SIZE))) == SIZE
        elif how == "reset":
            with pytest.raises((EOFError, ConnectionResetError)):
                list(connection.blocks(SIZE))

    idle(stored)
    assert "Traceback" not in stored.output()


def begin_download(server: Server, connection: Connection, path: str, size: int) -> Answer:
    """Ask, and read the head; far too much is left for the kernel to hold it all."""
    (server.store_dir / path).write_bytes(bytes(range(256)) * (size // 256))
    connection.send(head_of("GET", url_of(server, path), KEEP))
    answer = connection.read_head()
    assert answer["Content-Length"] == str(size)
    return answer


def test_a_file_that_is_deleted_during_its_download_arrives_whole(server: Server) -> None:
    size = 32 * MIB
    with Connection(server.address) as connection:
        begin_download(server, connection, "deleted", size)

        (server.store_dir / "deleted").unlink()

        assert b"".join(connection.blocks(size)) == bytes(range(256)) * (size // 256)
    assert get(server, "deleted").status == 404


def test_a_file_that_is_replaced_during_its_download_arrives_as_it_was(server: Server) -> None:
    size = 32 * MIB
    with Connection(server.address) as connection:
        begin_download(server, connection, "replaced", size)

        (server.store_dir / "new").write_bytes(b"new")
        (server.store_dir / "new").rename(server.store_dir / "replaced")

        assert b"".join(connection.blocks(size)) == bytes(range(256)) * (size // 256)
    assert get(server, "replaced").body == b"new"


def test_a_file_that_is_cut_during_its_download_ends_the_connection_early(server: Server) -> None:
    size = 32 * MIB
    with Connection(server.address) as connection:
        begin_download(server, connection, "cut", size)
        os.truncate(server.store_dir / "cut", 20 * MIB)
        connection.sock.settimeout(5)  # long before an idle connection would end

        received = len(connection.read_to_end())

    assert received <= 20 * MIB
    idle(server)
    assert get(server, "cut").status == 200


def test_one_connection_takes_many_downloads_of_every_size(server: Server) -> None:
    sizes = [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * MIB + 7]
    for size in sizes:
        (server.store_dir / f"many-{size}").write_bytes(pattern(0, size)[:size])
    with Connection(server.address) as connection:
        for size in sizes + sizes[::-1]:
            connection.send(head_of("GET", url_of(server, f"many-{size}"), KEEP))
            answer = connection.read_answer()
            assert (answer.status, answer["Connection"]) == (200, "keep-alive")
            assert answer.body == pattern(0, size)[:size]
            connection.send(head_of("HEAD", url_of(server, f"many-{size}"), KEEP))
            assert connection.read_answer(bodiless=True)["Content-Length"] == str(size)


def test_pipelined_downloads_are_answered_in_order(server: Server) -> None:
    sizes = [2 * MIB, 10, SMALL + 1, 0, 5 * MIB]
    for size in sizes:
        (server.store_dir / f"pipe-{size}").write_bytes(pattern(0, size)[:size])
    with Connection(server.address) as connection:
        connection.send(b"".join(head_of("GET", url_of(server, f"pipe-{size}"), KEEP) for size in sizes))

        assert [len(connection.read_answer().body) for _ in sizes] == sizes


@pytest.mark.parametrize("size", [0, 5, SMALL + 1, 2 * MIB])
def test_a_download_behind_an_upload_on_one_connection_is_answered_after_it(server: Server, size: int) -> None:
    content = pattern(0, size)[:size]
    fetch = head_of("GET", url_of(server, f"behind/{size}"))
    with Connection(server.address) as connection:
        connection.send(put_head(server, f"behind/{size}", size, headers=KEEP) + content + fetch)

        assert connection.read_answer().status == 201
        assert connection.read_answer().body == content


def test_pipelined_uploads_are_stored_in_order(server: Server) -> None:
    requests = b"".join(put_head(server, f"row/{n}", 1000, headers=KEEP) + bytes((n,)) * 1000 for n in range(5))
    with Connection(server.address) as connection:
        connection.send(requests)
        statuses = [connection.read_answer().status for _ in range(5)]

    assert statuses == [201] * 5
    assert [get(server, f"row/{n}").body for n in range(5)] == [bytes((n,)) * 1000 for n in range(5)]


# DirectDownloads

NAMES = [
    "plain.bin",
    "with some spaces.bin",
    "Grüße aus Köln.bin",
    "mark=1?question.bin",
    "percent%41sign.bin",
    "percent%2Fslash.bin",
    "a+b.bin",
    "hash#tag.bin",
    "semi;colon,comma.bin",
    "quotes'\"quotes.bin",
    "back\\slash.bin",
    "\N{COLLISION SYMBOL}.bin",
    "colon:at@dollar$.bin",
]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("direct"), DirectDownloads="X-Accel-Redirect:/stored/") as running:
        yield running


@pytest.fixture(scope="module")
def front(direct: Server) -> Iterator[Nginx]:
    with Nginx(direct, internal="/stored/") as proxy:
        yield proxy


@pytest.mark.parametrize("name", NAMES)
def test_nginx_sends_a_file_of_any_name_in_our_place(direct: Server, front: Nginx, name: str) -> None:
    content = os.urandom(SMALL + 100)
    assert put(direct, f"names/{name}", content, "application/x-thing").status == 201

    answer = get(front, f"names/{name}")

    assert answer.status == 200, front.log.read_text(encoding="utf-8")
    assert answer.body == content
    assert answer.get("X-Accel-Redirect") is None
    assert answer["Content-Type"] == "application/x-thing"
    assert answer["Content-Disposition"] == get(direct, f"names/{name}", method="HEAD")["Content-Disposition"]
    until(lambda: not direct.open_store_files(), "we hold no file")


@pytest.fixture(scope="module")
def accel(direct: Server) -> bytes:
    """A file that nginx sends, stored under "accel/file"."""
    content = pattern(0, 5 * MIB - 1)
    assert put(direct, "accel/file", content, "image/png").status == 201
    return content


def test_direct_downloads_leave_the_bytes_to_nginx(direct: Server, accel: bytes) -> None:
    answer = get(direct, "accel/file")

    assert (answer.status, answer.body) == (200, b"")
    assert answer["X-Accel-Redirect"] == "/stored/accel/file"


def test_type_disposition_and_cache_control_stay_ours(direct: Server, front: Nginx, accel: bytes) -> None:
    ours, theirs = get(direct, "accel/file", method="HEAD"), get(front, "accel/file")

    assert theirs.body == accel
    for name in ("Content-Type", "Content-Disposition", "Cache-Control", "Last-Modified"):
        assert theirs.get(name) == ours.get(name)


def test_ranges_work_when_nginx_sends(front: Nginx, accel: bytes) -> None:
    for value, first, last in (("bytes=0-0", 0, 0), ("bytes=1000000-2999999", 1_000_000, 2_999_999)):
        answer = get(front, "accel/file", [("Range", value)])
        assert (answer.status, answer["Content-Range"]) == (206, f"bytes {first}-{last}/{len(accel)}")
        assert answer.body == accel[first : last + 1]
    assert get(front, "accel/file", [("Range", "bytes=-7")]).body == accel[-7:]
    assert get(front, "accel/file", [("Range", f"bytes={len(accel)}-")]).status == 416


def test_a_client_that_has_the_file_gets_304_when_nginx_sends(direct: Server, front: Nginx, accel: bytes) -> None:
    fetched = get(front, "accel/file")

    for etag in (fetched["ETag"], get(front, "accel/file", method="HEAD")["ETag"], "*"):
        assert get(front, "accel/file", [("If-None-Match", etag)]).status == 304
    assert get(front, "accel/file", [("If-None-Match", '"other"')]).status == 200
    assert get(front, "accel/file", [("If-Modified-Since", fetched["Last-Modified"])]).status == 304


def test_a_download_from_nginx_is_resumed_with_the_tag_that_it_gave(front: Nginx, accel: bytes) -> None:
    etag = get(front, "accel/file", [("Range", "bytes=0-9")])["ETag"]

    assert get(front, "accel/file", [("Range", "bytes=10-"), ("If-Range", etag)]).body == accel[10:]
    assert get(front, "accel/file", [("Range", "bytes=10-"), ("If-Range", '"other"')]).body == accel


def test_a_head_request_through_nginx_tells_the_length(front: Nginx, accel: bytes) -> None:
    answer = get(front, "accel/file", method="HEAD")

    assert (answer.status, answer["Content-Length"]) == (200, str(len(accel)))


def test_what_is_not_there_is_404_through_nginx(front: Nginx) -> None:
    assert (get(front, "accel/absent").status, get(front, "accel/absent").code) == (404, "not-found")


def test_nobody_reaches_the_internal_location_from_outside(front: Nginx, accel: bytes) -> None:
    assert raw_status(front, "/stored/accel/file") == 404


def raw_status(front: Nginx, target: str) -> int:
    with Connection(front.address) as connection:
        connection.send(head_of("GET", target))
        return connection.read_head().status


@pytest.mark.parametrize(("size", "offloaded"), [(0, False), (1, False), (SMALL, False), (SMALL + 1, True)])
def test_files_up_to_64_kib_are_sent_by_us(direct: Server, front: Nginx, size: int, offloaded: bool) -> None:
    content = pattern(0, size)[:size]
    assert put(direct, f"threshold/{size}", content).status == 201

    answer = get(direct, f"threshold/{size}")

    assert (answer.get("X-Accel-Redirect") is not None) == offloaded
    assert answer.body == (b"" if offloaded else content)
    assert get(front, f"threshold/{size}").body == content


def test_who_is_no_trusted_proxy_gets_the_bytes_and_no_path(tmp_path: Path) -> None:
    with Server(tmp_path, DirectDownloads="X-Accel-Redirect:/stored/", TrustedProxies=["10.0.0.0/8"]) as server:
        content = bytes(2 * MIB)
        put(server, "strangers/file", content)

        for headers in ([], [("X-Forwarded-For", "10.0.0.1")], [("X-Accel-Redirect", "/stored/x")]):
            answer = get(server, "strangers/file", headers)
            assert answer.body == content
            assert not [name for name, _ in answer.headers if re.search("accel|sendfile", name, re.IGNORECASE)]
        assert request(server, "GET", "/upload/strangers/file", [("Range", "bytes=5-9")]).body == content[5:10]


def test_direct_downloads_by_x_sendfile_name_the_file_in_the_store(tmp_path: Path) -> None:
    with Server(tmp_path, DirectDownloads="X-Sendfile") as server:
        put(server, "sent/file", bytes(SMALL + 1))

        answer = get(server, "sent/file")

        assert answer.body == b""
        assert answer["X-Sendfile"] == str(server.store_dir / "sent" / "file")
