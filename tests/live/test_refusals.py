"""Refusals: which status, in which order, and that nothing is stored."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.http import (
    Answer,
    Connection,
    Headers,
    get,
    head_of,
    mac,
    put,
    put_head,
    query_of,
    request,
    sign_v,
    sign_v2,
    url_of,
)
from tests.support.server import Server, ServerOf, tree
from tests.support.vectors import put_vectors, title

WRONG = "0" * 64
TEXT = "text/plain"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("small"), UploadMaxSize=1000) as running:
        yield running


def put_with(
    server: Server, path: str, query: str, *, size: int = 1, content_type: str = TEXT, headers: Headers = ()
) -> Answer:
    """A PUT of one byte (or of ``size`` bytes that are never sent) with any query."""
    with Connection(server.address) as connection:
        typed = [("Content-Length", str(size)), ("Content-Type", content_type), *headers]
        connection.send(head_of("PUT", f"{url_of(server, path)}?{query}", typed) + b"x" * (size == 1))
        return connection.read_answer()


def changed(vector: dict[str, Any], part: str) -> dict[str, Any]:
    """The vector with one byte of ``part`` changed."""
    if part == "path":
        return vector | {"path": vector["path"][:-1] + ("X" if vector["path"][-1] != "X" else "Y")}
    if part == "size":
        return vector | {"size": vector["size"] + 1}
    if part == "type":
        return vector | {"type": vector["type"][:-1] + chr(ord(vector["type"][-1]) ^ 1)}
    return vector | {"hex": vector["hex"][:-1] + f"{int(vector['hex'][-1], 16) ^ 1:x}"}


CHANGED_VECTORS = [
    pytest.param(changed(vector, part), id=f"{part}-{title(vector)}")
    for vector in put_vectors()
    for part in ("path", "size", "type", "mac")
    if part != "type" or "type" in vector
]


@pytest.mark.parametrize("vector", CHANGED_VECTORS)
def test_a_vector_with_one_byte_changed_is_403_and_stores_nothing(
    server_with_secret: ServerOf, vector: dict[str, Any]
) -> None:
    server = server_with_secret(vector["secret"])
    target = f"{url_of(server, vector['path'])}?{vector['protocol']}={vector['hex']}"
    typed = [("Content-Type", vector["type"])] if "type" in vector else []
    before = tree(server.store_dir)

    refused = request(server, "PUT", target, [("Content-Length", str(vector["size"])), *typed])

    assert (refused.status, refused.code) == (403, "bad-signature")
    assert tree(server.store_dir) == before


@pytest.mark.parametrize(
    "message", [b"free/size", b"free/size ", b"free/size\0", b"/free/size 1", b"upload/free/size 1", b"free/size 1 "]
)
@pytest.mark.parametrize("protocol", ["v", "v2", "token"])
def test_a_mac_over_another_form_of_the_message_is_refused(server: Server, protocol: str, message: bytes) -> None:
    refused = put_with(server, "free/size", f"{protocol}={mac(server.secret, message)}")

    assert (refused.status, refused.code) == (403, "bad-signature")


def test_a_v2_mac_without_the_type_is_refused(server: Server) -> None:
    for message in (b"free/type\x001", b"free/type\x001\0", b"free/type\x001\0application/octet-stream"):
        assert put_with(server, "free/type", f"v2={mac(server.secret, message)}").status == 403


def test_a_v2_mac_in_v_and_the_reverse_are_refused(server: Server) -> None:
    v, v2 = sign_v(server.secret, b"mixed", 1), sign_v2(server.secret, b"mixed", 1, TEXT)

    assert put_with(server, "mixed", f"v={v2}").status == 403
    assert put_with(server, "mixed", f"v2={v}").status == 403
    assert put_with(server, "mixed", f"token={v}").status == 403


def test_missing_malformed_and_wrong_macs_look_the_same(server: Server) -> None:
    queries = [
        "",
        "x=1",
        "v",
        "v=",
        "v2=abc",
        f"v={WRONG}0",
        f"v={WRONG[:-1]}g",
        f"v={WRONG[:-1]}%20",
        f"v2={WRONG[:-1]}%C3%BC",
        f"v={WRONG}",
        f"v2={WRONG}",
        f"token={WRONG}",
    ]

    answers = [put_with(server, "same/face", query) for query in queries]

    faces = {
        (a.status, a.reason, a.body, *(h for h in a.headers if h[0] not in ("Date", "X-Request-ID"))) for a in answers
    }
    assert len(faces) == 1
    assert (answers[0].status, answers[0].code) == (403, "bad-signature")


def test_only_the_highest_protocol_counts(server: Server) -> None:
    v, v2 = sign_v(server.secret, b"highest/a", 1), sign_v2(server.secret, b"highest/a", 1, TEXT)

    for query in (
        f"v2={WRONG}&v={v}",
        f"v={v}&v2={WRONG}",
        f"v={v}&token={WRONG}",
        f"token={v2}&v2={WRONG}",
        f"v={v}&v2=",
    ):
        assert put_with(server, "highest/a", query).status == 403
    assert put_with(server, "highest/a", f"v={WRONG}&token={WRONG}&v2={v2}").status == 201


@pytest.mark.parametrize("extra", [f"v3={WRONG}&expires=1", "v3=", "other=%20", "x=1&x=2", "&&", "="])
def test_parameters_of_disabled_protocols_and_of_others_count_as_absent(server: Server, extra: str) -> None:
    path = f"absent/{mac('name', extra.encode())[:8]}"

    assert put_with(server, path, f"{extra}&{query_of(server, path, 1, TEXT)}").status == 201


def test_bearer_and_basic_count_as_absent_while_they_are_off(server: Server) -> None:
    for number, value in enumerate(("Bearer abc.def.ghi", "Basic dXNlcjpwYXNz")):
        path = f"absent/authorization-{number}"
        headers = [("Authorization", value)]

        assert put_with(server, path, "", headers=headers).status == 403
        assert put_with(server, path, query_of(server, path, 1, TEXT), headers=headers).status == 201


@pytest.mark.parametrize(
    "query",
    [
        "{good}&{good}",
        f"{{good}}&v2={WRONG}",
        f"v={WRONG}&v={WRONG}&{{good}}",
        "{good}&%76%32=x",
        "{good}&token=a&token=b",
        "v2=%zz",
        "v2=%",
        "v2=%4",
        "v2=%ff",
        "%ff=1&{good}",
        "{good}&x=%c3",
        "{good}&x=%g1",
    ],
)
def test_a_repeated_parameter_or_an_undecodable_query_is_400(server: Server, query: str) -> None:
    before = tree(server.store_dir)

    refused = put_with(server, "query/bad", query.format(good=query_of(server, "query/bad", 1, TEXT)))

    assert (refused.status, refused.code) == (400, "bad-query")
    assert tree(server.store_dir) == before


def test_size_and_existence_are_not_told_to_the_unsigned(small: Server) -> None:
    put(small, "known/file", b"x")
    before = tree(small.store_dir)

    assert put_with(small, "known/file", f"v2={WRONG}").status == 403
    assert put_with(small, "known", f"v2={WRONG}").status == 403
    assert put_with(small, "known/file/below", f"v2={WRONG}").status == 403
    assert put_with(small, "unknown/file", f"v2={WRONG}", size=10**12).status == 403
    assert tree(small.store_dir) == before


def test_the_size_is_judged_before_existence_and_without_the_body(small: Server) -> None:
    put(small, "both/file", b"x")

    refused = put_with(small, "both/file", query_of(small, "both/file", 1001, TEXT), size=1001)

    assert (refused.status, refused.code) == (413, "too-large")


def test_the_query_and_headers_are_judged_before_the_signature(server: Server) -> None:
    wrong = f"v2={WRONG}"

    assert put_with(server, "order/a", wrong, headers=[("Content-Range", "bytes 5-0/9")]).code == "bad-content-range"
    assert put_with(server, "order/a", f"{wrong}&{wrong}").code == "bad-query"
    assert request(server, "PUT", f"/upload/order/a?{wrong}").code == "length-required"


def test_a_put_of_unknown_length_is_411(server: Server) -> None:
    query = query_of(server, "length/none", 5)
    chunked = b"5\r\nhello\r\n0\r\n\r\n"
    before = tree(server.store_dir)

    without = request(server, "PUT", f"/upload/length/none?{query}")
    in_chunks = request(server, "PUT", f"/upload/length/none?{query}", [("Transfer-Encoding", "chunked")], chunked)

    assert (without.status, without.code) == (411, "length-required")
    assert (in_chunks.status, in_chunks.code) == (411, "length-required")
    assert tree(server.store_dir) == before


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate,chunked", "compress, chunked"])
def test_a_transfer_coding_other_than_chunked_is_501(server: Server, coding: str) -> None:
    query = query_of(server, "coding/x", 5)

    refused = request(
        server, "PUT", f"/upload/coding/x?{query}", [("Transfer-Encoding", coding)], b"5\r\nhello\r\n0\r\n\r\n"
    )

    assert (refused.status, refused.code) == (501, "unsupported-coding")


@pytest.mark.parametrize("value", ["bytes 0-1/2", "bytes */1", "bytes 1-1/1", "", "nonsense"])
def test_a_content_range_that_does_not_fit_the_body_is_400_and_never_ignored(server: Server, value: str) -> None:
    before = tree(server.store_dir)

    refused = put_with(server, "range/x", query_of(server, "range/x", 1, TEXT), headers=[("Content-Range", value)])

    assert (refused.status, refused.code) == (400, "bad-content-range")
    assert tree(server.store_dir) == before


@pytest.mark.parametrize("value", ["2", "0", "x", "-1", "+1", "1.0", "9" * 40])
def test_an_upload_length_that_differs_is_400(server: Server, value: str) -> None:
    before = tree(server.store_dir)

    refused = put_with(
        server, "declared/x", query_of(server, "declared/x", 1, TEXT), headers=[("Upload-Length", value)]
    )

    assert (refused.status, refused.code) == (400, "bad-header")
    assert tree(server.store_dir) == before


def test_an_upload_length_that_agrees_is_accepted(server: Server) -> None:
    query = query_of(server, "declared/equal", 1, TEXT)

    assert put_with(server, "declared/equal", query, headers=[("Upload-Length", "1")]).status == 201


@pytest.mark.parametrize("content_type", ["t" * 256, "text/pl\u00e4in", "text/plain\u0080", "text/plain; n=\u00ff"])
def test_a_type_that_is_too_long_or_not_printable_ascii_is_400(server: Server, content_type: str) -> None:
    signed = mac(server.secret, b"types/bad\x001\0" + content_type.encode("latin-1"))

    refused = put_with(server, "types/bad", f"v2={signed}", content_type=content_type)

    assert (refused.status, refused.code) == (400, "bad-header")


@pytest.mark.parametrize("length", ["-1", "+1", "1.0", "0x1", "1 1", "abc", "1,1", "٣".encode().decode("latin-1")])
def test_a_content_length_that_is_no_number_is_400_and_stores_nothing(server: Server, length: str) -> None:
    before = tree(server.store_dir)

    with Connection(server.address) as connection:
        query = query_of(server, "length/bad", 1)
        connection.send(head_of("PUT", f"/upload/length/bad?{query}", [("Content-Length", length)]) + b"x")
        assert connection.read_head().status == 400

    assert tree(server.store_dir) == before


def test_two_different_content_lengths_are_400_and_store_nothing(server: Server) -> None:
    before = tree(server.store_dir)

    with Connection(server.address) as connection:
        target = f"/upload/length/two?{query_of(server, 'length/two', 1)}"
        connection.send(head_of("PUT", target, [("Content-Length", "1"), ("Content-Length", "2")]) + b"xy")
        assert connection.read_head().status == 400

    assert tree(server.store_dir) == before


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "TRACE", "PROPFIND", "BREW"])
def test_a_method_that_is_not_served_is_405_and_tells_the_ones_that_are(server: Server, method: str) -> None:
    put(server, "methods/file", b"x")

    for target in ("/upload/methods/file", "/upload/methods/absent", "/upload/", "/"):
        refused = request(server, method, target, [("Content-Length", "0")])

        assert (refused.status, refused.code) == (405, "method-not-allowed")
        assert sorted(refused["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS", "POST", "PUT"]
    assert get(server, "methods/file").body == b"x"


def test_a_signature_for_put_deletes_nothing(server: Server) -> None:
    put(server, "deleted/not", b"x")

    assert request(server, "DELETE", f"/upload/deleted/not?{query_of(server, 'deleted/not', 1)}").status == 405
    assert get(server, "deleted/not").status == 200


def test_if_match_on_a_file_that_does_not_exist_is_412(server: Server) -> None:
    query = query_of(server, "match/none", 1, TEXT)

    refused = put_with(server, "match/none", query, headers=[("If-Match", "*")])

    assert (refused.status, refused.code) == (412, "precondition-failed")
    assert get(server, "match/none").status == 404


def test_an_error_body_is_one_line_of_text(server: Server) -> None:
    refused = get(server, "absent/file")

    assert refused["Content-Type"] == "text/plain; charset=utf-8"
    assert refused.body.endswith(b"\n")
    assert refused.body.count(b"\n") == 1
    assert len(refused.body) > 1
    assert refused["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "accept", ["application/json", "application/problem+json", "text/html, application/json;q=0.5"]
)
def test_an_error_is_a_problem_for_those_who_accept_json(server: Server, accept: str) -> None:
    refused = get(server, "absent/file", [("Accept", accept)])

    problem = json.loads(refused.body)
    assert refused["Content-Type"] == "application/problem+json"
    assert problem["status"] == refused.status == 404
    assert problem["title"] == "Not Found"
    assert problem["detail"]
    assert refused.code == "not-found"


def test_the_three_faces_of_403_are_one_in_json_too(server: Server) -> None:
    accept = [("Accept", "application/json")]

    answers = [put_with(server, "json/face", query, headers=accept) for query in ("", "v=x", f"v={WRONG}")]

    assert len({answer.body for answer in answers}) == 1


def test_a_refusal_keeps_the_request_out_of_its_body(server: Server) -> None:
    for answer in (put_with(server, "echo/<b>path</b>", f"v2={WRONG}"), get(server, "echo/<b>path</b>")):
        assert b"path</b>" not in answer.body
        assert WRONG.encode() not in answer.body


def test_bytes_that_are_not_http_do_not_stop_the_server(server: Server) -> None:
    for junk in (
        b"\0" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with Connection(server.address) as connection:
            connection.send(junk)
            connection.half_close()
            connection.read_to_end()

    assert put(server, f"after/{server.port}", b"x").status == 201


def test_a_refused_upload_can_be_repeated_on_the_same_connection(server: Server) -> None:
    keep = [("Connection", "keep-alive"), ("Content-Length", "5")]

    with Connection(server.address) as connection:
        connection.send(head_of("PUT", f"/upload/again/x?v2={WRONG}", keep) + b"hello")
        refused = connection.read_answer()
        assert refused.status == 403
        if refused.get("Connection") == "close":
            return
        connection.send(put_head(server, "again/x", 5) + b"hello")
        assert connection.read_answer().status == 201


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /upload/a/b HTTP/1.1\r\n\r\n", 400),
        (b"GET /upload/a/b#part HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"get /upload/a/b HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
def test_a_head_is_judged_by_rfc_9112(server: Server, head: bytes, status: int) -> None:
    with Connection(server.address) as connection:
        connection.send(head)

        assert connection.read_answer().status == status
