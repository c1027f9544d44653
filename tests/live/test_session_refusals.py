"""X-Session-Token: which refusal, in which order, and that it arrives (protocol, 3 and 5.1)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.http import MIB, Connection, Site, get, head_of, put, request
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import Slot, chunked, content, face, fresh_token, refusal, token_header

LARGEST = 8 * MIB
EXPECT = ("Expect", "100-continue")
ORIGIN = ("Origin", "https://chat.example.org")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("session-refusals"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.fixture
def token() -> str:
    return fresh_token()


@pytest.fixture
def other() -> str:
    return fresh_token()


@pytest.fixture(scope="module", params=["direct", "nginx"])
def site(server: Server, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "direct":
        yield server
        return
    with Nginx(server) as proxy:
        yield proxy


# Malformed requests: 400 whatever else is wrong with them


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes 0-4",
        "bytes 0-4/*",
        "bytes */*",
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes 0-5/10",
        "bytes -4/10",
        "bytes 0-/10",
        "bytes=0-4/10",
        "bytes  0-4/10",
        "bytes 0-4/10, bytes 0-4/10",
        "items 0-4/10",
        "bytes 0x0-4/10",
        "bytes +0-4/10",
        "bytes 0-4/0000000000000000010",
        "bytes 0-4/9223372036854775808",
        "bytes \u0660-4/10",
        "*/10",
    ],
)
def test_a_content_range_that_is_not_one_or_does_not_fit_the_body_is_400(
    server: Server, value: str, token: str
) -> None:
    slot = Slot(server, "malformed/range", 10)
    before = tree(server.store_dir)
    latin = value.encode().decode("latin-1")

    answers = [each.put(b"01234", [("Content-Range", latin), *token_header(token)]) for each in (slot, slot.unsigned)]

    assert [face(answer) for answer in answers] == [(400, "bad-content-range")] * 2
    assert {answer["X-Session-Token"] for answer in answers} == {token}
    assert tree(server.store_dir) == before


def test_a_question_with_a_body_is_400(server: Server) -> None:
    slot = Slot(server, "malformed/question", 10)

    with_length = slot.put(b"01234", [("Content-Range", "bytes */10")])
    asked = head_of("PUT", slot.target, [("Content-Range", "bytes */10"), ("Transfer-Encoding", "chunked")])
    with Connection(server.address) as connection:
        connection.send(asked + chunked(b"01234"))
        in_chunks = connection.read_answer()

    assert face(with_length) == face(in_chunks) == (400, "bad-content-range")


def test_a_piece_of_unknown_length_is_400(server: Server) -> None:
    slot = Slot(server, "malformed/chunked", 10)
    head = head_of("PUT", slot.target, [slot.range(0, 5), ("Transfer-Encoding", "chunked")])

    with Connection(server.address) as connection:
        connection.send(head + chunked(b"01234"))
        answer = connection.read_answer()

    assert face(answer) == (400, "bad-content-range")


@pytest.mark.parametrize("length", ["5", "11", "-1", "ten", "1" * 40])
def test_an_upload_length_that_contradicts_content_range_is_400(server: Server, length: str, token: str) -> None:
    slot = Slot(server, "malformed/length", 10)
    said = [("Upload-Length", length)]

    answers = [slot.ask(token, said), slot.piece(0, b"01234", token, said), slot.put(b"0123456789", said)]

    assert [face(answer) for answer in answers] == [(400, "bad-header")] * 3


def test_an_upload_length_that_agrees_is_accepted(server: Server, token: str) -> None:
    slot = Slot(server, "malformed/agreeing", 10)

    assert slot.ask(token, [("Upload-Length", "10")]).status == 202
    assert slot.piece(0, b"0123456789", token, [("Upload-Length", "10")]).status == 201


@pytest.mark.parametrize(
    "value",
    [
        "",
        "short",
        "a" * 15,
        "a" * 129,
        "a b" * 9,
        "a" * 16 + "=",
        "a" * 8 + "/" * 8,
        "é" * 16,
        "a" * 16 + "," + "b" * 16,
    ],
)
def test_a_malformed_token_is_400_and_never_comes_back(server: Server, value: str) -> None:
    slot = Slot(server, "malformed/token", 10)
    latin = value.encode().decode("latin-1")
    sent = [("X-Session-Token", latin)]

    answers = [slot.ask("", sent), slot.unsigned.ask("", sent), slot.piece(0, b"01234", "", sent)]
    answers.append(slot.put(b"0123456789", sent))

    assert [face(answer) for answer in answers] == [(400, "bad-header")] * 4
    assert all(answer.get("X-Session-Token") is None for answer in answers)


def test_a_plain_put_with_a_token_and_no_length_is_411(server: Server, token: str) -> None:
    slot = Slot(server, "malformed/no-length", 0)

    answer = request(server, "PUT", slot.target, token_header(token))

    assert face(answer) == (411, "length-required")
    assert answer["X-Session-Token"] == token


# The order of the checks, and what the unsigned may learn


def test_the_unsigned_learn_nothing_of_files_uploads_tokens_and_sizes(server: Server, other: str, token: str) -> None:
    there, running = Slot(server, "unsigned/there", 10), Slot(server, "unsigned/running", 10)
    there.piece(0, b"0123456789", token)
    running.piece(0, b"01234", other)
    slots = [there, running, Slot(server, "unsigned/absent", 10), Slot(server, "unsigned/huge", LARGEST + 1)]

    answers = [slot.unsigned.ask(said) for slot in slots for said in ("", token, other, "one-more-token-000")]
    answers += [slot.unsigned.piece(5, b"56789", other) for slot in slots]
    answers += [slot.unsigned.put(b"0123456789", token_header(other)) for slot in slots]

    own = ("date", "x-session-token", "x-request-id")  # the token is the one that they sent
    faces = {(a.status, a.body, *(pair for pair in a.headers if pair[0].lower() not in own)) for a in answers}
    assert len(faces) == 1
    assert face(answers[0]) == (403, "bad-signature")
    assert answers[0].get("X-Session-Token") is None
    assert all(answer.get("Upload-Offset") is None for answer in answers)


def test_the_size_is_judged_before_existence_and_by_the_total(server: Server, token: str) -> None:
    put(server, "order/there", b"x")
    slot = Slot(server, "order/there", LARGEST + 1)

    answers = [slot.ask(token), slot.piece(0, b"x", token)]

    assert [face(answer) for answer in answers] == [(413, "too-large")] * 2


def test_a_bad_path_comes_before_everything_else(server: Server) -> None:
    answer = request(server, "PUT", "/upload/.hidden/x", [("Content-Range", "nonsense"), ("Content-Length", "0")])

    assert face(answer) == (400, "bad-path")


def test_existence_comes_before_a_token_of_another_slot(server: Server) -> None:
    put(server, "order/taken", b"0123456789")
    Slot(server, "order/elsewhere", 10).piece(0, b"01234", "token-of-elsewhere-1")

    assert face(Slot(server, "order/taken", 10).piece(0, b"01234", "token-of-elsewhere-1")) == (409, "file-exists")


def test_a_path_that_needs_a_file_as_a_folder_is_409(server: Server, token: str) -> None:
    put(server, "conflict", b"x")
    slot = Slot(server, "conflict/below", 10)

    answers = [slot.ask(token), slot.piece(0, b"01234", token), slot.put(b"0123456789", token_header(token))]

    assert [face(answer) for answer in answers] == [(409, "path-conflict")] * 3


@pytest.mark.parametrize(
    "other",
    [("foreign/slot-b", 10, ""), ("foreign/slot-a", 11, ""), ("foreign/slot-a", 10, "text/html")],
    ids=["path", "total", "type"],
)
def test_a_token_of_another_slot_is_403(server: Server, other: tuple[str, int, str]) -> None:
    Slot(server, "foreign/slot-a", 10).piece(0, b"01234", "token-of-slot-a-0000")
    slot = Slot(server, *other)
    body = content(slot.total)

    answers = [
        slot.ask("token-of-slot-a-0000"),
        slot.piece(0, body[:5], "token-of-slot-a-0000"),
        slot.piece(5, body[5:], "token-of-slot-a-0000"),
        slot.put(body, token_header("token-of-slot-a-0000")),
    ]

    assert [face(answer) for answer in answers] == [(403, "wrong-slot")] * 4
    assert Slot(server, "foreign/slot-a", 10).ask("token-of-slot-a-0000")["Upload-Offset"] == "5"


def test_every_refusal_carries_the_token_and_cors(server: Server, token: str) -> None:
    put(server, "dressed/there", b"x")
    Slot(server, "dressed/other", 10).piece(0, b"x", "token-of-dressed-0001")
    slot, there = Slot(server, "dressed/slot", 10), Slot(server, "dressed/there", 10)
    huge = Slot(server, "dressed/huge", LARGEST + 1)
    repeated = replace(slot, query="v2=a&v2=b")

    answers = [
        (400, "bad-query", repeated.ask(token, [ORIGIN])),
        (400, "bad-content-range", slot.put(b"", [("Content-Range", "x"), *token_header(token), ORIGIN])),
        (400, "bad-checksum", slot.ask(token, [("X-Checksum", "x"), ORIGIN])),
        (403, "bad-signature", slot.unsigned.ask(token, [ORIGIN])),
        (403, "wrong-slot", slot.ask("token-of-dressed-0001", [ORIGIN])),
        (404, "unknown-upload", slot.piece(5, b"x", token, [ORIGIN])),
        (409, "file-exists", there.ask(token, [ORIGIN])),
        (412, "precondition-failed", slot.ask(token, [("If-Match", "*"), ORIGIN])),
        (413, "too-large", huge.ask(token, [ORIGIN])),
    ]

    for status, code, answer in answers:
        assert face(answer) == (status, code)
        assert answer["X-Session-Token"] in (token, "token-of-dressed-0001")
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert "X-Session-Token" in answer["Access-Control-Expose-Headers"]


# 100 Continue, large bodies, and the log


def test_an_admitted_piece_is_asked_to_go_on(server: Server, token: str) -> None:
    slot = Slot(server, "continue/admitted", 10)

    with Connection(server.address) as connection:
        connection.send(slot.put_head(5, [slot.range(0, 5), *token_header(token), EXPECT]))
        interim = connection.read_head()
        connection.send(b"01234")
        answer = connection.read_answer()

    assert (interim.status, answer.status) == (100, 202)


def test_a_refused_piece_is_never_asked_to_go_on(server: Server, token: str) -> None:
    put(server, "continue/there", b"x")
    Slot(server, "continue/other", 10).piece(0, b"x", "token-of-continue-001")
    slot, there = Slot(server, "continue/slot", 10), Slot(server, "continue/there", 10)
    huge = Slot(server, "continue/huge", LARGEST + 1)

    refused = [
        (slot.unsigned, slot.range(0, 5), token, 403),
        (slot, ("Content-Range", "bytes 0-9/10"), token, 400),
        (slot, slot.range(5, 5), token, 404),
        (slot, slot.range(5, 5), "token-of-continue-001", 403),
        (there, there.range(0, 5), token, 409),
        (huge, huge.range(0, 5), token, 413),
    ]

    for each, said, token, status in refused:
        answer = refusal(server, each.put_head(5, [said, *token_header(token), EXPECT]))
        assert answer.status == status
        assert answer["Connection"] == "close"


def test_a_refused_piece_of_some_megabytes_is_answered_and_never_a_reset(
    server: Server, site: Site, token: str
) -> None:
    put(server, "large/there", b"x")
    Slot(server, "large/other", LARGEST).piece(0, b"x", "token-of-large-000001")
    body = bytes(LARGEST - 5)
    slot, there = Slot(site, "large/slot", LARGEST), Slot(site, "large/there", LARGEST)

    answers = [
        slot.unsigned.piece(5, body, token),
        slot.piece(5, body, token),
        slot.piece(5, body, "token-of-large-000001"),
        there.piece(5, body, token),
        there.put(bytes(LARGEST), token_header(token)),
    ]

    assert [answer.status for answer in answers] == [403, 404, 403, 409, 409]
    assert {answer["X-Session-Token"] for answer in answers} == {token, "token-of-large-000001"}


def test_an_upload_goes_through_a_proxy_in_pieces(site: Site, token: str) -> None:
    slot = Slot(site, f"large/through-{site.address[1]}", 3 * MIB)
    body = content(slot.total)

    statuses = [slot.piece(at, body[at : at + MIB], token + "-through").status for at in (0, 2 * MIB, MIB)]

    assert statuses == [202, 202, 201]
    assert get(site, slot.path).body == body


def test_a_proxy_that_streams_hands_on_what_arrived_before_the_client_broke_off(server: Server, token: str) -> None:
    with Nginx(server) as proxy:
        slot = Slot(proxy, "large/cut", 3 * MIB)
        body = content(slot.total)

        with Connection(proxy.address) as connection:
            connection.send(slot.put_head(slot.total, [slot.range(0, slot.total), *token_header(token)]))
            connection.send(body[: 2 * MIB])
            until(lambda: slot.ask(token).get("Upload-Offset") not in (None, "0"), "some of it has come through")
        until(lambda: not server.open_store_files(), "the piece has ended")
        offset = int(slot.ask(token)["Upload-Offset"])
        last = slot.piece(offset, body[offset:], token)

        assert 0 < offset <= 2 * MIB
        assert last.status == 201
        assert get(proxy, slot.path).body == body


def test_no_token_and_no_query_is_ever_logged(server: Server) -> None:
    slot = Slot(server, "quiet/slot", 10)
    query = slot.target.partition("?")[2]

    fresh = slot.ask()["X-Session-Token"]
    slot.piece(0, b"01234", "quiet-token-000000001")
    slot.unsigned.piece(0, b"01234", "quiet-token-000000002")
    slot.ask("quiet token 000000003")
    slot.put(b"0123456789", token_header("quiet-token-000000004"))

    until(lambda: len(server.lines("quiet/slot status=")) == 5, "every request is logged")
    log = server.output()
    assert "quiet-token" not in log
    assert "quiet token" not in log
    assert fresh not in log
    assert query not in log


def test_a_total_that_no_disk_can_hold_is_507_for_the_first_piece(
    tmp_path_factory: pytest.TempPathFactory, token: str
) -> None:
    with Server(tmp_path_factory.mktemp("unlimited"), UploadMaxSize=0) as server:
        answer = Slot(server, "space/petabyte", 10**15).piece(0, b"01234", token)

        assert face(answer) == (507, "storage-full")
