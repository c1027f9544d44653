"""Resumable Uploads for HTTP, the IETF draft: creation, PATCH and the end of an upload (protocol, 5.3)."""

import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.support.http import MIB, Answer, Connection, Headers, get, head_of, request, url_of
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
    face,
)
from tests.support.slot import draft_location as created

LARGEST = 8 * MIB
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
LIMIT = f"max-size={LARGEST}, min-size=0, max-age=86400"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("draft"), UploadMaxSize=LARGEST) as running:
        yield running


def problem(answer: Answer) -> dict[str, Any]:
    assert answer["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = json.loads(answer.body)
    assert told["status"] == answer.status
    return told


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
