"""Cross-origin access: web clients read every answer, refusals too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import Connection, get, put, request
from tests.support.server import Server, tree

ORIGIN = ("Origin", "https://chat.example.org")
REQUEST_HEADERS = (
    "Authorization, Content-Type, Content-Range, Range, If-Match, If-None-Match, If-Range, X-Session-Token, "
    "X-Checksum, Content-MD5, Digest, Content-Digest, Repr-Digest, Tus-Resumable, Upload-Length, Upload-Metadata, "
    "Upload-Offset, Upload-Checksum, Upload-Complete, Upload-Draft-Interop-Version, X-HTTP-Method-Override"
)
EXPOSED_HEADERS = (
    "Content-Length, Content-Range, Content-Disposition, ETag, Location, Repr-Digest, Retry-After, X-Session-Token, "
    "X-Error-Code, Upload-Offset, Upload-Length, Upload-Expires, Upload-Limit, Upload-Complete, Tus-Resumable, "
    "Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm"
)


@pytest.fixture(scope="module")
def choosy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    origins = ["https://chat.example.org", "https://other.example.org:8443"]
    with Server(tmp_path_factory.mktemp("choosy"), CORSOrigins=origins) as running:
        yield running


def names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",")}


def test_a_preflight_needs_no_signature_and_touches_no_disk(server: Server) -> None:
    before = tree(server.store_dir)

    answer = request(
        server,
        "OPTIONS",
        "/upload/a/b.txt",
        [ORIGIN, ("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "content-type")],
    )

    assert (answer.status, answer.body) == (204, b"")
    assert names(answer["Allow"]) == {"get", "head", "options", "post", "put"}
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert names(answer["Access-Control-Allow-Methods"]) >= {"get", "head", "put"}
    assert names(answer["Access-Control-Allow-Headers"]) == names(REQUEST_HEADERS)
    assert answer["Access-Control-Max-Age"] == "7200"
    assert tree(server.store_dir) == before


@pytest.mark.parametrize("target", ["/upload/x?v=1", "/upload/", "/upload", "/", "*"])
def test_options_is_204_everywhere(server: Server, target: str) -> None:
    assert request(server, "OPTIONS", target).status == 204


def test_every_answer_carries_the_headers_errors_too(server: Server) -> None:
    answers = {
        201: put(server, "cors/file", b"body", headers=[ORIGIN]),
        200: get(server, "cors/file", [ORIGIN]),
        206: get(server, "cors/file", [ORIGIN, ("Range", "bytes=0-1")]),
        304: get(server, "cors/file", [ORIGIN, ("If-None-Match", "*")]),
        400: get(server, "cors//file", [ORIGIN]),
        403: request(server, "PUT", "/upload/cors/x", [ORIGIN, ("Content-Length", "0")]),
        404: get(server, "cors/absent", [ORIGIN]),
        405: request(server, "POST", "/upload/cors/x", [ORIGIN, ("Content-Length", "0")]),
        409: put(server, "cors/file", b"body", headers=[ORIGIN]),
        411: request(server, "PUT", "/upload/cors/x", [ORIGIN]),
        412: get(server, "cors/file", [ORIGIN, ("If-Match", '"x"')]),
        416: get(server, "cors/file", [ORIGIN, ("Range", "bytes=9-")]),
    }

    for status, answer in answers.items():
        assert answer.status == status
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert names(answer["Access-Control-Expose-Headers"]) == names(EXPOSED_HEADERS)
        assert answer.get("Access-Control-Allow-Credentials") is None


def test_one_of_cors_origins_is_echoed_and_the_answer_varies(choosy: Server) -> None:
    for origin in ("https://chat.example.org", "https://other.example.org:8443"):
        for answer in (
            request(choosy, "OPTIONS", "/upload/x", [("Origin", origin)]),
            get(choosy, "absent", [("Origin", origin)]),
        ):
            assert answer["Access-Control-Allow-Origin"] == origin
            assert "origin" in names(answer["Vary"])


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "*", "http://chat.example.org", "https://chat.example.org.evil.example", ""],
)
def test_an_origin_that_is_not_among_cors_origins_gets_nothing_and_the_answer_still_varies(
    choosy: Server, origin: str
) -> None:
    answer = get(choosy, "absent", [("Origin", origin)])

    assert answer.get("Access-Control-Allow-Origin") is None
    assert "origin" in names(answer["Vary"])


def test_without_an_origin_the_answer_varies_where_origins_are_listed(choosy: Server) -> None:
    answer = get(choosy, "absent")

    assert answer.get("Access-Control-Allow-Origin") is None
    assert "origin" in names(answer["Vary"])


def test_an_answer_to_a_broken_head_follows_the_origins_too(tmp_path: Path) -> None:
    with Server(tmp_path, CORSOrigins=["https://a.example"]) as server, Connection(server.address) as connection:
        connection.send(b"GET /x y HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n")
        answer = connection.read_answer()

    assert answer.status == 400
    assert answer.get("Access-Control-Allow-Origin") is None
    assert answer["Vary"] == "Origin"
