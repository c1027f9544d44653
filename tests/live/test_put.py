"""PUT: what arrives is stored whole, once, or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import MIB, Answer, Connection, get, head_of, put, put_head, request, sign_v2, url_of
from tests.support.polling import until
from tests.support.server import Server, ServerOf, tree
from tests.support.vectors import put_vectors, title

NAMES = [
    "plain.txt",
    "with some spaces.txt",
    "Grüße aus Köln.jpg",
    "💥🎉.bin",
    "a+b=c&d;e,f.txt",
    "percent%41%2Fsign.txt",
    "quote\"'<>|*?#.txt",
    ".hidden",
    "trailing.",
    "café-cafe\u0301.txt",
    "\u202egnp.exe",
    "\u2028line",
]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("two"), NumCores=2) as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("small"), UploadMaxSize=100_000) as running:
        yield running


@pytest.mark.parametrize("size", [0, 1, 4096, 5 * MIB + 1])
def test_a_file_comes_back_byte_for_byte(server: Server, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]

    created = put(server, f"sizes/{size}.bin", body)

    assert (created.status, created.body) == (201, b"")
    fetched = get(server, f"sizes/{size}.bin")
    assert fetched.status == 200
    assert fetched.body == body


def test_200_mib_come_back_byte_for_byte(server: Server) -> None:
    size = 200 * MIB
    rest = bytes(range(256)) * 4096
    sent, received = hashlib.sha256(), hashlib.sha256()

    with Connection(server.address) as connection:
        connection.send(put_head(server, "sizes/large", size))
        for number in range(200):
            block = number.to_bytes(8, "big") + rest[8:]
            sent.update(block)
            connection.send(block)
        created = connection.read_answer()
    with Connection(server.address) as connection:
        connection.send(head_of("GET", url_of(server, "sizes/large")))
        fetched = connection.read_head()
        for data in connection.blocks(int(fetched["Content-Length"])):
            received.update(data)
        trailing = connection.read_to_end()
    (server.store_dir / "sizes" / "large").unlink()

    assert created.status == 201
    assert (fetched.status, fetched["Content-Length"]) == (200, str(size))
    assert received.digest() == sent.digest()
    assert trailing == b""


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_stored_under_its_own_bytes_and_fetched_again(server: Server, name: str) -> None:
    body = name.encode()

    created = put(server, f"names/{name}", body)

    assert created.status == 201
    assert (server.store_dir / "names" / name).read_bytes() == body
    assert get(server, f"names/{name}").body == body


@pytest.mark.parametrize("protocol", ["v", "v2", "token"])
def test_every_protocol_uploads(server: Server, protocol: str) -> None:
    assert put(server, f"protocols/{protocol}", b"body", "text/plain", protocol=protocol).status == 201


@pytest.mark.parametrize("vector", put_vectors(), ids=title)
def test_a_vector_made_elsewhere_is_accepted(server_with_secret: ServerOf, vector: dict[str, Any]) -> None:
    server = server_with_secret(vector["secret"])
    target = f"{url_of(server, vector['path'])}?{vector['protocol']}={vector['hex']}"
    typed = [("Content-Type", vector["type"])] if "type" in vector else []
    body = bytes(vector["size"])

    created = request(server, "PUT", target, [("Content-Length", str(len(body))), *typed], body)

    stored = server.store_dir / vector["path"]
    assert created.status == 201
    assert stored.read_bytes() == body
    stored.unlink()  # another vector may sign the same path


def test_a_mac_may_be_upper_case(server: Server) -> None:
    mac = sign_v2(server.secret, b"upper/case", 0, "text/plain").upper()
    headers = [("Content-Length", "0"), ("Content-Type", "text/plain")]

    assert request(server, "PUT", f"/upload/upper/case?v2={mac}", headers).status == 201


@pytest.mark.parametrize("segments", [1, 2, 3, 8])
def test_a_path_may_have_one_to_eight_segments(server: Server, segments: int) -> None:
    path = "/".join(f"depth{segments}-{number}" for number in range(segments))

    assert put(server, path, b"x").status == 201
    assert get(server, path).body == b"x"


def test_location_is_path_absolute_and_can_be_fetched(server: Server) -> None:
    created = put(server, "location/ä b+c%41.txt", b"here")

    location = created["Location"]
    assert location.startswith("/upload/location/")
    assert request(server, "GET", location).body == b"here"


def test_the_etag_of_201_is_the_strong_etag_of_get(server: Server) -> None:
    etag = put(server, "etag/file", b"body")["ETag"]

    assert etag.startswith('"')
    assert etag.endswith('"')
    assert get(server, "etag/file")["ETag"] == etag


def test_a_missing_and_an_empty_content_type_are_judged_as_octet_stream(server: Server) -> None:
    mac = sign_v2(server.secret, b"types/empty", 1, "application/octet-stream")
    empty = [("Content-Length", "1"), ("Content-Type", "")]

    assert put(server, "types/missing", b"x").status == 201
    assert request(server, "PUT", f"/upload/types/empty?v2={mac}", empty, b"x").status == 201
    assert get(server, "types/missing")["Content-Type"] == "application/octet-stream"
    assert get(server, "types/empty")["Content-Type"] == "application/octet-stream"


def test_an_existing_file_is_never_replaced(server: Server) -> None:
    put(server, "once/file", b"first")

    second = put(server, "once/file", b"second")

    assert (second.status, second.code) == (409, "file-exists")
    assert get(server, "once/file").body == b"first"


def test_a_body_that_ends_in_the_middle_leaves_nothing_and_the_retry_works(server: Server) -> None:
    body = bytes(3 * MIB)
    before = tree(server.store_dir)

    with Connection(server.address) as connection:
        connection.send(put_head(server, "short/body", len(body)))
        connection.send(body[: 2 * MIB])
        connection.half_close()
        refused = connection.read_answer()

    assert (refused.status, refused.code) == (400, "body-truncated")
    assert tree(server.store_dir) == before
    until(lambda: not server.open_store_files(), "the unfinished file is closed")
    assert put(server, "short/body", body).status == 201
    assert get(server, "short/body").body == body


def test_a_connection_cut_in_the_middle_of_a_body_leaves_nothing(server: Server) -> None:
    before = tree(server.store_dir)

    with Connection(server.address) as connection:
        connection.send(put_head(server, "cut/body", 3 * MIB))
        connection.send(bytes(2 * MIB))
        until(server.open_store_files, "the body is being collected")

    until(lambda: not server.open_store_files(), "the unfinished file is closed")
    assert tree(server.store_dir) == before
    assert get(server, "cut/body").status == 404


def test_nothing_is_visible_before_the_last_byte(server: Server) -> None:
    with Connection(server.address) as connection:
        connection.send(put_head(server, "half/body", 2 * MIB))
        connection.send(bytes(MIB))
        until(server.open_store_files, "the body is being collected")
        early = get(server, "half/body")
        connection.send(bytes(MIB))
        created = connection.read_answer()

    assert early.status == 404
    assert created.status == 201
    assert get(server, "half/body").status == 200


def test_a_body_sent_byte_by_byte_is_stored_whole(server: Server) -> None:
    with Connection(server.address) as connection:
        for byte in put_head(server, "slow/body", 5) + b"12345":
            connection.send(bytes((byte,)))
        created = connection.read_answer()

    assert created.status == 201
    assert get(server, "slow/body").body == b"12345"


def test_a_client_that_waits_for_100_continue_is_asked_to_go_on(server: Server) -> None:
    with Connection(server.address) as connection:
        connection.send(put_head(server, "expect/file", 5, headers=[("Expect", "100-continue")]))
        interim = connection.read_head()
        connection.send(b"hello")
        created = connection.read_answer()

    assert interim.status == 100
    assert created.status == 201
    assert get(server, "expect/file").body == b"hello"


def test_bytes_behind_the_declared_length_are_no_part_of_the_file(server: Server) -> None:
    with Connection(server.address) as connection:
        connection.send(put_head(server, "longer/body", 5) + b"helloGET /junk")
        created = connection.read_answer()

    assert created.status == 201
    assert get(server, "longer/body").body == b"hello"


def test_one_connection_takes_several_uploads_and_downloads(server: Server) -> None:
    keep = [("Connection", "keep-alive")]

    with Connection(server.address) as connection:
        answers = []
        for number in range(3):
            connection.send(put_head(server, f"keep/{number}", 3, headers=keep) + b"abc")
            answers.append(connection.read_answer().status)
            connection.send(head_of("GET", url_of(server, f"keep/{number}"), keep))
            answers.append(connection.read_answer().status)

    assert answers == [201, 200] * 3


def test_a_file_of_exactly_upload_max_size_is_accepted_and_one_byte_more_refused(small: Server) -> None:
    before = tree(small.store_dir)

    refused = request_head_only(small, put_head(small, "more", 100_001))

    assert (refused.status, refused.code) == (413, "too-large")
    assert tree(small.store_dir) == before
    assert put(small, "most", bytes(100_000)).status == 201


def test_of_two_racing_uploads_one_wins_with_its_own_bytes(two_workers: Server) -> None:
    for number in range(60):
        path = f"race-{number}/file"
        bodies = [b"A" * 70_000, b"B" * 70_000]

        answers = race(two_workers, [(path, bodies[0]), (path, bodies[1])])

        assert sorted(answer.status for answer in answers) == [201, 409]
        winner = 0 if answers[0].status == 201 else 1
        assert answers[1 - winner].code == "file-exists"
        assert get(two_workers, path).body == bodies[winner]
        assert get(two_workers, path)["ETag"] == answers[winner]["ETag"]


def test_of_a_file_and_a_folder_racing_for_one_name_one_wins(two_workers: Server) -> None:
    for number in range(30):
        answers = race(two_workers, [(f"conflict-{number}", b"file"), (f"conflict-{number}/below", b"below")])

        assert sorted(answer.status for answer in answers) == [201, 409]
        assert [answer.code for answer in answers if answer.status == 409] in (["path-conflict"], ["file-exists"])


def test_file_mode_and_dir_mode_are_those_of_published_files_and_folders(tmp_path: Path) -> None:
    with Server(tmp_path, FileMode="0644", DirMode="0755") as server:
        put(server, "folder/file", b"x")

        found = {Path(path).name: kind for path, (kind, _, _) in tree(server.store_dir).items()}

    assert found["folder"] == "drwxr-xr-x"
    assert found["file"] == "-rw-r--r--"


def test_content_type_from_extension_tries_the_type_of_the_extension(tmp_path: Path) -> None:
    with Server(tmp_path, ContentTypeFromExtension=True) as server:
        bare = sign_v2(server.secret, b"a/b.txt", 1, "text/plain")
        go = sign_v2(server.secret, b"a/c.txt", 1, "text/plain; charset=utf-8")
        headers = [("Content-Length", "1"), ("Content-Type", "application/x-other")]

        answers = [
            request(server, "PUT", f"/upload/a/b.txt?v2={bare}", headers, b"x").status,
            request(server, "PUT", f"/upload/a/c.txt?v2={go}", headers, b"x").status,
            put(server, "a/d.txt", b"x", "application/x-other").status,
        ]
        types = [get(server, f"a/{name}.txt")["Content-Type"] for name in "bcd"]

    assert answers == [201, 201, 201]
    assert types == ["text/plain", "text/plain; charset=utf-8", "application/x-other"]


@pytest.mark.parametrize(("configured", "prefix"), [("", "/"), ("/", "/"), ("/a/b/", "/a/b/"), ("up/", "/up/")])
def test_upload_sub_dir_is_the_url_prefix_normalised_and_no_folder(
    tmp_path: Path, configured: str, prefix: str
) -> None:
    with Server(tmp_path, UploadSubDir=configured) as server:
        created = put(server, "x/file", b"body")

        assert created.status == 201
        assert created["Location"] == f"{prefix}x/file"
        assert (server.store_dir / "x" / "file").read_bytes() == b"body"
        assert request(server, "GET", f"{prefix}x/file").body == b"body"


def request_head_only(server: Server, head: bytes) -> Answer:
    """The answer to a head whose body is never sent."""
    with Connection(server.address) as connection:
        connection.send(head)
        return connection.read_answer()


def race(server: Server, uploads: list[tuple[str, bytes]]) -> list[Answer]:
    """Upload all at once: everyone's last byte goes out at the same moment."""
    start = threading.Barrier(len(uploads), timeout=20)

    def upload(path: str, body: bytes) -> Answer:
        with Connection(server.address) as connection:
            connection.send(put_head(server, path, len(body)) + body[:-1])
            start.wait()
            connection.send(body[-1:])
            return connection.read_answer()

    with ThreadPoolExecutor(len(uploads)) as pool:
        return list(pool.map(lambda each: upload(*each), uploads))
