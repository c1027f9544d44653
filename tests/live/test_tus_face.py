"""tus 1.0.0 over the wire: every request of its core and of the extensions that are offered (protocol, 5.2)."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest

from tests.support.http import MIB, Answer, Connection, Headers, Site, get, head_of, put, request
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import (
    DRAFT_BODY,
    MORE,
    TUS,
    TUS_BODY,
    Slot,
    chunked,
    content,
    draft_patch,
    metadata,
    refusal,
    token_header,
    tus,
    tus_patch,
)

LARGEST = 8 * MIB
EXPECT = ("Expect", "100-continue")
ORIGIN = ("Origin", "https://chat.example.org")
EXTENSIONS = {"creation", "creation-with-upload", "expiration", "checksum", "termination"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("tus"), UploadMaxSize=LARGEST) as running:
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


def created(slot: Slot, body: bytes | None = None) -> str:
    """The Location of a new upload."""
    answer = slot.create_tus(body)
    assert answer.status == 201
    return answer["Location"]


def parts_of(server: Server) -> list[str]:
    """Data files of unfinished uploads."""
    return [name for name in tree(server.store_dir) if name.endswith(".part")]


# What the server says of itself


@pytest.mark.parametrize("target", ["/upload/", "/upload/a/b", "/upload/.uploads/anything"])
@pytest.mark.parametrize("version", [[], [TUS], [("Tus-Resumable", "0.2.2")]], ids=["none", "ours", "other"])
def test_options_tells_versions_extensions_and_the_largest_size(server: Server, target: str, version: Headers) -> None:
    answer = request(server, "OPTIONS", target, [*version, ORIGIN])

    assert (answer.status, answer["Tus-Resumable"], answer["Tus-Version"]) == (204, "1.0.0", "1.0.0")
    assert set(answer["Tus-Extension"].split(",")) == EXTENSIONS
    assert set(answer["Tus-Checksum-Algorithm"].split(",")) == {"sha1", "sha256"}
    assert answer["Tus-Max-Size"] == str(LARGEST)
    assert answer["Upload-Limit"].startswith(f"max-size={LARGEST}, min-size=0, max-age=")
    assert {"POST", "PATCH", "DELETE", "HEAD"} <= set(answer["Access-Control-Allow-Methods"].split(", "))


def test_options_tells_the_methods_of_the_resource_itself(server: Server) -> None:
    of_slot, of_upload = (request(server, "OPTIONS", f"/upload/{name}")["Allow"] for name in ("a/b", ".uploads/x"))

    assert set(of_slot.split(", ")) == {"GET", "HEAD", "OPTIONS", "PUT", "POST"}
    assert set(of_upload.split(", ")) == {"HEAD", "OPTIONS", "PATCH", "POST", "DELETE"}


# Creation


def test_a_creation_gives_a_path_absolute_location_that_nobody_can_guess(server: Server) -> None:
    slot = Slot(server, "create/plain", 10)

    first, second = slot.create_tus(), slot.create_tus()

    assert (first.status, first["Tus-Resumable"], first["Content-Length"]) == (201, "1.0.0", "0")
    assert re.fullmatch(r"/upload/\.uploads/[A-Za-z0-9_-]{24,}", first["Location"])
    assert first["Location"][:40] != second["Location"][:40]
    assert parsedate_to_datetime(first["Upload-Expires"])
    assert get(server, slot.path).status == 404


def test_the_steps_of_the_core_protocol_end_in_a_file_with_its_type(server: Server) -> None:
    slot = Slot(server, "core/steps.png", 300_000, "image/png")
    body = content(slot.total)
    location = created(slot)

    begun = tus(server, "HEAD", location)
    first = tus_patch(server, location, 0, body[:100_000])
    middle = tus(server, "HEAD", location)
    early = get(server, slot.path)
    last = tus_patch(server, location, 100_000, body[100_000:])

    assert [(a.status, a["Upload-Offset"]) for a in (begun, middle)] == [(200, "0"), (200, "100000")]
    assert [(a.status, a["Upload-Offset"]) for a in (first, last)] == [(204, "100000"), (204, "300000")]
    assert {a["Tus-Resumable"] for a in (begun, first, middle, last)} == {"1.0.0"}
    assert all(parsedate_to_datetime(a["Upload-Expires"]) for a in (begun, first, middle))
    assert {begun["Upload-Length"], middle["Upload-Length"]} == {"300000"}
    assert {begun["Cache-Control"], middle["Cache-Control"]} == {"no-store"}
    assert early.status == 404
    assert (get(server, slot.path).body, get(server, slot.path)["Content-Type"]) == (body, "image/png")


def test_a_creation_takes_the_first_bytes_or_all_of_them(server: Server) -> None:
    some, whole = Slot(server, "create/some", 10), Slot(server, "create/whole", 10)

    first, only = some.create_tus(b"01234"), whole.create_tus(b"0123456789")
    rest = tus_patch(server, first["Location"], 5, b"56789")

    assert (first.status, first["Upload-Offset"]) == (201, "5")
    assert (only.status, only["Upload-Offset"]) == (201, "10")
    assert (rest.status, get(server, "create/some").body) == (204, b"0123456789")
    assert get(server, "create/whole").body == b"0123456789"


def test_a_file_of_no_bytes_is_there_after_its_creation(server: Server) -> None:
    slot = Slot(server, "create/empty", 0)

    answer = slot.create_tus()
    asked = tus(server, "HEAD", answer["Location"])

    assert answer.status == 201
    assert (asked.status, asked["Upload-Offset"], asked["Upload-Length"]) == (200, "0", "0")
    assert (get(server, slot.path).status, get(server, slot.path).body) == (200, b"")


def test_the_metadata_come_back_as_they_were_written(server: Server) -> None:
    slot = Slot(server, "create/metadata", 10, "text/plain")
    words = f"{metadata(filename='Grüße.txt')[0][1]},is_confidential,{metadata(filetype='text/plain')[0][1]}"

    answer = replace(slot, content_type="", query=slot.target.partition("?")[2]).create_tus(
        None, [("Upload-Metadata", words)]
    )

    assert tus(server, "HEAD", answer["Location"])["Upload-Metadata"] == words


@pytest.mark.parametrize("protocol", ["v", "v2", "token"])
def test_the_type_comes_from_filetype_and_is_stored(server: Server, protocol: str) -> None:
    slot = Slot(server, f"create/type-{protocol}", 3, "text/x-tus", protocol)

    tus_patch(server, created(slot), 0, b"abc")

    assert get(server, slot.path)["Content-Type"] == "text/x-tus"


def test_a_filetype_that_was_not_signed_is_403(server: Server) -> None:
    slot = Slot(server, "create/other-type", 3, "text/plain")

    answers = [
        replace(slot, content_type=kind, query=slot.target.partition("?")[2]).create_tus() for kind in ("text/html", "")
    ]

    assert [face(answer) for answer in answers] == [(403, "bad-signature")] * 2


def test_the_content_type_of_the_request_is_not_the_type_of_the_file(server: Server) -> None:
    slot = Slot(server, "create/body-type", 3)

    assert slot.create_tus(b"abc").status == 201
    assert get(server, slot.path)["Content-Type"] == "application/octet-stream"


# Creations that are refused


@pytest.mark.parametrize("length", [None, "", "-1", "+1", "1.0", "ten", "1" * 19, "10, 10", "\u0661\u0660"])
def test_a_creation_without_a_length_that_can_be_read_is_400(server: Server, length: str | None) -> None:
    slot = Slot(server, "refused/length", 10)
    said = [] if length is None else [("Upload-Length", length.encode().decode("latin-1"))]

    answers = [
        request(server, "POST", each.target, [TUS, ("Content-Length", "0"), *said]) for each in (slot, slot.unsigned)
    ]

    assert [face(answer) for answer in answers] == [(400, "bad-header")] * 2
    assert {answer["Tus-Resumable"] for answer in answers} == {"1.0.0"}


@pytest.mark.parametrize(
    "extra", [("Upload-Defer-Length", "1"), ("Upload-Concat", "partial"), ("Upload-Concat", "final;/upload/.uploads/x")]
)
def test_what_is_not_offered_is_refused_and_not_ignored(server: Server, extra: tuple[str, str]) -> None:
    answer = Slot(server, "refused/extension", 10).create_tus(None, [extra])

    assert face(answer) == (400, "bad-header")


@pytest.mark.parametrize("said", ["bytes 0-4/20", "bytes */10", "nonsense"])
def test_a_content_range_beside_a_creation_is_refused_and_not_ignored(server: Server, said: str) -> None:
    answer = Slot(server, "refused/range", 10).create_tus(None, [("Content-Range", said)])

    assert face(answer) == (400, "bad-content-range")


@pytest.mark.parametrize(
    "words",
    [
        ",",
        "filetype dGV4dC9wbGFpbg==,filetype dGV4dC9wbGFpbg==",
        "filetype not-base64",
        "filetype dGV4dA",
        " filetype  dGV4dA==",
        "name dGV4dA== more",
        "filetype " + "QUFB" * 90,
        "filetype dGV4dAo=",
        "filetype w7w=",
    ],
)
def test_metadata_that_cannot_be_read_is_400(server: Server, words: str) -> None:
    answer = Slot(server, "refused/metadata", 10).create_tus(None, [("Upload-Metadata", words)])

    assert face(answer) == (400, "bad-header")


def test_a_creation_whose_body_is_refused_leaves_nothing_because_nobody_knows_its_location(server: Server) -> None:
    slot = Slot(server, "refused/longer", 5)
    before = parts_of(server)

    longer = slot.create_tus(b"0123456789")
    damaged = slot.create_tus(b"0123", [("Upload-Checksum", "sha1 " + "A" * 27 + "=")])

    assert face(longer) == (413, "body-too-long")
    assert face(damaged) == (460, "checksum-mismatch")
    assert parts_of(server) == before
    assert get(server, slot.path).status == 404


def test_the_order_of_checks_of_a_creation(server: Server) -> None:
    put(server, "order/there", b"0123456789")
    slot, there = Slot(server, "order/slot", 10), Slot(server, "order/there", 10)
    below, huge = Slot(server, "order/there/below", 10), Slot(server, "order/there", LARGEST + 1)
    other = [("Content-Type", "text/plain")]
    coded = [TUS, TUS_BODY, ("Upload-Length", "10"), ("Transfer-Encoding", "gzip, chunked")]

    refused = [
        (400, "bad-path", Slot(server, ".hidden/x", 10).unsigned.create_tus()),
        (412, "unsupported-tus-version", request(server, "POST", there.unsigned.target, [("Tus-Resumable", "0.2.2")])),
        (400, "bad-query", replace(there, query="v=1&v=2").create_tus()),
        (403, "bad-signature", there.unsigned.create_tus()),
        (403, "bad-signature", huge.unsigned.create_tus()),
        (403, "bad-signature", below.unsigned.create_tus()),
        (403, "bad-signature", there.unsigned.create_tus(None, [("If-Match", "*")])),
        (413, "too-large", huge.create_tus()),
        (409, "file-exists", there.create_tus()),
        (409, "path-conflict", below.create_tus()),
        (412, "precondition-failed", slot.create_tus(None, [("If-Match", "*")])),
        (501, "unsupported-coding", request(server, "POST", slot.unsigned.target, coded, chunked(b"x"))),
    ]
    of_body = request(
        server, "POST", slot.target, [TUS, ("Upload-Length", "10"), ("Content-Length", "1"), *other], b"x"
    )

    assert [face(answer) for _, _, answer in refused] == [(status, code) for status, code, _ in refused]
    assert face(of_body) == (415, "bad-media-type")
    assert {answer["Tus-Resumable"] for status, _, answer in refused[1:]} == {"1.0.0"}
    assert refused[1][2]["Tus-Version"] == "1.0.0"


def test_the_unsigned_cannot_tell_slots_apart(server: Server) -> None:
    put(server, "unsigned/there", b"0123456789")
    created(Slot(server, "unsigned/running", 10), b"01234")
    slots = [Slot(server, f"unsigned/{name}", 10) for name in ("there", "running", "absent", "there/below")]

    answers = [slot.unsigned.create_tus() for slot in (*slots, Slot(server, "unsigned/huge", LARGEST + 1))]

    faces = {(a.status, a.body, *(pair for pair in a.headers if pair[0] != "Date")) for a in answers}
    assert len(faces) == 1
    assert answers[0].get("Upload-Offset") is None


def test_a_body_of_another_type_is_not_judged_before_the_signature(server: Server) -> None:
    slot = Slot(server, "unsigned/media-type", 10).unsigned
    said = [TUS, ("Upload-Length", "10"), ("Content-Length", "1"), ("Content-Type", "text/plain")]

    assert face(request(server, "POST", slot.target, said, b"x")) == (403, "bad-signature")


def test_a_post_without_tus_is_405(server: Server) -> None:
    slot = Slot(server, "refused/post", 10)
    location = created(slot)

    on_slot = request(server, "POST", slot.target, [("Content-Length", "0"), ("Upload-Length", "10")])
    on_upload = request(server, "POST", location, [("Content-Length", "0")])

    assert face(on_slot) == face(on_upload) == (405, "method-not-allowed")
    assert "POST" in on_slot["Allow"]


def test_a_total_that_no_disk_can_hold_is_507_at_creation(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("unlimited"), UploadMaxSize=0) as server:
        answer = Slot(server, "space/petabyte", 10**15).create_tus()
        told = request(server, "OPTIONS", "/upload/")

    assert face(answer) == (507, "storage-full")
    assert told.get("Tus-Max-Size") is None


# Upload resources


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


# POST in the place of another method


def test_post_stands_in_for_the_methods_of_an_upload(server: Server) -> None:
    slot = Slot(server, "override/steps", 10)
    location = created(slot)

    def instead_of(method: str, headers: Headers = (), body: bytes = b"") -> Answer:
        said = [TUS, ("X-HTTP-Method-Override", method), ("Content-Length", str(len(body))), *headers]
        return request(server, "POST", location, said, body)

    patched = instead_of("PATCH", [TUS_BODY, ("Upload-Offset", "0")], b"01234")
    asked = instead_of("HEAD")
    ended = instead_of("DELETE")

    assert (patched.status, patched["Upload-Offset"]) == (204, "5")
    assert (asked.status, asked["Upload-Offset"]) == (200, "5")
    assert ended.status == 204
    assert tus(server, "HEAD", location).status == 404


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "HEAD", "PUT", "GET"])
def test_the_override_counts_for_nothing_else(server: Server, method: str) -> None:
    there = Slot(server, f"override/there-{method}", 5)
    put(server, there.path, b"there")
    override = ("X-HTTP-Method-Override", method)
    location = created(Slot(server, f"override/upload-{method}", 10), b"01234")

    on_file = request(server, "POST", f"/upload/{there.path}", [override, ("Content-Length", "0")])
    fetched = get(server, there.path, [("X-HTTP-Method-Override", "DELETE")])
    creation = Slot(server, f"override/new-{method}", 10).create_tus(None, [override])
    asked = tus(server, "HEAD", location, [("X-HTTP-Method-Override", "DELETE")])

    assert on_file.status == 405
    assert fetched.body == b"there"
    assert (creation.status, creation.get("Location") is None) == (201, False)
    assert (asked.status, asked["Upload-Offset"]) == (200, "5")


# After the end


def test_after_publication_head_tells_the_length_patch_is_403_and_delete_410(server: Server) -> None:
    slot = Slot(server, "published/tus", 10)
    location = created(slot, b"0123456789")

    asked = tus(server, "HEAD", location)
    patches = [tus_patch(server, location, at, body) for at, body in ((10, b""), (0, b"abc"), (11, b"x"))]
    deleted = tus(server, "DELETE", location)

    assert (asked.status, asked["Upload-Offset"], asked["Upload-Length"]) == (200, "10", "10")
    assert [face(answer) for answer in patches] == [(403, "upload-complete")] * 3
    assert face(deleted) == (410, "upload-gone")
    assert get(server, slot.path).body == b"0123456789"


def test_a_terminated_upload_is_404_from_then_on_and_its_bytes_are_gone(server: Server) -> None:
    before = parts_of(server)
    location = created(Slot(server, "terminated/tus", 10), b"01234")

    ended = tus(server, "DELETE", location)
    later = [tus(server, "HEAD", location), tus_patch(server, location, 5, b"5"), tus(server, "DELETE", location)]

    assert (ended.status, ended["Tus-Resumable"]) == (204, "1.0.0")
    assert [face(answer) for answer in later] == [(404, "unknown-upload")] * 3
    assert later[0].get("Upload-Offset") is None
    assert parts_of(server) == before


def test_a_completion_that_meets_a_file_is_409_and_the_partial_goes(server: Server) -> None:
    slot = Slot(server, "published/raced", 10)
    location = created(slot, b"01234")
    (server.store_dir / "published").mkdir(exist_ok=True)
    (server.store_dir / slot.path).write_bytes(b"from elsewhere")

    answer = tus_patch(server, location, 5, b"56789")

    assert face(answer) == (409, "file-exists")
    assert tus(server, "HEAD", location).status == 404
    assert get(server, slot.path).body == b"from elsewhere"


def test_an_upload_that_is_whole_and_not_published_is_published_when_a_client_asks(server: Server) -> None:
    slot = Slot(server, "published/late", 10)
    location = created(slot, b"01234")
    draft_patch(server, location, 5, b"56789", MORE)  # leaves it so, as a crash does before publication
    early = get(server, slot.path).status

    asked = tus(server, "HEAD", location)

    assert early == 404
    assert (asked.status, asked["Upload-Offset"]) == (200, "10")
    assert get(server, slot.path).body == b"0123456789"


def test_a_plain_put_of_the_slot_ends_its_uploads(server: Server) -> None:
    slot = Slot(server, "published/by-put", 10)
    location = created(slot, b"01234")

    put(server, slot.path, b"0123456789")

    assert tus(server, "HEAD", location).status == 404


# What surrounds it


def test_every_refusal_can_be_read_by_a_browser(server: Server) -> None:
    put(server, "cors/there", b"0123456789")
    done = created(Slot(server, "cors/done", 3), b"abc")
    running = created(Slot(server, "cors/running", 10), b"01234")
    wrong_sum = [("Upload-Checksum", "sha1 " + "A" * 27 + "="), ORIGIN]

    answers = {
        201: Slot(server, "cors/new", 10).create_tus(None, [ORIGIN]),
        204: tus_patch(server, running, 5, b"", [ORIGIN]),
        200: tus(server, "HEAD", running, [ORIGIN]),
        400: tus_patch(server, running, 5, b"", [("Upload-Checksum", "crc32 AAAA"), ORIGIN]),
        403: tus_patch(server, done, 3, b"", [ORIGIN]),
        404: tus(server, "HEAD", "/upload/.uploads/x", [ORIGIN]),
        405: tus(server, "GET", running, [ORIGIN]),
        409: tus_patch(server, running, 0, b"x", [ORIGIN]),
        410: tus(server, "DELETE", done, [ORIGIN]),
        412: request(server, "HEAD", running, [("Tus-Resumable", "2"), ORIGIN]),
        413: tus_patch(server, running, 5, b"123456", [ORIGIN]),
        415: request(server, "PATCH", running, [TUS, ("Content-Length", "0"), ORIGIN]),
        460: tus_patch(server, running, 5, b"5", wrong_sum),
    }

    for status, answer in answers.items():
        assert answer.status == status
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert "Upload-Offset" in answer["Access-Control-Expose-Headers"]
        assert answer["Tus-Resumable"] == "1.0.0"
    assert answers[460].reason == "Checksum Mismatch"


@pytest.mark.parametrize("status", [403, 460])
def test_a_problem_tells_the_status_that_the_answer_has(server: Server, status: int) -> None:
    asks = ("Accept", "application/json")
    done, running = (created(Slot(server, f"problem/{status}-{n}", 3), b"abc"[:n]) for n in (3, 1))
    wrong_sum = ("Upload-Checksum", "sha1 " + "A" * 27 + "=")

    answer = (
        tus_patch(server, done, 3, b"", [asks])
        if status == 403
        else tus_patch(server, running, 1, b"b", [asks, wrong_sum])
    )

    assert answer.status == json.loads(answer.body)["status"] == status
    assert json.loads(answer.body)["title"] == answer.reason


def test_an_admitted_patch_is_asked_to_go_on_and_a_refused_one_never(server: Server) -> None:
    location = created(Slot(server, "continue/patch", 10), b"01234")
    done = created(Slot(server, "continue/done", 3), b"abc")
    slot, there = Slot(server, "continue/slot", 10), Slot(server, "continue/done", 3)

    def head(target: str, offset: int, length: int = 5, method: str = "PATCH") -> bytes:
        said = [TUS, TUS_BODY, ("Upload-Offset", str(offset)), ("Upload-Length", "10"), EXPECT]
        return head_of(method, target, [*said, ("Content-Length", str(length))])

    refused = [
        (409, head(location, 0)),
        (413, head(location, 5, 6)),
        (403, head(done, 3)),
        (404, head("/upload/.uploads/unknown", 0)),
        (403, head(slot.unsigned.target, 0, method="POST")),
        (409, head_of("POST", there.target, [TUS, TUS_BODY, ("Upload-Length", "3"), ("Content-Length", "3"), EXPECT])),
    ]

    assert [refusal(server, each).status for _, each in refused] == [status for status, _ in refused]
    with Connection(server.address) as connection:
        connection.send(head(location, 5))
        interim = connection.read_head()
        connection.send(b"56789")
        assert (interim.status, connection.read_answer().status) == (100, 204)


REFUSED: dict[int, Callable[[Site, str, str, bytes], Answer]] = {
    403: lambda site, done, running, body: tus_patch(site, done, 3, body),
    404: lambda site, done, running, body: tus_patch(site, "/upload/.uploads/unknown", 0, body),
    409: lambda site, done, running, body: tus_patch(site, running, 0, body),
    412: lambda site, done, running, body: request(
        site, "PATCH", running, [("Tus-Resumable", "2"), ("Content-Length", str(len(body)))], body
    ),
    413: lambda site, done, running, body: tus_patch(site, running, 5, body),
    415: lambda site, done, running, body: request(
        site, "PATCH", running, [TUS, ("Content-Length", str(len(body)))], body
    ),
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_patch_of_some_megabytes_is_answered_and_never_a_reset(
    server: Server, site: Site, status: int
) -> None:
    name = f"large/{site.address[1]}-{status}"
    done, running = created(Slot(server, f"{name}-done", 3), b"abc"), created(Slot(server, name, 10), b"01234")

    answer = REFUSED[status](site, done, running, bytes(LARGEST))

    assert answer.status == status
    assert answer["Tus-Resumable"] == "1.0.0"


def test_an_upload_goes_through_a_proxy(site: Site) -> None:
    slot = Slot(site, f"large/through-{site.address[1]}", 3 * MIB)
    body = content(slot.total)

    location = created(slot, body[:MIB])
    tus_patch(site, location, MIB, body[MIB:])

    assert get(site, slot.path).body == body


def test_an_id_is_never_in_the_log_beyond_eight_characters(server: Server) -> None:
    slot = Slot(server, "quiet/tus", 10)
    seen = len(server.lines("status="))
    upload_id = created(slot).rpartition("/")[2]
    ways = [".uploads/", ".uploads%2f", "%2euploads/", "/.uploads/", "upload/.uploads/", "./.uploads/"]

    for way in ways:
        tus(server, "HEAD", f"/upload/{way}{upload_id}?v2={'f' * 64}")
    tus(server, "HEAD", f"/other/.uploads/{upload_id}")
    tus(server, "DELETE", f"/upload/.uploads/{upload_id}", token_header("quiet-token-00000000"))

    until(lambda: len(server.lines("status=")) == seen + len(ways) + 3, "every request is logged")
    log = server.output()
    assert f" .uploads/{upload_id[:8]} status=" in log
    assert upload_id[:9] not in log
    assert "f" * 64 not in log
    assert "quiet-token" not in log
