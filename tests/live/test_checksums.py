"""Checksums that clients send: over whole files and over pieces, in every face (protocol, section 5.4)."""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest

from tests.support.http import Answer, Connection, Headers, get, put, request
from tests.support.server import Server, tree
from tests.support.slot import (
    LAST,
    MORE,
    Slot,
    content,
    draft_patch,
    face,
    token_header,
    tus,
    tus_patch,
)

SMALL, LARGE = 10, 200_000  # collected in memory, and on disk
HALF = LARGE // 2

Field = Callable[[bytes], tuple[str, str]]
"""The header field that announces some bytes."""


def digest(name: str, body: bytes) -> str:
    return b64encode(hashlib.new(name, body).digest()).decode()


def x_checksum(body: bytes) -> tuple[str, str]:
    return "X-Checksum", hashlib.sha256(body).hexdigest()


def content_digest(body: bytes) -> tuple[str, str]:
    return "Content-Digest", f"sha-256=:{digest('sha256', body)}:"


def repr_digest(body: bytes) -> tuple[str, str]:
    return "Repr-Digest", f"sha-256=:{digest('sha256', body)}:"


def tus_sha1(body: bytes) -> tuple[str, str]:
    return "Upload-Checksum", f"sha1 {digest('sha1', body)}"


WHOLE: dict[str, Field] = {
    "x-checksum": x_checksum,
    "x-checksum-upper": lambda body: ("X-Checksum", hashlib.sha256(body).hexdigest().upper()),
    "repr-sha-256": repr_digest,
    "repr-sha-512": lambda body: ("Repr-Digest", f"sha-512=:{digest('sha512', body)}:"),
    "repr-two": lambda body: ("Repr-Digest", f"unknown=:AAAA:, sha-256=:{digest('sha256', body)}:"),
    "digest-sha-256": lambda body: ("Digest", f"SHA-256={digest('sha256', body)}"),
    "digest-sha-512": lambda body: ("Digest", f"sha-512={digest('sha512', body)}"),
    "digest-sha": lambda body: ("Digest", f"sha={digest('sha1', body)}"),
    "digest-md5": lambda body: ("Digest", f"md5={digest('md5', body)}"),
    "content-md5": lambda body: ("Content-MD5", digest("md5", body)),
}
PIECE: dict[str, Field] = {
    "content-digest": content_digest,
    "content-digest-512": lambda body: ("Content-Digest", f"sha-512=:{digest('sha512', body)}:"),
    "tus-sha1": tus_sha1,
    "tus-sha256": lambda body: ("Upload-Checksum", f"sha256 {digest('sha256', body)}"),
}
BAD = [
    ("X-Checksum", ""),
    ("X-Checksum", "abc"),
    ("X-Checksum", "g" * 64),
    ("Repr-Digest", ""),
    ("Repr-Digest", "sha-256=AAAA"),
    ("Repr-Digest", "sha-256=:AAAA:"),
    ("Repr-Digest", "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"),
    ("Content-Digest", "crc32=:AAAAAA==:"),
    ("Digest", "UNIXsum=30637"),
    ("Digest", "sha-256"),
    ("Content-MD5", "not base64"),
    ("Content-MD5", "AAAA"),
    ("Upload-Checksum", "crc32 AAAAAA=="),
    ("Upload-Checksum", "sha1"),
    ("Upload-Checksum", "sha1 AAAA"),
]


@pytest.fixture(scope="module")
def unchecked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("unchecked"), ChecksumVerification=False) as running:
        yield running


# A whole file in one request


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
@pytest.mark.parametrize("kind", [*WHOLE, "content-digest", "content-digest-512"])
def test_a_whole_file_is_stored_only_if_it_has_the_checksum(server: Server, kind: str, size: int) -> None:
    field, body = (WHOLE | PIECE)[kind], content(size)
    slot = Slot(server, f"whole/{kind}-{size}", size)
    before = tree(server.store_dir / "whole")

    refused = [slot.put(body, [field(b"other"), *more]) for more in ([], token_header("a" * 16 + kind), [LAST])]
    after = tree(server.store_dir / "whole")
    stored = slot.put(body, [field(body)])

    assert [face(answer) for answer in refused] == [(400, "checksum-mismatch")] * 3
    assert after == before
    assert stored.status == 201
    assert get(server, slot.path).body == body


def test_a_put_that_fails_its_checksum_can_be_repeated_under_its_token(server: Server) -> None:
    slot, token = Slot(server, "whole/again", LARGE), token_header("whole-again-00000001")
    body = content(LARGE)

    refused = slot.put(body, [x_checksum(b""), *token])
    asked = slot.ask("whole-again-00000001")
    stored = slot.put(body, [x_checksum(body), *token])

    assert face(refused) == (400, "checksum-mismatch")
    assert refused["X-Session-Token"] == "whole-again-00000001"
    assert asked["Upload-Offset"] == "0"
    assert stored.status == 201


def test_several_checksums_must_all_be_right(server: Server) -> None:
    slot, body = Slot(server, "whole/several", SMALL), content(SMALL)
    right = [WHOLE[kind](body) for kind in ("x-checksum", "repr-sha-512", "digest-md5", "content-md5")]

    assert face(slot.put(body, [*right, content_digest(b"other")])) == (400, "checksum-mismatch")
    assert slot.put(body, [*right, content_digest(body)]).status == 201


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_checksum_that_cannot_be_verified_is_400_and_never_ignored(server: Server, name: str, value: str) -> None:
    slot = Slot(server, "bad/checksum", SMALL)
    sent = [(name, value)]
    location = slot.create_tus(b"0")["Location"]

    answers = [
        slot.put(content(SMALL), sent),
        slot.unsigned.put(content(SMALL), sent),
        slot.ask("", sent),
        slot.piece(0, b"01234", "", sent),
        slot.create_tus(None, sent),
        slot.create_draft(b"", sent),
        tus_patch(server, location, 1, b"1", sent),
        draft_patch(server, location, 1, b"1", MORE, sent),
    ]

    assert [face(answer) for answer in answers] == [(400, "bad-checksum")] * 8
    assert tus(server, "HEAD", location)["Upload-Offset"] == "1"
    tus(server, "DELETE", location)


# A piece


@pytest.mark.parametrize("kind", PIECE)
def test_a_session_piece_counts_only_if_it_has_its_checksum(server: Server, kind: str) -> None:
    field, body = PIECE[kind], content(LARGE)
    slot = Slot(server, f"pieces/{kind}", LARGE)
    token = f"piece-{slot.path}".replace("/", "-")
    slot.piece(0, body[:HALF], token)

    refused = slot.piece(HALF, body[HALF:], token, [field(body)])
    asked = slot.ask(token)
    right = slot.piece(HALF, body[HALF:], token, [field(body[HALF:])])

    assert face(refused) == (400, "checksum-mismatch")
    assert asked["Upload-Offset"] == str(HALF)
    assert right.status == 201
    assert get(server, slot.path).body == body


@pytest.mark.parametrize("kind", PIECE)
def test_a_tus_patch_that_fails_its_checksum_is_460_and_the_offset_stays(server: Server, kind: str) -> None:
    field, body = PIECE[kind], content(LARGE)
    slot = Slot(server, f"tus/{kind}", LARGE)
    location = slot.create_tus(body[:HALF])["Location"]

    refused = tus_patch(server, location, HALF, body[HALF:], [field(body)])
    asked = tus(server, "HEAD", location)
    right = tus_patch(server, location, HALF, body[HALF:], [field(body[HALF:])])

    assert face(refused) == (460, "checksum-mismatch")
    assert asked["Upload-Offset"] == str(HALF)
    assert right.status == 204
    assert get(server, slot.path).body == body


def test_a_draft_patch_that_fails_its_checksum_is_400_and_the_offset_stays(server: Server) -> None:
    slot, body = Slot(server, "draft/piece", LARGE), content(LARGE)
    location = slot.create_draft(body[:HALF])["Location"]

    refused = draft_patch(server, location, HALF, body[HALF:], LAST, [content_digest(body)])
    asked = request(server, "HEAD", location)
    right = draft_patch(server, location, HALF, body[HALF:], LAST, [content_digest(body[HALF:])])

    assert face(refused) == (400, "checksum-mismatch")
    assert asked["Upload-Offset"] == str(HALF)
    assert right.status == 201


def test_a_piece_with_a_checksum_that_breaks_off_counts_for_nothing(server: Server) -> None:
    slot, body, token = Slot(server, "pieces/broken", LARGE), content(LARGE), "pieces-broken-000001"
    slot.piece(0, body[:HALF], token)

    with Connection(server.address) as connection:
        said = [slot.range(HALF, HALF), *token_header(token), content_digest(body[HALF:])]
        connection.send(slot.put_head(HALF, said) + body[HALF:-1])
        connection.half_close()
        broken = connection.read_answer()

    assert broken.status == 400
    assert slot.ask(token)["Upload-Offset"] == str(HALF)


# A whole file in several requests


def in_session(slot: Slot, body: bytes, at_start: Headers, at_end: Headers) -> Answer:
    token = f"resumed-{slot.path}".replace("/", "-")
    slot.piece(0, body[:HALF], token, at_start)
    return slot.piece(HALF, body[HALF:], token, at_end)


def in_tus(slot: Slot, body: bytes, at_start: Headers, at_end: Headers) -> Answer:
    location = slot.create_tus(body[:HALF], at_start)["Location"]
    return tus_patch(slot.site, location, HALF, body[HALF:], at_end)


def in_draft(slot: Slot, body: bytes, at_start: Headers, at_end: Headers) -> Answer:
    location = slot.create_draft(body[:HALF], at_start)["Location"]
    return draft_patch(slot.site, location, HALF, body[HALF:], LAST, at_end)


FACES = {"session": (in_session, 201, 400), "tus": (in_tus, 204, 460), "draft": (in_draft, 201, 400)}


@pytest.mark.parametrize("when", ["first", "last"])
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("name", FACES)
def test_a_checksum_of_the_whole_file_holds_for_a_resumed_one(server: Server, name: str, kind: str, when: str) -> None:
    upload, done, failed = FACES[name]
    field, body = WHOLE[kind], content(LARGE)
    slot = Slot(server, f"resumed/{name}-{kind}-{when}", LARGE)

    def uploaded(announced: bytes) -> Answer:
        sent = [field(announced)]
        return upload(slot, body, sent, []) if when == "first" else upload(slot, body, [], sent)

    wrong = uploaded(body[:HALF])
    early = get(server, slot.path).status
    right = uploaded(body)

    assert face(wrong) == (failed, "checksum-mismatch")
    assert early == 404
    assert right.status == done
    assert get(server, slot.path).body == body


@pytest.mark.parametrize("name", FACES)
def test_a_resumed_file_without_its_checksum_is_removed(server: Server, name: str) -> None:
    upload, _, _ = FACES[name]
    slot, body = Slot(server, f"removed/{name}", LARGE), content(LARGE)
    before = sum(path.endswith(".part") for path in tree(server.store_dir))

    upload(slot, body, [], [x_checksum(b"")])

    assert sum(path.endswith(".part") for path in tree(server.store_dir)) == before
    assert slot.ask()["Upload-Offset"] == "0"


# What is told of a file


@pytest.mark.parametrize("kind", ["x-checksum", "repr-sha-256", "digest-sha-256"])
def test_a_sha_256_that_was_computed_is_served_with_the_file(server: Server, kind: str) -> None:
    body, path = content(LARGE), f"served/{kind}"
    put(server, path, body, headers=[WHOLE[kind](body)])

    answers = [get(server, path), get(server, path, method="HEAD"), get(server, path, [("Range", "bytes=0-9")])]

    assert [answer.status for answer in answers] == [200, 200, 206]
    assert {answer["Repr-Digest"] for answer in answers} == {f"sha-256=:{digest('sha256', body)}:"}


@pytest.mark.parametrize("name", FACES)
def test_a_sha_256_of_a_resumed_file_is_served_too(server: Server, name: str) -> None:
    upload, _, _ = FACES[name]
    slot, body = Slot(server, f"served/resumed-{name}", LARGE), content(LARGE)

    upload(slot, body, [x_checksum(body)], [])

    assert get(server, slot.path)["Repr-Digest"] == f"sha-256=:{digest('sha256', body)}:"


@pytest.mark.parametrize("headers", [[], [WHOLE["content-md5"](b"abc")]], ids=["none", "md5"])
def test_no_digest_is_computed_for_a_download(server: Server, headers: Headers) -> None:
    path = f"served/without-{len(headers)}"
    put(server, path, b"abc", headers=headers)

    assert get(server, path).get("Repr-Digest") is None


def test_the_digest_of_a_piece_is_not_taken_for_that_of_the_file(server: Server) -> None:
    slot, body = Slot(server, "served/piece", LARGE), content(LARGE)
    slot.piece(0, body[:HALF], "served-piece-0000001", [content_digest(body[:HALF])])
    slot.piece(HALF, body[HALF:], "served-piece-0000001", [content_digest(body[HALF:])])

    assert get(server, slot.path).get("Repr-Digest") is None


# ChecksumVerification = false


@pytest.mark.parametrize("kind", [*WHOLE, *PIECE])
def test_without_checksum_verification_a_checksum_is_not_even_read(unchecked: Server, kind: str) -> None:
    name, _ = (WHOLE | PIECE)[kind](b"")
    slot = Slot(unchecked, f"unchecked/{kind}", SMALL)

    assert slot.put(b"0123456789", [(name, "nonsense")]).status == 201
    assert get(unchecked, slot.path).get("Repr-Digest") is None


def test_without_checksum_verification_tus_does_not_offer_checksums(unchecked: Server) -> None:
    told = request(unchecked, "OPTIONS", "/upload/")

    location = Slot(unchecked, "unchecked/tus", SMALL).create_tus()["Location"]
    patched = tus_patch(unchecked, location, 0, b"01234", [tus_sha1(b"other")])

    assert patched.status == 204
    assert "checksum" not in told["Tus-Extension"].split(",")
    assert told.get("Tus-Checksum-Algorithm") is None
