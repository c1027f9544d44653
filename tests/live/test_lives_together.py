"""Bans and quotas over signatures, versions, deletions and sweeps: two workers, every part on.

Clients have addresses of their own in 127.0.0.0/8; only 127.0.0.1 may speak for others.
"""

import os
import time
from collections.abc import Iterator

import pytest

from hmacfs.storage.metadata import EXPIRES_ATTRIBUTE
from tests.support import tokens
from tests.support.http import MIB, Answer, Connection, Headers, head_of, put, request, url_of
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import Slot, face

JWT, WORD = "a-key-of-tokens-for-tests-03", "a-delete-secret"
TEXT = "text/plain"
QUOTA = 4 * MIB
FULL, BANNED, WRONG = (507, "quota-exceeded"), (403, "banned"), (403, "bad-signature")
SOON = {"hmacfs.services.quotas:FRESH_SECONDS": 0.2, "hmacfs.services.bans:REFRESH_SECONDS": 0.05}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = {"EnableV3": True, "JWTSecret": JWT, "DeleteSecret": WORD, "EnableVersioning": True, "SweepInterval": 1}
    limits = {"UserQuota": QUOTA, "BlockAfterFails": 3, "BlockDuration": 5000}
    with Server(tmp_path_factory.mktemp("together"), NumCores=2, constants=SOON, **keys, **limits) as running:
        for number in range(8):
            put(running, f"right/{number}", b"x")  # a signature has been right
        yield running


def soon() -> int:
    return int(time.time()) + 600


def v3(server: Server, method: str, path: str) -> str:
    return tokens.v3_url(server.prefix, server.secret, method, path, soon())


def bearer(path: str, size: int, user: str, expires: float | None = None, key: str = JWT) -> tuple[str, str]:
    claims = tokens.slot_claims(path, size, time.time(), sub=user, expires=None if expires is None else int(expires))
    return "Authorization", f"Bearer {tokens.jwt(key, claims)}"


def put_as(server: Server, user: str, path: str, size: int, expires: float | None = None) -> tuple[int, str | None]:
    told = [bearer(path, size, user, expires), ("Content-Type", TEXT), ("Content-Length", str(size))]
    with Connection(server.address) as connection:
        connection.send_all_or_until_refused(head_of("PUT", url_of(server, path), told), bytes(size))
        return face(connection.read_answer())


def ask(server: Server, source: str, method: str, target: str, headers: Headers = ()) -> Answer:
    """A request without a body from an address of its own."""
    with Connection(server.address, source=source) as connection:
        connection.send(head_of(method, target, headers))
        return connection.read_head() if method == "HEAD" else connection.read_answer()


def has_room(server: Server, user: str, path: str) -> None:
    until(lambda: put_as(server, user, path, QUOTA // 2) == (201, None), f"{user} has room again")


# --- quotas ---


def test_a_deletion_gives_its_uploader_the_bytes_back(server: Server) -> None:
    assert put_as(server, "deleting", "deleting/first", QUOTA) == (201, None)
    assert put_as(server, "deleting", "deleting/second", QUOTA // 2) == FULL

    assert request(server, "DELETE", v3(server, "DELETE", "deleting/first")).status == 204

    has_room(server, "deleting", "deleting/third")


def test_a_file_whose_own_end_has_come_gives_its_bytes_back(server: Server) -> None:
    assert put_as(server, "expiring", "expiring/first", QUOTA, expires=soon()) == (201, None)
    os.setxattr(server.store_dir / "expiring/first", EXPIRES_ATTRIBUTE, b"1")

    has_room(server, "expiring", "expiring/second")

    assert not (server.store_dir / "expiring/first").exists()


def test_a_smaller_version_gives_the_rest_back_and_old_ones_are_not_counted(server: Server) -> None:
    assert put_as(server, "replacing", "replacing/file", 3 * QUOTA // 4) == (201, None)
    assert put_as(server, "replacing", "replacing/other", QUOTA // 2) == FULL

    assert put_as(server, "replacing", "replacing/file", QUOTA // 8) == (201, None)

    has_room(server, "replacing", "replacing/other")


def test_uploaders_do_not_count_for_each_other(server: Server) -> None:
    assert put_as(server, "one", "one/file", QUOTA) == (201, None)

    assert put_as(server, "two", "two/file", QUOTA) == (201, None)
    assert put(server, "nobody/file", bytes(QUOTA + 1)).status == 201  # who signs no name has no quota


# --- bans ---


def test_every_kind_of_signature_that_is_wrong_counts_towards_one_ban(server: Server) -> None:
    client, length = "127.77.1.7", ("Content-Length", "0")
    put(server, "public/file", b"hello")
    public = url_of(server, "public/file")
    word = tokens.delete_query("another-secret-for-tests-0123456789", "public/file", WORD)
    wrong = bearer("wrong/file", 0, "romeo", key="another-key-of-tokens-for-tests")

    answers = [
        ask(server, client, "GET", f"{public}?version=1&v3={'0' * 64}&expires={soon()}"),
        ask(server, client, "DELETE", f"{public}?{word}"),
        ask(server, client, "PUT", url_of(server, "wrong/file"), [wrong, ("Content-Type", TEXT), length]),
    ]

    assert [face(answer) for answer in answers] == [WRONG] * 3
    until(lambda: all(ask(server, client, "GET", public).code == "banned" for _ in range(8)), "all workers know")


def test_a_banned_client_is_refused_before_anything_else(server: Server) -> None:
    client, path = "127.77.2.7", "banned/file"
    put(server, path, b"first")
    put(server, path, b"second")
    target, slot = url_of(server, path), Slot(server, "banned/new", 5, TEXT)
    for _ in range(3):
        ask(server, client, "GET", f"{target}?versions&v3={'0' * 64}&expires={soon()}")
    until(lambda: all(ask(server, client, "GET", target).code == "banned" for _ in range(8)), "all workers know")
    empty = [bearer("banned/jwt", 0, "romeo"), ("Content-Type", TEXT), ("Content-Length", "0")]

    answers = {
        "download": ask(server, client, "GET", target),
        "unknown path": ask(server, client, "GET", url_of(server, "banned/unknown")),
        "version": ask(server, client, "GET", v3(server, "GET", path) + "&version=1"),
        "versions": ask(server, client, "GET", v3(server, "GET", path) + "&versions"),
        "deletion": ask(server, client, "DELETE", v3(server, "DELETE", path)),
        "token": ask(server, client, "PUT", url_of(server, "banned/jwt"), empty),
        "tus": ask(server, client, "POST", slot.target, [("Tus-Resumable", "1.0.0"), ("Upload-Length", "5")]),
        "bad query": ask(server, client, "GET", f"{target}?version=%ff"),
    }

    assert {name: face(answer) for name, answer in answers.items()} == dict.fromkeys(answers, BANNED)
    assert ask(server, client, "OPTIONS", target).status == 204
    assert ask(server, client, "PATCH", target).status == 405
    assert ask(server, "127.77.3.7", "GET", target).body == b"second"
    assert request(server, "DELETE", v3(server, "DELETE", path)).status == 204
