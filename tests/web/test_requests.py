"""environ to request values: what each header may be, and which of several must agree."""

from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import checksum, paths
from hmacfs.core.contentrange import Ask, Piece
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import (
    BadChecksum,
    BadContentRange,
    BadHeader,
    BadQuery,
    LengthRequired,
    RequestError,
    UnsupportedCoding,
)
from hmacfs.services.authority import UploadRequest
from hmacfs.web import requests

PATH = paths.parse(b"a/b")
MAC = "0123456789abcdef" * 4
TOKEN = "a-token-of-the-client"
SHA256 = "ab" * 32


def environ(method: str = "PUT", **fields: str) -> dict[str, Any]:
    return {"REQUEST_METHOD": method, "QUERY_STRING": f"v2={MAC}", **fields}


def upload(**fields: str) -> UploadRequest:
    return requests.upload(environ(**fields), PATH, "192.0.2.1")


def test_a_plain_put_is_read_whole() -> None:
    request = upload(
        CONTENT_LENGTH="10",
        CONTENT_TYPE="text/plain",
        HTTP_IF_MATCH="*",
        HTTP_EXPECT="100-continue",
        HTTP_X_SESSION_TOKEN=TOKEN,
        HTTP_X_CHECKSUM=SHA256,
    )

    assert request.claim is not None
    assert request.claim.protocol is Protocol.V2
    assert (request.path, request.total, request.client) == (PATH, 10, "192.0.2.1")
    assert (request.content_type, request.sent_type) == ("text/plain", True)
    assert (request.must_match, request.awaits_continue, request.token) == (True, True, TOKEN)
    assert request.wanted.whole == (checksum.Expected("sha-256", bytes.fromhex(SHA256)),)


def test_what_is_not_said_has_its_default() -> None:
    request = requests.upload({"REQUEST_METHOD": "PUT", "CONTENT_LENGTH": "0"}, PATH, "")

    assert request.claim is None
    assert (request.total, request.content_type, request.sent_type) == (0, "application/octet-stream", False)
    assert (request.must_match, request.awaits_continue, request.token) == (False, False, "")
    assert request.wanted is checksum.NOTHING


def test_a_request_never_shows_its_token_or_mac() -> None:
    text = repr(upload(CONTENT_LENGTH="10", HTTP_X_SESSION_TOKEN=TOKEN))

    assert TOKEN not in text
    assert MAC not in text


def test_a_total_and_a_type_that_are_said_elsewhere_take_the_place_of_the_headers() -> None:
    fields = environ(CONTENT_LENGTH="5", CONTENT_TYPE="application/offset+octet-stream")

    request = requests.upload(fields, PATH, "", total=10, content_type="image/png")
    untyped = requests.upload(fields, PATH, "", total=10, content_type="")

    assert (request.total, request.content_type, request.sent_type) == (10, "image/png", True)
    assert (untyped.content_type, untyped.sent_type) == ("application/octet-stream", False)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, LengthRequired),
        ({"CONTENT_LENGTH": ""}, LengthRequired),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, LengthRequired),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "HTTP_UPLOAD_LENGTH": "5"}, LengthRequired),
        ({"HTTP_TRANSFER_ENCODING": "gzip, chunked"}, UnsupportedCoding),
        ({"CONTENT_LENGTH": "-1"}, BadHeader),
        ({"CONTENT_LENGTH": "1_0"}, BadHeader),
        ({"CONTENT_LENGTH": "\u0661"}, BadHeader),
        ({"CONTENT_LENGTH": "9" * 31}, BadHeader),
        ({"CONTENT_LENGTH": "5", "HTTP_UPLOAD_LENGTH": "6"}, BadHeader),
        ({"CONTENT_LENGTH": "5", "HTTP_UPLOAD_LENGTH": "five"}, BadHeader),
        ({"CONTENT_LENGTH": "5", "CONTENT_TYPE": "t" * 256}, BadHeader),
        ({"CONTENT_LENGTH": "5", "HTTP_X_SESSION_TOKEN": "short"}, BadHeader),
        ({"CONTENT_LENGTH": "5", "HTTP_X_SESSION_TOKEN": ""}, BadHeader),
        ({"CONTENT_LENGTH": "5", "HTTP_DIGEST": "crc32=AAAA"}, BadChecksum),
        ({"CONTENT_LENGTH": "5", "QUERY_STRING": f"v2={MAC}&v2={MAC}"}, BadQuery),
        ({"CONTENT_LENGTH": "5", "QUERY_STRING": f"%762={MAC}&v=%zz"}, BadQuery),
        ({"CONTENT_LENGTH": "5", "QUERY_STRING": "v2=%ff"}, BadQuery),
    ],
)
def test_what_is_malformed_or_contradicts_itself_is_refused(fields: dict[str, str], error: type[RequestError]) -> None:
    with pytest.raises(error):
        upload(**fields)


@pytest.mark.parametrize("value", ["a" * 16, "Z_-9" * 32])
def test_a_token_has_16_to_128_characters(value: str) -> None:
    assert requests.token({"HTTP_X_SESSION_TOKEN": value}) == value


@pytest.mark.parametrize("value", ["", "a" * 15, "a" * 129, "a" * 16 + "\n", "a" * 15 + "\u00e9", "a" * 15 + " "])
def test_any_other_token_is_refused(value: str) -> None:
    with pytest.raises(BadHeader):
        requests.token({"HTTP_X_SESSION_TOKEN": value})


def chosen(authorization: str, *accepts: Protocol) -> Claim | None:
    said = environ(CONTENT_LENGTH="5", HTTP_AUTHORIZATION=authorization)
    return requests.upload(said, PATH, "", accepts=accepts or (Protocol.BEARER, Protocol.V2)).claim


@pytest.mark.parametrize("said", ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c  "])
def test_a_bearer_s_token_is_what_follows_the_scheme(said: str) -> None:
    assert chosen(said) == Claim(Protocol.BEARER, "a.b.c")


@pytest.mark.parametrize(
    "said",
    ["Bearer", "Bearer ", "Bearer @@@", "Bearer a b", "Bearer abc,def", "Bearer\ta.b.c", "Bearer a.b.c,Basic eA==",
     "Bearer, Basic eA==", "bearer \u00e9.b.c"],
)  # fmt: skip
def test_a_malformed_bearer_counts_and_is_no_token(said: str) -> None:
    assert chosen(said) == Claim(Protocol.BEARER, "")
    assert chosen(said, Protocol.V2) == Claim(Protocol.V2, MAC)  # it is absent where no token counts


@pytest.mark.parametrize("said", ["", "Basic eA==", "Token a.b.c", "Bearers a.b.c", "Bearer-2 a.b.c", "a.b.c"])
def test_another_scheme_is_as_if_there_were_none(said: str) -> None:
    assert chosen(said) == Claim(Protocol.V2, MAC)


def test_a_content_range_that_fits_the_body_is_a_piece_or_a_question() -> None:
    piece = requests.content_range(environ(HTTP_CONTENT_RANGE="bytes 2-6/10", CONTENT_LENGTH="5"))
    question = requests.content_range(environ(HTTP_CONTENT_RANGE="bytes */10", CONTENT_LENGTH="0"))
    bare = requests.content_range(environ(HTTP_CONTENT_RANGE="bytes */10", HTTP_UPLOAD_LENGTH="10"))

    assert piece == Piece(2, 6, 10)
    assert question == bare == Ask(10)
    assert requests.content_range(environ(CONTENT_LENGTH="5")) is None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"HTTP_CONTENT_RANGE": "bytes 2-6/10", "CONTENT_LENGTH": "4"}, BadContentRange),
        ({"HTTP_CONTENT_RANGE": "bytes 2-6/10"}, BadContentRange),
        ({"HTTP_CONTENT_RANGE": "bytes 2-6/10", "HTTP_TRANSFER_ENCODING": "chunked"}, BadContentRange),
        ({"HTTP_CONTENT_RANGE": "bytes */10", "CONTENT_LENGTH": "1"}, BadContentRange),
        ({"HTTP_CONTENT_RANGE": "bytes */10", "HTTP_TRANSFER_ENCODING": "chunked"}, BadContentRange),
        ({"HTTP_CONTENT_RANGE": "", "CONTENT_LENGTH": "1"}, BadContentRange),
        ({"HTTP_CONTENT_RANGE": "bytes 2-6/10", "HTTP_TRANSFER_ENCODING": "gzip"}, UnsupportedCoding),
        ({"HTTP_CONTENT_RANGE": "bytes 2-6/10", "CONTENT_LENGTH": "5", "HTTP_UPLOAD_LENGTH": "5"}, BadHeader),
        ({"HTTP_CONTENT_RANGE": "bytes */10", "HTTP_UPLOAD_LENGTH": ""}, BadHeader),
    ],
)
def test_a_content_range_that_does_not_fit_is_refused(fields: dict[str, str], error: type[RequestError]) -> None:
    with pytest.raises(error):
        requests.content_range(environ(**fields))


@pytest.mark.parametrize(
    ("fields", "length"),
    [({}, 0), ({"CONTENT_LENGTH": ""}, 0), ({"CONTENT_LENGTH": "7"}, 7), ({"HTTP_TRANSFER_ENCODING": "Chunked"}, None)],
)
def test_a_body_has_the_length_it_says_or_none_when_it_is_chunked(fields: dict[str, str], length: int | None) -> None:
    assert requests.body_length(environ(**fields)) == length


@pytest.mark.parametrize(
    ("method", "override", "meant"),
    [
        ("POST", "PATCH", "PATCH"),
        ("POST", " patch ", "PATCH"),
        ("POST", "", ""),
        ("PUT", "DELETE", "PUT"),
        ("GET", "DELETE", "GET"),
        ("PATCH", "DELETE", "PATCH"),
    ],
)
def test_only_a_post_may_mean_another_method(method: str, override: str, meant: str) -> None:
    said = environ(method, HTTP_X_HTTP_METHOD_OVERRIDE=override)

    assert requests.method({**said, "HTTP_TUS_RESUMABLE": "1.0.0"}) == meant
    assert requests.method(said) == method  # outside of tus nobody may


def test_a_post_without_an_override_is_a_post() -> None:
    assert requests.method(environ("POST")) == "POST"


def test_forgotten_checksums_are_as_if_they_had_not_been_sent() -> None:
    fields = environ(CONTENT_LENGTH="5", **{"HTTP_" + name.upper().replace("-", "_"): "x" for name in checksum.FIELDS})

    requests.forget_checksums(fields)

    assert requests.wanted(fields) is checksum.NOTHING
    assert fields["CONTENT_LENGTH"] == "5"


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", True),
        ("text/html, Application/Problem+JSON;q=0.2", True),
        ("application/json;q=0", False),
        ("application/json; q=0.0", False),
        ("application/json;q=0.01", True),
    ],
)
def test_json_is_for_those_who_accept_it(accept: str, wants: bool) -> None:
    assert requests.wants_json({"HTTP_ACCEPT": accept}) is wants


def test_only_this_module_reads_what_clients_say_of_lengths_and_checksums() -> None:
    web = Path(requests.__file__).parent
    readers = {file.name for file in web.glob("*.py") if '"CONTENT_LENGTH"' in file.read_text(encoding="utf-8")}

    assert readers == {"requests.py"}
