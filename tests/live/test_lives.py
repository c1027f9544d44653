"""How long files live, over everything that lets them in, keeps them and lets them go: two workers, every part on."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.offload import InlinePool
from hmacfs.state import engines
from hmacfs.state.base import FileRow
from hmacfs.state.sql import SqlTier
from hmacfs.storage.metadata import EXPIRES_ATTRIBUTE
from tests.live.faces import FACES, Upload
from tests.support import tokens
from tests.support.http import Answer, Headers, get, put, request, url_of
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import LAST, Slot, face, fresh_token

JWT, WORD = "a-key-of-tokens-for-tests-02", "a-delete-secret"
FIRST, SECOND, THIRD = b"the first", b"the second one", b"the third of them"
TEXT = "text/plain"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = {"EnableV3": True, "JWTSecret": JWT, "DeleteSecret": WORD, "EnableVersioning": True, "SweepInterval": 1}
    with Server(tmp_path_factory.mktemp("lives"), NumCores=2, FileTTL="30d", **keys) as running:
        yield running


def signed(server: Server, method: str, path: str, query: str = "") -> Answer:
    """A request without a body that v3 signs."""
    target = tokens.v3_url(server.prefix, server.secret, method, path, int(time.time()) + 600)
    return request(server, method, target + query)


def put_bearer(server: Server, path: str, body: bytes, expires: float, headers: Headers = ()) -> Answer:
    """An upload with a token that says when its file is to go."""
    token = tokens.jwt(JWT, tokens.slot_claims(path, len(body), time.time(), expires=int(expires)))
    told = [("Authorization", f"Bearer {token}"), ("Content-Type", TEXT), ("Content-Length", str(len(body)))]
    return request(server, "PUT", url_of(server, path), [*told, *headers], body)


def row(server: Server, path: str) -> FileRow | None:
    """What the catalogue in StateDir knows of a path."""
    tier = SqlTier("embedded", lambda: engines.embedded(str(server.state_dir / "state.db")), InlinePool())
    try:
        return tier.find_file(path)
    finally:
        tier.close()


def version_files(server: Server) -> list[Path]:
    return [path for path in (server.store_dir / ".hmacfs/versions").glob("??/*/*") if path.name.isdigit()]


def replays(server: Server, path: str) -> dict[str, Answer]:
    """An upload to the path in every way that there is."""
    small, large = b"x" * 10, bytes(100_000)
    slot, big = Slot(server, path, len(small)), Slot(server, path, len(large))
    return {
        "plain": slot.put(small),
        "plain and large": big.put(large),
        "with a token": slot.put(small, [("X-Session-Token", fresh_token())]),
        "asking": slot.ask(),
        "asking with a token": slot.ask(fresh_token()),
        "a piece": slot.piece(0, small[:5], fresh_token()),
        "tus": slot.create_tus(),
        "tus with all of it": slot.create_tus(small),
        "draft": slot.create_draft(small[:5]),
        "draft with all of it": slot.put(small, [LAST]),
        "token of mod_http_file_share": put_bearer(server, path, small, time.time() + 600),
    }


def test_old_versions_are_shown_to_who_has_signed_a_download(server: Server) -> None:
    for body in (FIRST, SECOND, THIRD):
        assert put(server, "history/a.txt", body, content_type=TEXT).status == 201

    listed = signed(server, "GET", "history/a.txt", "&versions")
    first, second = (signed(server, "GET", "history/a.txt", f"&version={number}") for number in (1, 2))
    target = tokens.v3_url(server.prefix, server.secret, "GET", "history/a.txt", int(time.time()) + 600)
    head = request(server, "HEAD", target + "&version=2")  # HEAD is signed as GET
    unsigned = [
        request(server, "GET", f"{url_of(server, 'history/a.txt')}?{query}").status
        for query in ("version=1", "versions", f"v3={'0' * 64}&expires={int(time.time()) + 60}&version=1")
    ]

    assert [(each["version"], each["size"]) for each in json.loads(listed.body)] == [(1, len(FIRST)), (2, len(SECOND))]
    assert [(answer.status, answer.body) for answer in (first, second)] == [(200, FIRST), (200, SECOND)]
    assert (head.status, head["ETag"], head["Content-Length"]) == (200, second["ETag"], str(len(SECOND)))
    assert signed(server, "GET", "history/a.txt", "&version=9").status == 404
    assert unsigned == [403, 403, 403]
    assert get(server, "history/a.txt").body == THIRD


def test_a_deletion_takes_the_versions_along_and_no_face_brings_anything_back(server: Server) -> None:
    for body in (FIRST, SECOND, THIRD):
        put(server, "deleted/a.txt", body)
    before = len(version_files(server))

    deleted = signed(server, "DELETE", "deleted/a.txt")

    assert deleted.status == 204
    assert len(version_files(server)) == before - 2
    answers = replays(server, "deleted/a.txt")
    assert {name: face(answer) for name, answer in answers.items()} == dict.fromkeys(answers, (410, "gone"))
    assert get(server, "deleted/a.txt").status == 410
    assert signed(server, "GET", "deleted/a.txt", "&versions").status == 410
    assert signed(server, "GET", "deleted/a.txt", "&version=1").status == 410
    assert signed(server, "DELETE", "deleted/a.txt").status == 404
    assert not (server.store_dir / "deleted").exists()


@pytest.mark.parametrize("kind", FACES)
def test_an_upload_on_its_way_to_a_path_that_is_deleted_ends_with_it(kind: str, server: Server) -> None:
    path = f"ending/{kind}.txt"
    upload = Upload(kind, path, bytes(50_000))
    upload.begin(server, 20_000)
    put(server, path, FIRST)

    signed(server, "DELETE", path)

    answer = upload.send(server, 20_000, 50_000)
    assert answer.status in (404, 410), (answer.status, answer.code)
    assert get(server, path).status == 410


def test_the_end_that_a_token_gives_a_file_reaches_the_sweep_and_its_grave(server: Server) -> None:
    path = "claimed/a.txt"
    put_bearer(server, path, FIRST, time.time() + 86400)
    until(lambda: row(server, path), "the catalogue knows it")
    before = len(version_files(server))

    answer = put_bearer(server, path, SECOND, time.time() + 86400)
    os.setxattr(server.store_dir / path, EXPIRES_ATTRIBUTE, b"1")

    assert answer.status == 201
    until(lambda: not (server.store_dir / path).exists(), "the sweep takes it")
    until(lambda: server.lines(f"File removed: {path} reason=claim size={len(SECOND)}"), "the log tells")
    assert len(version_files(server)) <= before
    assert get(server, path).status == 410
    assert face(put_bearer(server, path, SECOND, time.time() + 86400)) == (410, "gone")
    until(lambda: row(server, path) is None, "the catalogue forgets it")


def test_the_shorter_of_a_claim_and_file_ttl_is_what_caches_are_told(server: Server) -> None:
    put_bearer(server, "cached/a.txt", FIRST, time.time() + 3600)

    kept = get(server, "cached/a.txt")["Cache-Control"]

    assert kept == "no-cache"  # with versions a copy is asked about each time, however long the file lives
