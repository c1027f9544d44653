"""tus 1.0.0 over the wire: what is offered, creation, the steps of an upload, and its end (protocol, 5.2)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest

from tests.support.http import MIB, Answer, Headers, get, put, request
from tests.support.server import Server, tree
from tests.support.slot import (
    MORE,
    TUS,
    TUS_BODY,
    Slot,
    content,
    draft_patch,
    face,
    metadata,
    tus,
    tus_patch,
)
from tests.support.slot import tus_location as created

LARGEST = 8 * MIB
ORIGIN = ("Origin", "https://chat.example.org")
EXTENSIONS = {"creation", "creation-with-upload", "expiration", "checksum", "termination"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("tus"), UploadMaxSize=LARGEST) as running:
        yield running


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
    without_tus = request(server, "POST", location, [override, ("Content-Length", "0")])
    asked = tus(server, "HEAD", location, [("X-HTTP-Method-Override", "DELETE")])

    assert (on_file.status, without_tus.status) == (405, 405)
    assert fetched.body == b"there"
    assert (creation.status, creation.get("Location") is None) == (201, False)
    assert (asked.status, asked["Upload-Offset"]) == (200, "5")


# After the end


def test_after_publication_head_tells_the_length_patch_is_refused_and_delete_is_410(server: Server) -> None:
    slot = Slot(server, "published/tus", 10)
    location = created(slot, b"0123456789")

    asked = tus(server, "HEAD", location)
    patches = [tus_patch(server, location, at, body) for at, body in ((10, b""), (0, b"abc"), (11, b"x"))]
    deleted = tus(server, "DELETE", location)

    assert (asked.status, asked["Upload-Offset"], asked["Upload-Length"]) == (200, "10", "10")
    assert face(patches[0]) == (403, "upload-complete")
    # A browser repeats a request whose answer it lost: clients correct a wrong offset, and give up at 403.
    assert [(*face(answer), answer["Upload-Offset"]) for answer in patches[1:]] == [
        (409, "mismatching-upload-offset", "10")
    ] * 2
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
