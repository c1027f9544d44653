"""v3 signatures, tokens of mod_http_file_share, deletions, signed downloads: key by key, on the wire."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.offload import InlinePool
from hmacfs.state import engines
from hmacfs.state.base import FileRow
from hmacfs.state.sql import SqlTier
from tests.support import tokens
from tests.support.http import MIB, Answer, Connection, Headers, get, head_of, put, query_of, request, url_of
from tests.support.polling import until
from tests.support.server import SECRET, Server
from tests.support.slot import Slot, draft_patch, tus_patch

JWT, WORD, PREVIOUS = "a-key-of-tokens-for-tests-01", "a-delete-secret", "a-previous-secret-for-tests-0"
BODY = b"content of the file"
TEXT = ("Content-Type", "text/plain")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Every protocol is on."""
    keys = {"EnableV3": True, "JWTSecret": JWT, "DeleteSecret": WORD, "PreviousSecrets": [PREVIOUS]}
    with Server(tmp_path_factory.mktemp("everything"), NumCores=2, **keys) as running:
        yield running


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Downloads have to be signed."""
    with Server(tmp_path_factory.mktemp("signed"), EnableV3=True, RequireSignedDownloads=True) as running:
        yield running


def soon(seconds: int = 600) -> int:
    return int(time.time()) + seconds


def v3(server: Server, method: str, path: str, expires: int, size: int | str = "", kind: str = "") -> str:
    return tokens.v3_url(server.prefix, server.secret, method, path, expires, size, kind)


def put_v3(server: Server, path: str, expires: int, body: bytes = BODY, headers: Headers = ()) -> Answer:
    target = v3(server, "PUT", path, expires, len(body), "text/plain")
    return request(server, "PUT", target, [TEXT, ("Content-Length", str(len(body))), *headers], body)


def bearer(path: str, **changed: object) -> tuple[str, str]:
    claims = tokens.slot_claims(path, len(BODY), time.time(), **changed)
    return "Authorization", f"Bearer {tokens.jwt(JWT, claims)}"


def put_bearer(server: Server, path: str, header: tuple[str, str], query: str = "", headers: Headers = ()) -> Answer:
    target = url_of(server, path) + (f"?{query}" if query else "")
    return request(server, "PUT", target, [TEXT, header, ("Content-Length", str(len(BODY))), *headers], BODY)


# EnableV3


def test_enable_v3_takes_an_upload_until_it_expires(everything: Server) -> None:
    assert put_v3(everything, "v3/in-time", soon()).status == 201
    late = put_v3(everything, "v3/late", soon(-1))

    assert (late.status, late.code) == (403, "bad-signature")
    (line,) = everything.lines("path=v3/late")
    assert "reason=expired" in line
    assert "protocol=v3" in line


def test_without_enable_v3_its_parameter_counts_as_absent(server: Server) -> None:
    v2 = query_of(server, "v3/off", len(BODY), "text/plain")
    v3_parameters = tokens.v3_query(server.secret, "PUT", "v3/off", soon(), len(BODY), "text/plain")
    length = ("Content-Length", str(len(BODY)))

    alone = request(server, "PUT", f"{url_of(server, 'v3/off')}?{v3_parameters}", [TEXT, length], BODY)
    beside = request(server, "PUT", f"{url_of(server, 'v3/off')}?{v3_parameters}&{v2}", [TEXT, length], BODY)

    assert (alone.status, beside.status) == (403, 201)


def test_a_wrong_v3_does_not_fall_back_to_a_right_v2(everything: Server) -> None:
    v2 = query_of(everything, "v3/fall", len(BODY), "text/plain")
    wrong = f"v3={'0' * 64}&expires={soon()}"
    length = ("Content-Length", str(len(BODY)))

    answer = request(everything, "PUT", f"{url_of(everything, 'v3/fall')}?{wrong}&{v2}", [TEXT, length], BODY)

    assert answer.status == 403


@pytest.mark.parametrize("repeated", ["v3", "expires"])
def test_a_repeated_parameter_of_v3_is_malformed(repeated: str, everything: Server) -> None:
    target = v3(everything, "PUT", "v3/twice", soon(), len(BODY), "text/plain") + f"&{repeated}=1"

    answer = request(everything, "PUT", target, [TEXT, ("Content-Length", str(len(BODY)))], BODY)

    assert (answer.status, answer.code) == (400, "bad-query")


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_an_upload_is_signed_as_put_and_nothing_else(method: str, everything: Server) -> None:
    target = v3(everything, method, "v3/method", soon(), len(BODY), "text/plain")

    answer = request(everything, "PUT", target, [TEXT, ("Content-Length", str(len(BODY)))], BODY)

    assert answer.status == 403


def test_all_faces_of_resumable_uploads_take_v3_signed_as_put(everything: Server) -> None:
    def slot(path: str) -> Slot:
        query = tokens.v3_query(everything.secret, "PUT", path, soon(), len(BODY), "text/plain")
        return Slot(everything, path, len(BODY), "text/plain", query=query)

    tus = slot("v3/tus").create_tus()
    draft = slot("v3/draft").create_draft()
    done = [
        slot("v3/session").piece(0, BODY).status,
        tus_patch(everything, tus["Location"], 0, BODY).status,
        draft_patch(everything, draft["Location"], 0, BODY).status,
    ]

    assert (tus.status, draft.status) == (201, 201)
    assert done == [201, 204, 201]
    assert [get(everything, f"v3/{face}").body for face in ("session", "tus", "draft")] == [BODY] * 3


@pytest.mark.parametrize("protocol", ["v3", "bearer"])
def test_a_slow_resume_outlives_its_signature(protocol: str, everything: Server) -> None:
    path, token = f"slow-{protocol}/file", f"token-of-a-slow-client-{protocol}"
    middle, total = 7, len(BODY)
    expires = soon(2)
    if protocol == "v3":
        header: Headers = ()
        query = tokens.v3_query(everything.secret, "PUT", path, expires, total, "text/plain")
    else:
        header, query = [bearer(path, exp=expires - 60)], ""  # a minute of skew
    slot = Slot(everything, path, total, "text/plain", query=query)

    first = slot.piece(0, BODY[:middle], token, header)
    until(lambda: slot.ask("", header).status == 403, "the signature has expired")
    other = slot.ask("token-of-somebody-else", header)
    asked = slot.ask(token, header)
    done = slot.piece(middle, BODY[middle:], token, header)
    again = slot.ask(token, header)

    assert first.status == 202
    assert other.status == 403
    assert (asked.status, asked["Upload-Offset"]) == (202, str(middle))
    assert (done.status, again.status) == (201, 201)
    assert get(everything, path).body == BODY


def test_a_late_signature_goes_on_with_nothing_that_another_one_began(everything: Server) -> None:
    path, token, total = "slow/other", "token-of-another-client", len(BODY)
    begun = Slot(everything, path, total, "text/plain").piece(0, BODY[:5], token)  # v2
    query = tokens.v3_query(everything.secret, "PUT", path, soon(-5), total, "text/plain")

    late = Slot(everything, path, total, "text/plain", query=query).piece(5, BODY[5:], token)

    assert (begun.status, late.status) == (202, 403)


# JWTSecret


def test_jwt_secret_takes_an_upload_and_keeps_who_sent_it_and_until_when(everything: Server) -> None:
    expires = soon(3600)

    answer = put_bearer(everything, "slot-1/notes.txt", bearer("slot-1/notes.txt", expires=expires))

    assert answer.status == 201
    stored = everything.store_dir / "slot-1" / "notes.txt"
    assert os.getxattr(stored, "user.hmacfs.uploader") == b"romeo@example.org"
    assert os.getxattr(stored, "user.hmacfs.expires") == str(expires).encode()


def test_jwt_secret_carries_both_through_a_resumed_upload(everything: Server) -> None:
    path, token = "slot-2/notes.txt", "token-of-client-two"
    header = [bearer(path)]
    slot = Slot(everything, path, len(BODY), "text/plain", query="")

    statuses = [slot.piece(0, BODY[:5], token, header).status, slot.piece(5, BODY[5:], token, header).status]

    assert statuses == [202, 201]
    stored = everything.store_dir / "slot-2" / "notes.txt"
    assert os.getxattr(stored, "user.hmacfs.uploader") == b"romeo@example.org"
    assert os.listxattr(stored).count("user.hmacfs.expires") == 1


def test_a_file_whose_claim_is_over_is_gone(everything: Server) -> None:
    path = "slot-3/notes.txt"
    put_bearer(everything, path, bearer(path, expires=soon(100)))
    os.setxattr(everything.store_dir / path, "user.hmacfs.expires", b"1")

    answers = [get(everything, path), get(everything, path, method="HEAD")]

    assert [(answer.status, answer.code) for answer in answers] == [(410, "gone")] * 2
    again = put_bearer(everything, path, bearer(path, expires=soon(100)))
    assert (again.status, again.code) == (410, "gone")  # although no sweep has taken it yet


def test_jwt_secret_takes_no_file_whose_claim_is_over(everything: Server) -> None:
    path = "slot-9/notes.txt"

    answer = put_bearer(everything, path, bearer(path, expires=soon(-1)))

    assert answer.status == 403
    assert not (everything.store_dir / path).exists()


def test_a_copy_of_a_file_lives_no_longer_than_the_file(tmp_path: Path) -> None:
    path = "slot-4/notes.txt"
    with Server(tmp_path, JWTSecret=JWT) as server:  # without DELETE, which would make it no-cache
        put_bearer(server, path, bearer(path, expires=soon(100)))
        put_bearer(server, "slot-5/notes.txt", bearer("slot-5/notes.txt", expires=None))
        ending, lasting = get(server, path), get(server, "slot-5/notes.txt")

    public, age, immutable = ending["Cache-Control"].split(", ")
    assert (public, immutable) == ("public", "immutable")
    assert 60 <= int(age.removeprefix("max-age=")) <= 100
    assert lasting["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"filesize": 1}, "another size"),
        ({"slot": "other"}, "another slot"),
        ({"filetype": "image/png"}, "another content type"),
    ],
)
def test_a_token_for_something_else_is_refused_and_the_log_says_why(
    changed: dict[str, object], hint: str, everything: Server
) -> None:
    path = f"slot-{hint.rpartition(' ')[2]}/notes.txt"

    answer = put_bearer(everything, path, bearer(path, **changed))

    assert (answer.status, answer.code) == (403, "bad-signature")
    (line,) = everything.lines(f"path={path}")
    assert hint in line


def test_a_bearer_comes_before_every_parameter(everything: Server) -> None:
    path = "slot-6/notes.txt"
    right = query_of(everything, path, len(BODY), "text/plain")
    wrong = ("Authorization", f"Bearer {tokens.jwt('another key of tokens', {})}")

    assert put_bearer(everything, path, wrong, right).status == 403
    assert put_bearer(everything, path, bearer(path), "v2=0").status == 201


@pytest.mark.parametrize("header", ["Bearer", "Bearer @@@", "Bearer a b", "Bearer abc,def"])
def test_a_malformed_bearer_does_not_fall_back_to_a_right_v2(header: str, everything: Server) -> None:
    path = f"malformed/{header.encode().hex()}"
    query = query_of(everything, path, len(BODY), "text/plain")

    answer = put_bearer(everything, path, ("Authorization", header), query)

    assert (answer.status, answer.code) == (403, "bad-signature")


@pytest.mark.parametrize("header", ["Basic cm9tZW86anVsaWV0", "Token abc", ""])
def test_another_scheme_counts_as_absent(header: str, everything: Server) -> None:
    path = f"scheme/{header.encode().hex() or 'none'}"
    query = query_of(everything, path, len(BODY), "text/plain")

    assert put_bearer(everything, path, ("Authorization", header), query).status == 201


def test_without_jwt_secret_a_bearer_counts_as_absent(server: Server) -> None:
    path = "slot-7/notes.txt"

    assert put_bearer(server, path, bearer(path)).status == 403
    assert put_bearer(server, path, bearer(path), query_of(server, path, len(BODY), "text/plain")).status == 201


# DeleteSecret, and DELETE with v3


def delete(server: Server, path: str, query: str = "") -> Answer:
    query = query or tokens.delete_query(server.secret, path, WORD)
    return request(server, "DELETE", f"{url_of(server, path)}?{query}")


@pytest.mark.parametrize("form", ["delete_secret", "enable_v3"])
def test_delete_secret_and_enable_v3_let_a_file_be_deleted_once(form: str, everything: Server) -> None:
    path = f"deleted-{form}/a/file"
    put(everything, path, BODY)
    word = tokens.delete_query(everything.secret, path, WORD)
    query = word if form == "delete_secret" else tokens.v3_query(everything.secret, "DELETE", path, soon())

    answers = [delete(everything, path, query), delete(everything, path, query)]

    assert [answer.status for answer in answers] == [204, 404]
    assert get(everything, path).status == 410
    assert not (everything.store_dir / f"deleted-{form}").exists()


def test_a_deletion_with_a_wrong_signature_is_refused_whether_the_file_is_there_or_not(everything: Server) -> None:
    put(everything, "kept/file", BODY)
    wrong = ["token=" + "0" * 64, "x=1", tokens.v3_query(everything.secret, "DELETE", "kept/file", soon(-1))]

    answers = [delete(everything, path, query) for path in ("kept/file", "kept/none") for query in wrong]

    assert {(answer.status, answer.code) for answer in answers} == {(403, "bad-signature")}
    assert get(everything, "kept/file").body == BODY


def test_an_upload_s_signature_deletes_nothing(everything: Server) -> None:
    put(everything, "kept/other", BODY, protocol="token")

    answer = delete(everything, "kept/other", query_of(everything, "kept/other", len(BODY), protocol="token"))

    assert answer.status == 403


def test_without_both_keys_delete_is_not_allowed(server: Server, everything: Server) -> None:
    refused = delete(server, "kept/file")
    allowed = [request(each, "OPTIONS", url_of(each, "kept/file"))["Allow"] for each in (server, everything)]

    assert refused.status == 405
    assert "DELETE" not in refused["Allow"]
    assert ["DELETE" in methods for methods in allowed] == [False, True]


def test_a_copy_is_asked_about_where_files_can_be_deleted(everything: Server) -> None:
    put(everything, "asked/file", BODY)

    assert get(everything, "asked/file")["Cache-Control"] == "no-cache"


def test_a_download_that_runs_goes_on_when_its_file_is_deleted(everything: Server) -> None:
    body = bytes(MIB) * 8
    put(everything, "running/file", body)

    with Connection(everything.address) as connection:
        connection.send(head_of("GET", url_of(everything, "running/file")))
        head = connection.read_head()
        status = delete(everything, "running/file").status
        received = sum(len(block) for block in connection.blocks(int(head["Content-Length"])))

    assert status == 204
    assert received == len(body)


def row(server: Server, path: str) -> FileRow | None:
    """What the catalogue in StateDir knows of a path."""
    tier = SqlTier("embedded", lambda: engines.embedded(str(server.state_dir / "state.db")), InlinePool())
    try:
        return tier.find_file(path)
    finally:
        tier.close()


def test_the_catalogue_knows_who_sent_a_file_and_forgets_what_was_deleted(everything: Server) -> None:
    expires = soon(900)
    put_bearer(everything, "row/kept.txt", bearer("row/kept.txt", expires=expires))
    put(everything, "row/deleted.txt", BODY)
    kept = until(lambda: row(everything, "row/kept.txt"), "its row is there")
    until(lambda: row(everything, "row/deleted.txt"), "the other row is there")

    delete(everything, "row/deleted.txt")

    until(lambda: row(everything, "row/deleted.txt") is None, "its row is gone")
    assert (kept.uploader, kept.expires_at) == ("romeo@example.org", expires)


# RequireSignedDownloads


def test_require_signed_downloads_wants_a_v3_signature_of_its_own(signed: Server) -> None:
    path = "private/file"
    put(signed, path, BODY)

    plain, head = get(signed, path), get(signed, path, method="HEAD")
    as_put = request(signed, "GET", v3(signed, "PUT", path, soon()))
    late = request(signed, "GET", v3(signed, "GET", path, soon(-1)))
    unknown = get(signed, "private/none")
    right = request(signed, "GET", v3(signed, "GET", path, soon()))
    right_head = request(signed, "HEAD", v3(signed, "GET", path, soon()))

    assert {each.status for each in (plain, head, as_put, late, unknown)} == {403}
    assert (right.status, right.body, right_head.status) == (200, BODY, 200)


def test_a_signed_copy_is_private_and_lives_as_long_as_its_signature(signed: Server) -> None:
    put(signed, "private/copy", BODY)

    answer = request(signed, "GET", v3(signed, "GET", "private/copy", soon(100)))

    private, age = answer["Cache-Control"].split(", ")
    assert private == "private"
    assert 60 <= int(age.removeprefix("max-age=")) <= 100


def test_without_require_signed_downloads_a_wrong_signature_does_no_harm(everything: Server) -> None:
    put(everything, "open/file", BODY)

    assert request(everything, "GET", f"{url_of(everything, 'open/file')}?v3=0&expires=1").status == 200


# PreviousSecrets


def test_previous_secrets_verify_everything_that_the_current_one_does(everything: Server) -> None:
    path = "previous/file"
    target = tokens.v3_url(everything.prefix, PREVIOUS, "PUT", path, soon(), len(BODY), "text/plain")

    stored = request(everything, "PUT", target, [TEXT, ("Content-Length", str(len(BODY)))], BODY)
    gone = delete(everything, path, tokens.delete_query(PREVIOUS, path, WORD))

    assert (stored.status, gone.status) == (201, 204)


def test_a_tus_creation_takes_a_bearer(everything: Server) -> None:
    path = "slot-8/notes.txt"
    slot = Slot(everything, path, len(BODY), "text/plain", query="")

    created = slot.create_tus(headers=[bearer(path)])
    done = tus_patch(everything, created["Location"], 0, BODY)

    assert (created.status, done.status) == (201, 204)
    assert os.getxattr(everything.store_dir / path, "user.hmacfs.uploader") == b"romeo@example.org"


def test_nothing_of_all_this_shows_a_secret_or_a_signature(everything: Server, signed: Server) -> None:
    for server in (everything, signed):
        said = server.output()
        assert not any(secret in said for secret in (SECRET, JWT, WORD, PREVIOUS, "v3=", "token=", "eyJ"))
