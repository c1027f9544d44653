"""X-Session-Token with Content-Range: asking, continuing, and plain PUTs with a token (protocol, 5.1)."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.http import MIB, Answer, Connection, Headers, get, put, url_of
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import Slot, content, face, fresh_token, token_header

LARGEST = 8 * MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("session"), UploadMaxSize=LARGEST) as running:
        yield running


@pytest.fixture
def token() -> str:
    return fresh_token()


@pytest.fixture
def other() -> str:
    return fresh_token()


# Asking


def test_asking_for_an_upload_that_has_not_begun_gives_a_fresh_token_and_offset_0(server: Server) -> None:
    slot = Slot(server, "ask/fresh", 10)
    before = tree(server.store_dir)

    first, second = slot.ask(), slot.ask()

    assert [(answer.status, answer["Upload-Offset"]) for answer in (first, second)] == [(202, "0")] * 2
    assert re.fullmatch(r"[A-Za-z0-9_-]{16,128}", first["X-Session-Token"])
    assert first["X-Session-Token"] != second["X-Session-Token"]
    assert tree(server.store_dir) == before


@pytest.mark.parametrize("token", ["a" * 16, "Z_-9" * 32])
def test_an_unknown_token_stands_for_an_upload_at_offset_0(server: Server, token: str) -> None:
    answer = Slot(server, "ask/unknown", 10).ask(token)

    assert (answer.status, answer["Upload-Offset"], answer["X-Session-Token"]) == (202, "0", token)


def test_asking_without_a_token_tells_the_furthest_upload_of_the_slot_and_its_token(
    server: Server, other: str, token: str
) -> None:
    slot = Slot(server, "ask/furthest", 30)
    slot.piece(0, b"a" * 5, token)
    slot.piece(0, b"b" * 20, other)

    answer = slot.ask()

    assert (answer.status, answer["Upload-Offset"], answer["X-Session-Token"]) == (202, "20", other)
    assert slot.ask(token)["Upload-Offset"] == "5"


def test_asking_ends_nothing(server: Server, token: str) -> None:
    slot = Slot(server, "ask/meanwhile", 2 * MIB)
    body = content(slot.total)

    with Connection(server.address) as connection:
        connection.send(slot.put_head(slot.total, [slot.range(0, slot.total), *token_header(token)]))
        connection.send(body[:MIB])
        told = until(lambda: int(slot.ask(token)["Upload-Offset"]), "some of it is recorded")
        connection.send(body[MIB:])
        created = connection.read_answer()

    assert 0 < told <= MIB
    assert created.status == 201
    assert get(server, slot.path).body == body


# Continuing


def test_pieces_in_order_end_in_a_file_with_its_type(server: Server, token: str) -> None:
    slot = Slot(server, "pieces/in-order.jpg", 300_000, "image/jpeg")
    body = content(slot.total)

    answers = [slot.piece(at, body[at : at + 100_000], token) for at in (0, 100_000)]
    early = get(server, slot.path)
    last = slot.piece(200_000, body[200_000:], token)
    fetched = get(server, slot.path)

    assert [(answer.status, answer["Upload-Offset"]) for answer in answers] == [(202, "100000"), (202, "200000")]
    assert early.status == 404
    assert (last.status, last["Upload-Offset"], last.body) == (201, "300000", b"")
    assert (last["Location"], last["ETag"]) == (url_of(server, slot.path), fetched["ETag"])
    assert (fetched.body, fetched["Content-Type"]) == (body, "image/jpeg")
    assert {answer["X-Session-Token"] for answer in (*answers, last)} == {token}


def test_pieces_may_come_in_any_order_and_the_offset_is_the_gap_free_beginning(server: Server, token: str) -> None:
    slot = Slot(server, "pieces/any-order", 50)
    body = content(50)
    slot.ask(token)
    slot.piece(0, body[:1], token)

    offsets = [
        slot.piece(first, body[first:end], token)["Upload-Offset"]
        for first, end in ((40, 50), (20, 30), (1, 10), (10, 20), (25, 35), (35, 40))
    ]

    assert offsets == ["1", "1", "10", "30", "35", "50"]
    assert get(server, slot.path).body == body


def test_a_byte_once_recorded_is_never_written_again(server: Server, token: str) -> None:
    slot = Slot(server, "pieces/repeated", 20)
    slot.piece(0, b"a" * 10, token)

    repeated = slot.piece(5, b"b" * 10, token)
    last = slot.piece(0, b"c" * 20, token)

    assert (repeated.status, repeated["Upload-Offset"]) == (202, "15")
    assert last.status == 201
    assert get(server, slot.path).body == b"a" * 10 + b"b" * 5 + b"c" * 5


def test_a_piece_that_is_the_whole_file_is_201_at_once(server: Server) -> None:
    slot = Slot(server, "pieces/only", 10)

    assert slot.piece(0, b"0123456789").status == 201
    assert get(server, slot.path).body == b"0123456789"


def test_a_first_piece_without_a_token_gets_one_and_the_next_finds_the_upload_without_it(server: Server) -> None:
    slot = Slot(server, "pieces/no-token", 10)

    first = slot.piece(0, b"01234")
    last = slot.piece(5, b"56789")

    assert (first.status, last.status) == (202, 201)
    assert last["X-Session-Token"] == first["X-Session-Token"]


def test_a_later_piece_of_an_unknown_upload_is_404(server: Server, token: str) -> None:
    slot = Slot(server, "pieces/unknown", 10)

    with_token, without = slot.piece(5, b"56789", token), slot.piece(5, b"56789")

    assert face(with_token) == face(without) == (404, "unknown-upload")
    assert with_token["X-Session-Token"] == token


def test_a_piece_that_breaks_off_keeps_what_arrived(server: Server, token: str) -> None:
    slot = Slot(server, "pieces/broken", 3 * MIB)
    body = content(slot.total)

    with Connection(server.address) as connection:
        connection.send(slot.put_head(slot.total, [slot.range(0, slot.total), *token_header(token)]))
        connection.send(body[: 2 * MIB])
        connection.half_close()
        broken = connection.read_answer()
    offset = int(slot.ask(token)["Upload-Offset"])
    last = slot.piece(offset, body[offset:], token)

    assert face(broken) == (400, "body-truncated")
    assert broken["X-Session-Token"] == token
    assert offset == 2 * MIB
    assert last.status == 201
    assert get(server, slot.path).body == body


@pytest.mark.parametrize("protocol", ["v", "v2", "token"])
def test_every_protocol_signs_the_total_and_repeats_it_on_each_piece(server: Server, protocol: str, token: str) -> None:
    slot = Slot(server, f"signed/{protocol}", 10, "text/x-signed", protocol)

    statuses = [slot.ask(token + protocol).status, slot.piece(0, b"01234", token + protocol).status]
    statuses.append(slot.piece(5, b"56789", token + protocol).status)

    assert statuses == [202, 202, 201]
    assert get(server, slot.path)["Content-Type"] == "text/x-signed"


def test_a_mac_over_the_length_of_a_piece_is_refused(server: Server) -> None:
    slot, of_piece = Slot(server, "signed/piece", 10), Slot(server, "signed/piece", 5)

    answer = replace(slot, query=of_piece.target.partition("?")[2]).piece(0, b"01234")

    assert face(answer) == (403, "bad-signature")


def test_a_piece_with_another_type_than_the_signed_one_is_refused(server: Server, other: str, token: str) -> None:
    by_v2, by_v = (Slot(server, f"signed/type-{name}", 10, "text/plain", name) for name in ("v2", "v"))
    by_v2.piece(0, b"01234", token)
    by_v.piece(0, b"01234", other)

    with_v2 = replace(by_v2, content_type="text/html", query=by_v2.target.partition("?")[2]).piece(5, b"56789", token)
    with_v = replace(by_v, content_type="text/html").piece(5, b"56789", other)

    assert face(with_v2) == (403, "bad-signature")
    assert face(with_v) == (403, "wrong-slot")  # v signs no type, yet the upload has one


# After the file is there


def test_after_publication_the_right_token_gets_201_and_any_other_409(server: Server, other: str, token: str) -> None:
    slot = Slot(server, "published/file", 10)
    etag = slot.piece(0, b"0123456789", token)["ETag"]

    right = [slot.ask(token), slot.piece(0, b"abcde", token), slot.piece(5, b"fghij", token)]
    wrong = [slot.ask(other), slot.piece(0, b"abcde", other), slot.piece(5, b"abcde", other), slot.piece(0, b"abcde")]

    assert [(a.status, a["ETag"], a["Upload-Offset"], a["X-Session-Token"]) for a in right] == [
        (201, etag, "10", token)
    ] * 3
    assert [face(answer) for answer in wrong] == [(409, "file-exists")] * 4
    assert get(server, slot.path).body == b"0123456789"


def test_asking_without_a_token_for_a_published_file_is_201_if_the_size_is_the_total(server: Server) -> None:
    put(server, "published/plain", b"0123456789")

    equal, other = Slot(server, "published/plain", 10).ask(), Slot(server, "published/plain", 11).ask()

    assert (equal.status, equal["Location"]) == (201, "/upload/published/plain")
    assert face(other) == (409, "file-exists")


def test_the_token_of_a_plain_put_proves_the_file_too(server: Server, other: str, token: str) -> None:
    slot = Slot(server, "published/by-put", 10)
    created = slot.put(b"0123456789", token_header(token))

    assert (created.status, created["X-Session-Token"]) == (201, token)
    assert slot.ask(token).status == 201
    assert face(slot.ask(other)) == (409, "file-exists")


def test_a_published_slot_has_no_partials_left(server: Server, other: str, token: str) -> None:
    slot = Slot(server, "published/cleared", 10)
    slot.piece(0, b"01", token)
    slot.piece(0, b"012", other)

    put(server, slot.path, b"0123456789")

    assert face(slot.piece(3, b"3456789", other)) == (409, "file-exists")
    assert not [name for name in tree(server.store_dir) if name.endswith((".part", ".log")) and "published" in name]


# A plain PUT with a token


def broken_put(slot: Slot, body: bytes, sent: int, headers: Headers) -> Answer:
    """A PUT of ``body`` that ends after ``sent`` bytes."""
    with Connection(slot.site.address) as connection:
        connection.send(slot.put_head(len(body), headers) + body[:sent])
        connection.half_close()
        return connection.read_answer()


def test_a_plain_put_that_breaks_off_is_continued_under_its_token(server: Server, token: str) -> None:
    slot = Slot(server, "plain/broken", 3 * MIB, "video/mp4")
    body = content(slot.total)

    broken = broken_put(slot, body, 2 * MIB, token_header(token))
    offset = int(slot.ask(token)["Upload-Offset"])
    last = slot.piece(offset, body[offset:], token)

    assert face(broken) == (400, "body-truncated")
    assert broken["X-Session-Token"] == token
    assert offset == 2 * MIB
    assert last.status == 201
    assert get(server, slot.path).body == body


def test_a_plain_put_never_merges_and_takes_the_place_of_what_is_shorter(server: Server, token: str) -> None:
    slot = Slot(server, "plain/replaced", 3 * MIB)
    slot.piece(0, b"a" * MIB, token)

    broken_put(slot, b"b" * slot.total, 2 * MIB, token_header(token))
    offset = int(slot.ask(token)["Upload-Offset"])
    last = slot.piece(offset, b"c" * (slot.total - offset), token)

    assert offset == 2 * MIB
    assert last.status == 201
    assert get(server, slot.path).body == b"b" * 2 * MIB + b"c" * MIB


def test_a_plain_put_that_got_less_far_changes_nothing(server: Server, token: str) -> None:
    slot = Slot(server, "plain/shorter", 3 * MIB)
    slot.piece(0, b"a" * 2 * MIB, token)

    broken_put(slot, b"b" * slot.total, MIB, token_header(token))
    offset = int(slot.ask(token)["Upload-Offset"])
    slot.piece(offset, b"c" * (slot.total - offset), token)

    assert offset == 2 * MIB
    assert get(server, slot.path).body == b"a" * 2 * MIB + b"c" * MIB


def test_a_plain_put_without_a_token_that_breaks_off_is_dropped(server: Server) -> None:
    slot = Slot(server, "plain/dropped", 2 * MIB)
    before = tree(server.store_dir)

    broken = broken_put(slot, content(slot.total), MIB, [])

    assert broken.status == 400
    until(lambda: tree(server.store_dir) == before, "nothing of it is left")
    assert slot.ask()["Upload-Offset"] == "0"


def test_a_plain_put_with_a_token_and_if_match_is_412_where_there_is_no_file(server: Server, token: str) -> None:
    slot = Slot(server, "plain/if-match", 10)
    matched = [("If-Match", "*")]

    answers = [slot.ask(token, matched), slot.piece(0, b"01234", token, matched)]
    answers.append(slot.put(b"0123456789", [*token_header(token), *matched]))

    assert [face(answer) for answer in answers] == [(412, "precondition-failed")] * 3
    assert {answer["X-Session-Token"] for answer in answers} == {token}
    assert get(server, slot.path).status == 404


def test_a_file_of_no_bytes_is_a_plain_put(server: Server, token: str) -> None:
    slot = Slot(server, "plain/empty", 0)

    asked, created = slot.ask(token), slot.put(b"", token_header(token))

    assert (asked.status, asked["Upload-Offset"]) == (202, "0")
    assert (created.status, created["X-Session-Token"]) == (201, token)
    assert slot.ask(token).status == 201
    assert get(server, slot.path)["Content-Length"] == "0"
