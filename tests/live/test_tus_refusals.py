"""tus: which creation is refused, in which order, and that every refusal arrives (protocol, 3 and 5.2)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.support.http import MIB, Answer, Connection, Site, get, head_of, put, request
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import (
    TUS,
    TUS_BODY,
    Slot,
    chunked,
    content,
    face,
    refusal,
    token_header,
    tus,
    tus_patch,
)
from tests.support.slot import tus_location as created

LARGEST = 8 * MIB
EXPECT = ("Expect", "100-continue")
ORIGIN = ("Origin", "https://chat.example.org")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("tus-refusals"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.fixture(scope="module", params=["direct", "nginx"])
def site(server: Server, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "direct":
        yield server
        return
    with Nginx(server) as proxy:
        yield proxy


def parts_of(server: Server) -> list[str]:
    """Data files of unfinished uploads."""
    return [name for name in tree(server.store_dir) if name.endswith(".part")]


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

    faces = {
        (a.status, a.body, *(pair for pair in a.headers if pair[0] not in ("Date", "X-Request-ID"))) for a in answers
    }
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
    upload_id = created(slot).rpartition("/")[2]
    ways = [".uploads/", ".uploads%2f", "%2euploads/", "/.uploads/", "upload/.uploads/", "./.uploads/"]

    for way in ways:
        tus(server, "HEAD", f"/upload/{way}{upload_id}?v2={'f' * 64}")
    tus(server, "HEAD", f"/other/.uploads/{upload_id}")
    tus(server, "DELETE", f"/upload/.uploads/{upload_id}", token_header("quiet-token-00000000"))

    until(
        lambda: sum(upload_id[:8] in line for line in server.lines("Incoming request: ")) == len(ways) + 2,
        "every request is logged",
    )
    log = server.output()
    assert f" .uploads/{upload_id[:8]} status=" in log
    assert upload_id[:9] not in log
    assert "f" * 64 not in log
    assert "quiet-token" not in log
