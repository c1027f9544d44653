"""Resumable Uploads for HTTP, the IETF draft, interop version 8, over the wire (protocol, 5.3)."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.support.http import MIB, Answer, Connection, Headers, Site, get, head_of, put, request, url_of
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import (
    DRAFT_BODY,
    LAST,
    MORE,
    TUS_BODY,
    Slot,
    chunked,
    content,
    draft_patch,
    refusal,
    token_header,
)

LARGEST = 8 * MIB
EXPECT = ("Expect", "100-continue")
ORIGIN = ("Origin", "https://chat.example.org")
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
LIMIT = f"max-size={LARGEST}, min-size=0, max-age=86400"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("draft"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Sends 104 responses."""
    folder = tmp_path_factory.mktemp("early")
    with Server(folder, UploadMaxSize=LARGEST, EnableInterimResponses=True) as running:
        yield running


@pytest.fixture(scope="module", params=["direct", "nginx"])
def site(server: Server, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "direct":
        yield server
        return
    with Nginx(server) as proxy:
        yield proxy


def face(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.code


def problem(answer: Answer) -> dict[str, Any]:
    assert answer["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = json.loads(answer.body)
    assert told["status"] == answer.status
    return told


def created(slot: Slot, body: bytes = b"") -> str:
    """The Location of a new upload."""
    answer = slot.create_draft(body)
    assert answer.status == 201
    return answer["Location"]


def interop(version: int) -> tuple[str, str]:
    return "Upload-Draft-Interop-Version", str(version)


# Creation


def test_a_put_of_the_whole_file_is_an_ordinary_upload(server: Server) -> None:
    slot = Slot(server, "whole/file.txt", 10, "text/plain")

    answer = slot.put(b"0123456789", [LAST])

    assert (answer.status, answer["Upload-Complete"]) == (201, "?1")
    assert (answer["Location"], answer["ETag"]) == (url_of(server, slot.path), get(server, slot.path)["ETag"])
    assert get(server, slot.path)["Content-Type"] == "text/plain"


def test_a_put_of_a_part_makes_an_upload_resource(server: Server) -> None:
    slot = Slot(server, "create/part", 10)

    answer = slot.create_draft(b"0123")

    assert (answer.status, answer["Upload-Complete"], answer["Upload-Offset"]) == (201, "?0", "4")
    assert answer["Location"].startswith("/upload/.uploads/")
    assert answer["Upload-Limit"] == LIMIT
    assert get(server, slot.path).status == 404


def test_the_steps_of_the_draft_end_in_a_file_with_its_type(server: Server) -> None:
    slot = Slot(server, "create/steps.png", 300_000, "image/png")
    body = content(slot.total)
    location = created(slot, body[:100_000])

    asked = request(server, "HEAD", location)
    middle = draft_patch(server, location, 100_000, body[100_000:200_000], MORE)
    last = draft_patch(server, location, 200_000, body[200_000:])
    done = request(server, "HEAD", location)
    fetched = get(server, slot.path)

    assert (asked.status, asked["Upload-Offset"], asked["Upload-Complete"]) == (204, "100000", "?0")
    assert (asked["Upload-Length"], asked["Upload-Limit"], asked["Cache-Control"]) == ("300000", LIMIT, "no-store")
    assert parsedate_to_datetime(asked["Upload-Expires"])
    assert (middle.status, middle["Upload-Offset"], middle["Upload-Complete"]) == (204, "200000", "?0")
    assert (last.status, last["Upload-Offset"], last["Upload-Complete"]) == (201, "300000", "?1")
    assert (last["Location"], last["ETag"]) == (url_of(server, slot.path), fetched["ETag"])
    assert (done.status, done["Upload-Offset"], done["Upload-Complete"]) == (204, "300000", "?1")
    assert (fetched.body, fetched["Content-Type"]) == (body, "image/png")


def test_nothing_is_published_before_the_client_says_that_it_is_complete(server: Server) -> None:
    slot = Slot(server, "create/said", 10)
    location = created(slot, b"0123456789")

    early = get(server, slot.path).status
    asked = request(server, "HEAD", location)
    last = draft_patch(server, location, 10, b"")

    assert early == 404
    assert (asked["Upload-Offset"], asked["Upload-Complete"]) == ("10", "?0")
    assert (last.status, last["Upload-Complete"]) == (201, "?1")
    assert get(server, slot.path).body == b"0123456789"


def test_a_file_of_no_bytes_at_once_and_in_two_steps(server: Server) -> None:
    at_once, in_steps = Slot(server, "empty/once", 0), Slot(server, "empty/steps", 0)

    only = at_once.put(b"", [LAST])
    location = created(in_steps)
    early = get(server, in_steps.path).status
    last = draft_patch(server, location, 0, b"")

    assert (only.status, early, last.status) == (201, 404, 201)
    assert [get(server, slot.path)["Content-Length"] for slot in (at_once, in_steps)] == ["0", "0"]


def test_a_whole_file_in_chunks_is_stored_where_its_length_is_told(server: Server) -> None:
    slot = Slot(server, "chunks/whole", 10)
    head = head_of("PUT", slot.target, [LAST, ("Upload-Length", "10"), ("Transfer-Encoding", "chunked")])

    with Connection(server.address) as connection:
        connection.send(head + chunked(b"0123", b"456789"))
        answer = connection.read_answer()

    assert (answer.status, answer["Upload-Complete"]) == (201, "?1")
    assert get(server, slot.path).body == b"0123456789"


@pytest.mark.parametrize("version", [3, 6, 8, 9])
def test_any_interop_version_is_served_alike(server: Server, version: int) -> None:
    slot = Slot(server, f"interop/{version}", 10)

    answer = slot.create_draft(b"01234", [interop(version)])
    last = draft_patch(server, answer["Location"], 5, b"56789", LAST, [interop(version)])

    assert (answer.status, last.status) == (201, 201)


# Creations that are refused


def test_a_part_of_a_file_of_unknown_length_is_400_because_the_total_is_signed(server: Server) -> None:
    slot = Slot(server, "refused/unknown", 10)

    with_length = slot.put(b"01234", [MORE])
    head = head_of("PUT", slot.target, [LAST, ("Transfer-Encoding", "chunked")])
    with Connection(server.address) as connection:
        connection.send(head + chunked(b"01234"))
        in_chunks = connection.read_answer()

    assert face(with_length) == face(in_chunks) == (400, "bad-header")
    assert {answer["Upload-Complete"] for answer in (with_length, in_chunks)} == {"?0"}


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

    faces = {(a.status, a.body, *(pair for pair in a.headers if pair[0] != "Date")) for a in answers}
    assert len(faces) == 1
    assert answers[0].get("Upload-Offset") is None


@pytest.mark.parametrize("keys", [{}, {"EnableInterimResponses": True}], ids=["104-off", "104-on"])
def test_a_total_that_no_disk_can_hold_is_507_at_creation(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, bool]
) -> None:
    with Server(tmp_path_factory.mktemp("unlimited"), UploadMaxSize=0, **keys) as server:
        answer = Slot(server, "space/endless", 10**14).create_draft(b"01234", [interop(8)])

    assert face(answer) == (507, "storage-full")


# Upload resources


@pytest.mark.parametrize("offset", [0, 4, 6, 10, 11, 999_999_999_999_999])
def test_a_patch_at_another_offset_is_a_problem_that_tells_the_right_one(server: Server, offset: int) -> None:
    location = created(Slot(server, f"offset/{offset}", 10), b"01234")

    answer = draft_patch(server, location, offset, b"x", MORE)

    assert face(answer) == (409, "mismatching-upload-offset")
    assert (answer["Upload-Offset"], answer["Upload-Complete"]) == ("5", "?0")
    told = problem(answer)
    assert told["type"] == PROBLEMS + "mismatching-upload-offset"
    assert (told["expected-offset"], told["provided-offset"]) == (5, offset)
    assert request(server, "HEAD", location)["Upload-Offset"] == "5"


@pytest.mark.parametrize("offset", [None, "", "-5", "5.0", "five", "1" + "0" * 15, "5, 5", '"5"', ":NQ==:"])
def test_a_patch_without_an_offset_that_can_be_read_is_400(server: Server, offset: str | None) -> None:
    location = created(Slot(server, "offset/malformed", 10), b"01234")
    said = [] if offset is None else [("Upload-Offset", offset)]

    answer = request(server, "PATCH", location, [DRAFT_BODY, MORE, ("Content-Length", "1"), *said], b"5")

    assert face(answer) == (400, "bad-header")
    assert request(server, "HEAD", location)["Upload-Offset"] == "5"


def test_a_patch_that_does_not_say_whether_it_is_the_last_is_400(server: Server) -> None:
    location = created(Slot(server, "offset/incomplete", 10), b"01234")

    answer = request(server, "PATCH", location, [DRAFT_BODY, ("Upload-Offset", "5"), ("Content-Length", "1")], b"5")

    assert face(answer) == (400, "bad-header")
    assert request(server, "HEAD", location)["Upload-Offset"] == "5"


@pytest.mark.parametrize("kind", [[], [("Content-Type", "text/plain")], [TUS_BODY]])
def test_a_patch_with_another_body_type_is_415(server: Server, kind: Headers) -> None:
    location = created(Slot(server, "offset/media", 10), b"01234")

    for target in (location, "/upload/.uploads/unknown"):
        answer = request(server, "PATCH", target, [MORE, ("Upload-Offset", "5"), ("Content-Length", "1"), *kind], b"5")

        assert face(answer) == (415, "bad-media-type")


@pytest.mark.parametrize(("offset", "body", "length"), [(5, b"5678", None), (5, b"56", "10"), (5, b"56", "9")])
def test_a_last_patch_that_does_not_reach_the_length_is_400_and_writes_nothing(
    server: Server, offset: int, body: bytes, length: str | None
) -> None:
    location = created(Slot(server, "offset/short", 10), b"01234")
    said = [] if length is None else [("Upload-Length", length)]

    answer = draft_patch(server, location, offset, body, LAST, said)

    assert face(answer) == (400, "inconsistent-upload-length")
    assert problem(answer)["type"] == PROBLEMS + "inconsistent-upload-length"
    assert request(server, "HEAD", location)["Upload-Offset"] == "5"


def test_a_patch_may_repeat_the_length(server: Server) -> None:
    location = created(Slot(server, "offset/repeated", 10), b"01234")

    assert draft_patch(server, location, 5, b"56789", LAST, [("Upload-Length", "10")]).status == 201


def test_a_patch_beyond_the_length_is_refused_and_ends_the_upload(server: Server) -> None:
    location = created(Slot(server, "offset/beyond", 10), b"01234")

    answer = draft_patch(server, location, 5, b"567890", MORE)

    assert face(answer) == (413, "body-too-long")
    assert request(server, "HEAD", location).status == 404


@pytest.mark.parametrize("complete", [LAST, MORE])
def test_a_patch_in_chunks_is_taken_as_far_as_it_goes(server: Server, complete: tuple[str, str]) -> None:
    slot = Slot(server, f"chunks/patch{complete[1][1]}", 10)
    location = created(slot, b"01234")
    said = [DRAFT_BODY, complete, ("Upload-Offset", "5"), ("Transfer-Encoding", "chunked")]

    answer = request(server, "PATCH", location, said, chunked(b"567", b"89"))

    assert answer["Upload-Offset"] == "10"
    assert (answer.status, get(server, slot.path).status) == ((201, 200) if complete == LAST else (204, 404))


def test_a_last_patch_in_chunks_that_is_too_short_is_400_and_what_came_is_kept(server: Server) -> None:
    location = created(Slot(server, "chunks/short", 10), b"01234")
    said = [DRAFT_BODY, LAST, ("Upload-Offset", "5"), ("Transfer-Encoding", "chunked")]

    answer = request(server, "PATCH", location, said, chunked(b"567"))

    assert face(answer) == (400, "inconsistent-upload-length")
    assert request(server, "HEAD", location)["Upload-Offset"] == "8"


def test_a_patch_that_breaks_off_keeps_what_arrived(server: Server) -> None:
    slot = Slot(server, "broken/patch", 3 * MIB)
    body = content(slot.total)
    location = created(slot)
    said = [DRAFT_BODY, LAST, ("Upload-Offset", "0"), ("Content-Length", str(slot.total))]

    with Connection(server.address) as connection:
        connection.send(head_of("PATCH", location, said) + body[: 2 * MIB])
        connection.half_close()
        broken = connection.read_answer()
    offset = int(request(server, "HEAD", location)["Upload-Offset"])
    last = draft_patch(server, location, offset, body[offset:])

    assert face(broken) == (400, "body-truncated")
    assert offset == 2 * MIB
    assert last.status == 201
    assert get(server, slot.path).body == body


@pytest.mark.parametrize("coding", ["length", "chunks"])
def test_a_head_ends_a_patch_that_stalls_and_its_offset_is_the_last_word(server: Server, coding: str) -> None:
    slot = Slot(server, f"broken/stalled-{coding}", 2 * MIB)
    body = content(slot.total)
    location = created(slot)
    framed = ("Content-Length", str(slot.total)) if coding == "length" else ("Transfer-Encoding", "chunked")
    sent = body[:MIB] if coding == "length" else b"%x\r\n" % MIB + body[:MIB] + b"\r\n"

    with Connection(server.address) as connection:
        connection.send(head_of("PATCH", location, [DRAFT_BODY, LAST, ("Upload-Offset", "0"), framed]) + sent)
        until(server.open_store_files, "the body is being collected")
        asked = request(server, "HEAD", location)
        ended = connection.read_answer()
    last = draft_patch(server, location, int(asked["Upload-Offset"]), body[int(asked["Upload-Offset"]) :])

    assert asked.status == 204
    assert face(ended) == (409, "taken-over")
    assert last.status == 201
    assert get(server, slot.path).body == body


def test_an_id_that_is_malformed_foreign_or_a_path_is_404_for_every_method(server: Server) -> None:
    location = created(Slot(server, "ids/slot", 10), b"01234")
    base, _, upload_id = location.rpartition("/")
    before = tree(server.store_dir)

    for name in (
        "",
        "x",
        f"{upload_id}x",
        f"{upload_id}/",
        f"..%2f..%2f{upload_id}",
        f"../{upload_id}",
        f"{upload_id[:24]}{upload_id[24:].upper()}",
        f"{'A' * 24}{upload_id[24:]}",
        f"{upload_id}%0d%0aX: y".replace(" ", "%20"),
    ):
        target = f"{base}/{name}"
        answers = [
            request(server, "HEAD", target),
            draft_patch(server, target, 5, b""),
            request(server, "DELETE", target),
        ]

        assert [face(answer) for answer in answers] == [(404, "unknown-upload")] * 3, target
        assert all(answer.get("Upload-Offset") is None for answer in answers)
    assert tree(server.store_dir) == before


# After the end


def test_after_publication_head_tells_it_patch_is_a_problem_and_delete_410(server: Server) -> None:
    slot = Slot(server, "published/draft", 10)
    location = created(slot, b"01234")
    draft_patch(server, location, 5, b"56789")

    asked = request(server, "HEAD", location)
    patched = draft_patch(server, location, 10, b"")
    deleted = request(server, "DELETE", location)

    assert (asked.status, asked["Upload-Offset"], asked["Upload-Complete"]) == (204, "10", "?1")
    assert face(patched) == (400, "upload-complete")
    assert problem(patched)["type"] == PROBLEMS + "completed-upload"
    assert patched.get("Upload-Complete") != "?0"
    assert face(deleted) == (410, "upload-gone")
    assert get(server, slot.path).body == b"0123456789"


def test_a_terminated_upload_is_404_from_then_on(server: Server) -> None:
    location = created(Slot(server, "terminated/draft", 10), b"01234")

    ended = request(server, "DELETE", location)
    later = [
        request(server, "HEAD", location),
        draft_patch(server, location, 5, b""),
        request(server, "DELETE", location),
    ]

    assert ended.status == 204
    assert [face(answer) for answer in later] == [(404, "unknown-upload")] * 3


def test_a_completion_that_meets_a_file_is_409_and_the_partial_goes(server: Server) -> None:
    slot = Slot(server, "published/raced", 10)
    location = created(slot, b"01234")
    (server.store_dir / "published").mkdir(exist_ok=True)
    (server.store_dir / slot.path).write_bytes(b"from elsewhere")

    assert face(draft_patch(server, location, 5, b"56789")) == (409, "file-exists")
    assert request(server, "HEAD", location).status == 404
    assert get(server, slot.path).body == b"from elsewhere"


# 104 Upload Resumption Supported


def answers_to_whole(server: Server, slot: Slot, headers: Headers) -> list[Answer]:
    """Every answer, interim ones too, to a PUT of the whole file."""
    with Connection(server.address) as connection:
        connection.send(slot.put_head(slot.total, [LAST, *headers]) + content(slot.total))
        answers = [connection.read_head()]
        while answers[-1].status < 200:
            answers.append(connection.read_head())
        return answers


def test_interop_version_8_is_told_where_to_resume_before_it_has_sent_anything(early: Server) -> None:
    slot = Slot(early, "early/version-8", 200_000)

    with Connection(early.address) as connection:
        connection.send(slot.put_head(slot.total, [LAST, interop(8)]))
        interim = connection.read_head()
        connection.send(content(slot.total))
        final = connection.read_answer()

    assert (interim.status, interim.reason) == (104, "Upload Resumption Supported")
    assert interim["Upload-Draft-Interop-Version"] == "8"
    assert interim["Upload-Limit"] == LIMIT
    assert (final.status, final["Upload-Complete"]) == (201, "?1")
    assert final["Location"] == interim["Location"]
    assert request(early, "HEAD", interim["Location"])["Upload-Complete"] == "?1"
    assert get(early, slot.path).body == content(slot.total)


@pytest.mark.parametrize("headers", [[], [interop(6)], [interop(7)], [interop(9)]], ids=["none", "6", "7", "9"])
def test_no_other_client_gets_a_104(early: Server, headers: Headers) -> None:
    slot = Slot(early, f"early/other-{headers}", 10)

    assert [answer.status for answer in answers_to_whole(early, slot, headers)] == [201]


def test_no_client_gets_a_104_unless_the_configuration_says_so(server: Server) -> None:
    slot = Slot(server, "early/off", 10)

    assert [answer.status for answer in answers_to_whole(server, slot, [interop(8)])] == [201]


def test_a_client_of_http_1_0_never_gets_a_1xx(early: Server) -> None:
    slot = Slot(early, "early/old", 10)

    with Connection(early.address) as connection:
        head = slot.put_head(10, [LAST, interop(8), EXPECT]).replace(b" HTTP/1.1", b" HTTP/1.0", 1)
        connection.send(head + content(10))
        everything = connection.read_to_end()

    assert re.match(rb"HTTP/1\.[01] 201 ", everything)
    assert everything.count(b"HTTP/1.") == 1


def test_a_refused_creation_gets_no_104(early: Server) -> None:
    put(early, "early/there", b"0123456789")

    answers = [
        refusal(early, slot.put_head(10, [LAST, interop(8)]))
        for slot in (Slot(early, "early/there", 10), Slot(early, "early/unsigned", 10).unsigned)
    ]

    assert [answer.status for answer in answers] == [409, 403]


@pytest.mark.parametrize("version", ["", "eight", "-8", "?1", "8, 8"])
def test_an_interop_version_that_cannot_be_read_is_no_8(early: Server, version: str) -> None:
    slot = Slot(early, "early/malformed", 10)

    answers = answers_to_whole(early, slot, [("Upload-Draft-Interop-Version", version)])

    assert [answer.status for answer in answers] == [201 if not version else 400]


def test_104_and_100_come_both_and_in_this_order(early: Server) -> None:
    slot = Slot(early, "early/both", 10)

    with Connection(early.address) as connection:
        connection.send(slot.put_head(10, [LAST, interop(8), EXPECT]))
        interim = [connection.read_head().status, connection.read_head().status]
        connection.send(content(10))
        final = connection.read_answer()

    assert (interim, final.status) == ([104, 100], 201)


def test_an_upload_that_breaks_off_after_its_104_is_resumed(early: Server) -> None:
    slot = Slot(early, "early/broken", 3 * MIB)
    body = content(slot.total)

    with Connection(early.address) as connection:
        connection.send(slot.put_head(slot.total, [LAST, interop(8)]))
        location = connection.read_head()["Location"]
        connection.send(body[: 2 * MIB])
        connection.half_close()
        broken = connection.read_answer()
    offset = int(request(early, "HEAD", location)["Upload-Offset"])
    last = draft_patch(early, location, offset, body[offset:])

    assert broken.status == 400
    assert offset == 2 * MIB
    assert (last.status, get(early, slot.path).body) == (201, body)


def test_an_upload_in_chunks_gets_its_104_too(early: Server) -> None:
    slot = Slot(early, "early/chunks", 10)
    said = [LAST, interop(8), ("Upload-Length", "10"), ("Transfer-Encoding", "chunked")]

    with Connection(early.address) as connection:
        connection.send(head_of("PUT", slot.target, said))
        interim = connection.read_head()
        connection.send(chunked(content(10)))
        final = connection.read_answer()

    assert (interim.status, final.status) == (104, 201)


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
