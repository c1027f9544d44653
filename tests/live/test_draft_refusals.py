"""The IETF draft: which creation is refused, in which order, and that it arrives (protocol, 3 and 5.3)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.http import MIB, Answer, Site, get, head_of, put, request
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import (
    DRAFT_BODY,
    LAST,
    MORE,
    Slot,
    chunked,
    draft_patch,
    face,
    refusal,
    token_header,
)
from tests.support.slot import draft_location as created

LARGEST = 8 * MIB
EXPECT = ("Expect", "100-continue")
ORIGIN = ("Origin", "https://chat.example.org")
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
LIMIT = f"max-size={LARGEST}, min-size=0, max-age=86400"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("draft-refusals"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.fixture(scope="module", params=["direct", "nginx"])
def site(server: Server, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "direct":
        yield server
        return
    with Nginx(server) as proxy:
        yield proxy


def problem(answer: Answer) -> dict[str, Any]:
    assert answer["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = json.loads(answer.body)
    assert told["status"] == answer.status
    return told


def interop(version: int) -> tuple[str, str]:
    return "Upload-Draft-Interop-Version", str(version)


# Creations that are refused


def test_a_part_of_a_file_of_unknown_length_is_400_because_the_total_is_signed(server: Server) -> None:
    slot = Slot(server, "refused/unknown", 10)

    with_length = slot.put(b"01234", [MORE])
    in_chunks = request(server, "PUT", slot.target, [MORE, ("Transfer-Encoding", "chunked")], chunked(b"01234"))

    assert face(with_length) == face(in_chunks) == (400, "bad-header")
    assert {answer["Upload-Complete"] for answer in (with_length, in_chunks)} == {"?0"}


def test_a_whole_file_of_unknown_length_is_411(server: Server) -> None:
    slot = Slot(server, "refused/no-length", 0)

    without = request(server, "PUT", slot.target, [LAST])
    in_chunks = request(server, "PUT", slot.target, [LAST, ("Transfer-Encoding", "chunked")], chunked())

    assert face(without) == face(in_chunks) == (411, "length-required")
    assert get(server, slot.path).status == 404


@pytest.mark.parametrize("value", ["", "1", "?2", "?", "true", "?1, ?1", "?0 ?1", "%3F1"])
def test_an_upload_complete_that_is_no_boolean_is_400(server: Server, value: str) -> None:
    slot = Slot(server, "refused/boolean", 5)

    assert face(slot.put(b"01234", [("Upload-Complete", value)])) == (400, "bad-header")
    assert get(server, slot.path).status == 404


@pytest.mark.parametrize(
    ("complete", "length", "body"),
    [(LAST, "9", b"0123456789"), (LAST, "11", b"0123456789"), (LAST, "10", b"01234"), (MORE, "4", b"01234")],
)
def test_lengths_that_contradict_each_other_are_a_problem_of_their_own(
    server: Server, complete: tuple[str, str], length: str, body: bytes
) -> None:
    slot = Slot(server, "refused/lengths", 10)

    answer = slot.put(body, [complete, ("Upload-Length", length)])

    assert face(answer) == (400, "inconsistent-upload-length")
    assert problem(answer)["type"] == PROBLEMS + "inconsistent-upload-length"
    assert get(server, slot.path).status == 404


@pytest.mark.parametrize("said", ["bytes 0-4/10", "bytes */10", "nonsense", "bytes 0-9/10"])
def test_a_content_range_beside_it_is_400_and_never_ignored(server: Server, said: str) -> None:
    slot = Slot(server, "refused/range", 10)
    ranged = ("Content-Range", said)

    whole, part = slot.put(b"0123456789", [LAST, ranged]), slot.create_draft(b"01234", [ranged])

    assert face(whole) == face(part) == (400, "bad-content-range")
    assert get(server, slot.path).status == 404


def test_the_order_of_checks_of_a_creation(server: Server) -> None:
    put(server, "order/there", b"0123456789")
    slot, there = Slot(server, "order/slot", 10), Slot(server, "order/there", 10)
    below, huge = Slot(server, "order/there/below", 10), Slot(server, "order/there", LARGEST + 1)
    matched = [("If-Match", "*")]

    refused = [
        (400, "bad-path", Slot(server, ".hidden/x", 10).unsigned.create_draft()),
        (400, "bad-query", replace(there, query="v=1&v=2").create_draft()),
        (400, "bad-header", there.unsigned.put(b"", [MORE])),
        (400, "inconsistent-upload-length", there.unsigned.put(b"x", [LAST, ("Upload-Length", "10")])),
        (403, "bad-signature", there.unsigned.create_draft()),
        (403, "bad-signature", huge.unsigned.create_draft()),
        (403, "bad-signature", below.unsigned.create_draft()),
        (413, "too-large", huge.create_draft()),
        (409, "file-exists", there.create_draft()),
        (409, "file-exists", there.put(b"0123456789", [LAST])),
        (409, "path-conflict", below.create_draft()),
        (412, "precondition-failed", slot.create_draft(b"", matched)),
        (412, "precondition-failed", slot.put(b"0123456789", [LAST, *matched])),
    ]

    assert [face(answer) for _, _, answer in refused] == [(status, code) for status, code, _ in refused]
    assert {answer["Upload-Complete"] for _, _, answer in refused[1:]} == {"?0"}
    assert refused[7][2]["Upload-Limit"] == LIMIT


def test_the_unsigned_cannot_tell_slots_apart(server: Server) -> None:
    put(server, "unsigned/there", b"0123456789")
    created(Slot(server, "unsigned/running", 10), b"01234")
    slots = [Slot(server, f"unsigned/{name}", 10) for name in ("there", "running", "absent", "there/below")]
    slots.append(Slot(server, "unsigned/huge", LARGEST + 1))

    answers = [slot.unsigned.create_draft() for slot in slots]
    answers += [slot.unsigned.put(b"0123456789", [LAST]) for slot in slots[:4]]

    faces = {
        (a.status, a.body, *(pair for pair in a.headers if pair[0] not in ("Date", "X-Request-ID"))) for a in answers
    }
    assert len(faces) == 1
    assert answers[0].get("Upload-Offset") is None


@pytest.mark.parametrize("keys", [{}, {"EnableInterimResponses": True}], ids=["104-off", "104-on"])
def test_a_total_that_no_disk_can_hold_is_507_at_creation(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, bool]
) -> None:
    with Server(tmp_path_factory.mktemp("unlimited"), UploadMaxSize=0, **keys) as server:
        answer = Slot(server, "space/endless", 10**14).create_draft(b"01234", [interop(8)])

    assert face(answer) == (507, "storage-full")


# What surrounds it


def test_every_answer_can_be_read_by_a_browser(server: Server) -> None:
    put(server, "cors/there", b"0123456789")
    running, done = created(Slot(server, "cors/running", 10), b"01234"), created(Slot(server, "cors/done", 0))
    draft_patch(server, done, 0, b"")

    answers = [
        Slot(server, "cors/new", 10).create_draft(b"", [ORIGIN]),
        request(server, "HEAD", running, [ORIGIN]),
        draft_patch(server, running, 5, b"", MORE, [ORIGIN]),
        draft_patch(server, done, 0, b"", LAST, [ORIGIN]),
        request(server, "HEAD", "/upload/.uploads/x", [ORIGIN]),
        request(server, "GET", running, [ORIGIN]),
        draft_patch(server, running, 0, b"x", MORE, [ORIGIN]),
        request(server, "DELETE", done, [ORIGIN]),
        Slot(server, "cors/huge", LARGEST + 1).create_draft(b"", [ORIGIN]),
        request(server, "PATCH", running, [("Content-Length", "0"), ORIGIN]),
        Slot(server, "cors/there", 10).create_draft(b"", [ORIGIN]),
    ]

    assert [answer.status for answer in answers] == [201, 204, 204, 400, 404, 405, 409, 410, 413, 415, 409]
    for answer in answers:
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert "Upload-Complete" in answer["Access-Control-Expose-Headers"]


def test_a_refused_request_is_never_asked_to_go_on(server: Server) -> None:
    put(server, "continue/there", b"0123456789")
    location = created(Slot(server, "continue/slot", 10), b"01234")
    there, huge = Slot(server, "continue/there", 10), Slot(server, "continue/huge", LARGEST + 1)

    def patch(target: str, offset: int, length: int = 5) -> bytes:
        said = [DRAFT_BODY, MORE, ("Upload-Offset", str(offset)), ("Content-Length", str(length)), EXPECT]
        return head_of("PATCH", target, said)

    refused = [
        (409, patch(location, 0)),
        (404, patch("/upload/.uploads/unknown", 5)),
        (409, there.put_head(10, [LAST, EXPECT])),
        (409, there.put_head(5, [MORE, ("Upload-Length", "10"), EXPECT])),
        (403, there.unsigned.put_head(10, [LAST, EXPECT])),
        (413, huge.put_head(10, [MORE, ("Upload-Length", str(huge.total)), EXPECT])),
    ]

    assert [refusal(server, head).status for _, head in refused] == [status for status, _ in refused]
    assert refusal(server, patch(location, 5)).status == 100


REFUSED: dict[int, Callable[[Site, str, bytes], Answer]] = {
    403: lambda site, running, body: Slot(site, "large/new", LARGEST).unsigned.put(body, [LAST]),
    404: lambda site, running, body: draft_patch(site, "/upload/.uploads/unknown", 0, body),
    409: lambda site, running, body: draft_patch(site, running, 0, body, MORE),
    413: lambda site, running, body: draft_patch(site, running, 5, body, MORE),
    415: lambda site, running, body: request(site, "PATCH", running, [("Content-Length", str(len(body)))], body),
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_body_of_some_megabytes_is_answered_and_never_a_reset(
    server: Server, site: Site, status: int
) -> None:
    running = created(Slot(server, f"large/{site.address[1]}-{status}", 10), b"01234")

    assert REFUSED[status](site, running, bytes(LARGEST)).status == status


def test_no_id_and_no_query_is_ever_logged(server: Server) -> None:
    slot = Slot(server, "quiet/draft", 10)
    location = created(slot, b"01234")
    upload_id = location.rpartition("/")[2]

    draft_patch(server, location, 0, b"x", MORE, token_header("quiet-token-00000000"))
    draft_patch(server, f"{location}?v2={'f' * 64}", 5, b"56789")

    until(lambda: len(server.lines(f" .uploads/{upload_id[:8]} status=")) == 2, "the requests are logged")
    log = server.output()
    for secret in (upload_id[:9], slot.target.partition("?")[2], "f" * 64, "quiet-token"):
        assert secret not in log
