"""104 Upload Resumption Supported: to whom it is sent, and to whom never (protocol, 5.3)."""

import re
from collections.abc import Iterator

import pytest

from tests.support.http import MIB, Answer, Connection, Headers, get, head_of, put, request
from tests.support.server import Server
from tests.support.slot import (
    LAST,
    Slot,
    chunked,
    content,
    draft_patch,
    refusal,
)

LARGEST = 8 * MIB
EXPECT = ("Expect", "100-continue")
LIMIT = f"max-size={LARGEST}, min-size=0, max-age=86400"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("draft-interim"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Sends 104 responses."""
    folder = tmp_path_factory.mktemp("early")
    with Server(folder, UploadMaxSize=LARGEST, EnableInterimResponses=True) as running:
        yield running


def interop(version: int) -> tuple[str, str]:
    return "Upload-Draft-Interop-Version", str(version)


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
