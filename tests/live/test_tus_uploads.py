"""Upload resources of tus: versions, ids, offsets and bodies that are not what they should be (protocol, 5.2)."""

from collections.abc import Iterator

import pytest

from tests.support.http import MIB, Connection, Headers, get, head_of, request
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import (
    DRAFT_BODY,
    TUS,
    TUS_BODY,
    Slot,
    chunked,
    content,
    face,
    tus,
    tus_patch,
)
from tests.support.slot import tus_location as created

LARGEST = 8 * MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("tus-uploads"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.mark.parametrize("version", ["", "0.2.2", "1.0", "1.0.0.0", "1.0.1", "2.0.0", "1.0.0, 1.0.0"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "POST"])
def test_another_version_is_412_and_nothing_is_processed(server: Server, method: str, version: str) -> None:
    location = created(Slot(server, f"version/{method}", 10), b"01234")
    said = [("Tus-Resumable", version), TUS_BODY, ("Upload-Offset", "5"), ("Content-Length", "0")]

    for target in (location, "/upload/.uploads/unknown"):
        answer = request(server, method, target, said)

        assert face(answer) == (412, "unsupported-tus-version")
        assert (answer["Tus-Version"], answer["Tus-Resumable"]) == ("1.0.0", "1.0.0")
        assert answer.get("Upload-Offset") is None
    assert tus(server, "HEAD", location)["Upload-Offset"] == "5"


def variants(location: str) -> list[str]:
    """Locations that look like one and are none."""
    base, _, upload_id = location.rpartition("/")
    return [
        f"{base}/",
        f"{base}/x",
        f"{base}/{upload_id}x",
        f"{base}/{upload_id[:-1]}",
        f"{base}/{upload_id}/",
        f"{base}/{upload_id}%00",
        f"{base}/{upload_id}%0a",
        f"{base}/{upload_id[:24]}{upload_id[24:].upper()}A",
        f"{base}/{upload_id[:24]}{'0' * 32}",
        f"{base}/{'A' * 24}{upload_id[24:]}",
        f"{base}/..%2f..%2fpartials%2f{upload_id}",
        f"{base}/../{upload_id}",
        f"{base}/%2e%2e%2f{upload_id}",
        f"{base}/{upload_id[:24]}../../../../../etc/passwd",
        f"{base}/{upload_id[:24]}%FF%FE",
        f"{base}/{'a' * 2000}",
    ]


def test_an_id_that_is_malformed_foreign_or_a_path_is_404_for_every_method(server: Server) -> None:
    location = created(Slot(server, "ids/slot", 10), b"01234")
    before = tree(server.store_dir)

    for target in variants(location):
        answers = [tus(server, "HEAD", target), tus_patch(server, target, 5, b"56789"), tus(server, "DELETE", target)]

        assert [face(answer) for answer in answers] == [(404, "unknown-upload")] * 3, target
        assert all(answer.get("Upload-Offset") is None for answer in answers)
    assert tree(server.store_dir) == before
    assert tus(server, "HEAD", location)["Upload-Offset"] == "5"


def test_an_id_in_upper_case_hex_is_another_one(server: Server) -> None:
    location = created(Slot(server, "ids/upper", 10))
    slot_part = location[-32:]
    assert slot_part != slot_part.upper()

    assert tus(server, "HEAD", location[:-32] + slot_part.upper()).status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "TRACE", "BREW"])
def test_any_other_method_of_an_upload_is_405_and_tells_the_ones_that_are(server: Server, method: str) -> None:
    location = created(Slot(server, f"methods/{method}", 10), b"01234")

    for target in (location, "/upload/.uploads/unknown"):
        for version in ([TUS], []):
            answer = request(server, method, target, [*version, ("Content-Length", "0")])

            assert face(answer) == (405, "method-not-allowed")
            assert set(answer["Allow"].split(", ")) == {"HEAD", "OPTIONS", "PATCH", "POST", "DELETE"}
    assert tus(server, "HEAD", location)["Upload-Offset"] == "5"


def test_an_upload_needs_no_signature_and_a_query_changes_nothing(server: Server) -> None:
    location = created(Slot(server, "ids/query", 10), b"01234")

    assert tus(server, "HEAD", f"{location}?v2={'0' * 64}")["Upload-Offset"] == "5"


@pytest.mark.parametrize("offset", ["0", "4", "6", "10", "11", "9" * 18])
def test_a_patch_at_another_offset_is_409_tells_the_right_one_and_writes_nothing(server: Server, offset: str) -> None:
    location = created(Slot(server, f"offset/{offset}", 10), b"01234")

    answer = tus_patch(server, location, int(offset), b"x")

    assert face(answer) == (409, "mismatching-upload-offset")
    assert (answer["Upload-Offset"], answer["Tus-Resumable"]) == ("5", "1.0.0")
    assert tus(server, "HEAD", location)["Upload-Offset"] == "5"


@pytest.mark.parametrize("offset", [None, "", "-5", "5.0", "five", "9" * 19, "5, 5", "0x5"])
def test_a_patch_without_an_offset_that_can_be_read_is_400(server: Server, offset: str | None) -> None:
    location = created(Slot(server, "offset/malformed", 10), b"01234")
    said = [] if offset is None else [("Upload-Offset", offset)]

    answer = request(server, "PATCH", location, [TUS, TUS_BODY, ("Content-Length", "1"), *said], b"5")

    assert face(answer) == (400, "bad-header")
    assert tus(server, "HEAD", location)["Upload-Offset"] == "5"


@pytest.mark.parametrize("kind", [[], [("Content-Type", "")], [("Content-Type", "text/plain")], [DRAFT_BODY]])
def test_a_patch_with_another_body_type_is_415(server: Server, kind: Headers) -> None:
    location = created(Slot(server, "offset/media", 10), b"01234")

    for target in (location, "/upload/.uploads/unknown"):
        answer = request(server, "PATCH", target, [TUS, ("Upload-Offset", "5"), ("Content-Length", "1"), *kind], b"5")

        assert face(answer) == (415, "bad-media-type")


def test_a_patch_beyond_the_length_is_413_and_writes_nothing(server: Server) -> None:
    location = created(Slot(server, "offset/beyond", 10), b"01234")

    answer = tus_patch(server, location, 5, b"567890")

    assert face(answer) == (413, "body-too-long")
    assert tus(server, "HEAD", location)["Upload-Offset"] == "5"


def test_a_patch_that_breaks_off_keeps_what_arrived(server: Server) -> None:
    slot = Slot(server, "broken/patch", 3 * MIB)
    body = content(slot.total)
    location = created(slot)
    said = [TUS, TUS_BODY, ("Upload-Offset", "0"), ("Content-Length", str(slot.total))]

    with Connection(server.address) as connection:
        connection.send(head_of("PATCH", location, said) + body[: 2 * MIB])
        connection.half_close()
        broken = connection.read_answer()
    offset = int(tus(server, "HEAD", location)["Upload-Offset"])
    last = tus_patch(server, location, offset, body[offset:])

    assert face(broken) == (400, "body-truncated")
    assert offset == 2 * MIB
    assert last.status == 204
    assert get(server, slot.path).body == body


def test_a_head_ends_a_patch_that_stalls_and_its_offset_is_the_last_word(server: Server) -> None:
    slot = Slot(server, "broken/stalled", 2 * MIB)
    body = content(slot.total)
    location = created(slot)
    said = [TUS, TUS_BODY, ("Upload-Offset", "0"), ("Content-Length", str(slot.total))]

    with Connection(server.address) as connection:
        connection.send(head_of("PATCH", location, said) + body[:MIB])
        until(server.open_store_files, "the body is being collected")
        offset = int(tus(server, "HEAD", location)["Upload-Offset"])
        ended = connection.read_answer()
    last = tus_patch(server, location, offset, body[offset:])

    assert face(ended) == (409, "taken-over")
    assert last.status == 204
    assert get(server, slot.path).body == body


def test_a_patch_in_chunks_is_taken_as_far_as_it_goes(server: Server) -> None:
    location = created(Slot(server, "chunks/patch", 10))
    said = [TUS, TUS_BODY, ("Transfer-Encoding", "chunked")]

    some = request(server, "PATCH", location, [*said, ("Upload-Offset", "0")], chunked(b"01", b"234"))
    rest = request(server, "PATCH", location, [*said, ("Upload-Offset", "5")], chunked(b"56789"))

    assert [(a.status, a["Upload-Offset"]) for a in (some, rest)] == [(204, "5"), (204, "10")]
    assert get(server, "chunks/patch").body == b"0123456789"


def test_a_patch_in_chunks_beyond_the_length_is_413_and_publishes_nothing(server: Server) -> None:
    location = created(Slot(server, "chunks/beyond", 10))
    said = [TUS, TUS_BODY, ("Transfer-Encoding", "chunked"), ("Upload-Offset", "0")]

    answer = request(server, "PATCH", location, said, chunked(b"0123456789", b"x"))

    assert face(answer) == (413, "body-too-long")
    assert get(server, "chunks/beyond").status == 404


def test_a_creation_in_chunks_with_the_first_bytes(server: Server) -> None:
    slot = Slot(server, "chunks/create", 10)
    said = [TUS, TUS_BODY, ("Upload-Length", "10"), ("Transfer-Encoding", "chunked")]

    answer = request(server, "POST", slot.target, said, chunked(b"0123", b"4"))

    assert (answer.status, answer["Upload-Offset"]) == (201, "5")
