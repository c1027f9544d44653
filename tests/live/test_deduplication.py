"""DeduplicationEnabled on a running server with two workers."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.http import get, put
from tests.support.metrics import scrape
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import Slot, content, fresh_token


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("dedup"), NumCores=2, DeduplicationEnabled=True) as running:
        yield running


def inode(server: Server, path: str) -> int:
    return (server.store_dir / path).stat().st_ino


@pytest.mark.parametrize("size", [10, 300_000])
def test_deduplication_enabled_lets_equal_files_share_one_inode(server: Server, size: int) -> None:
    body = content(size)
    for name in ("one", "two", "three"):
        assert put(server, f"{name}/{size}.bin", body).status == 201

    for name in ("two", "three"):
        until(lambda name=name: inode(server, f"{name}/{size}.bin") == inode(server, f"one/{size}.bin"), "one inode")  # type: ignore[misc]
    assert all(get(server, f"{name}/{size}.bin").body == body for name in ("one", "two", "three"))
    assert len(server.lines(f"saved={size}")) == 2


def test_every_file_has_a_digest_then(server: Server) -> None:
    put(server, "digest/a.bin", b"hello")

    assert "sha-256=:" in get(server, "digest/a.bin")["Repr-Digest"]
    known = (server.store_dir / ".hmacfs/content").joinpath(sha256(b"hello").hexdigest()[:2])
    until(known.is_dir, "its content is known, behind the answer")


def test_files_of_other_types_are_left_apart(server: Server) -> None:
    put(server, "types/a", b"of two types", "text/plain")
    put(server, "types/b", b"of two types", "image/png")
    put(server, "types/c", b"of two types", "text/plain")

    until(lambda: inode(server, "types/c") == inode(server, "types/a"), "those of one type share")
    assert inode(server, "types/b") != inode(server, "types/a")
    assert get(server, "types/b")["Content-Type"] == "image/png"


def test_a_version_that_goes_while_others_have_its_content_leaves_the_figures_of_the_store(tmp_path: Path) -> None:
    with Server(tmp_path, EnableVersioning=True, MaxVersions=1, VersionsPerDay=0, DeduplicationEnabled=True) as server:
        for letter in (b"A", b"B"):
            put(server, f"first/{letter.decode()}", letter * 5000)
        for turn, letter in enumerate((b"A", b"B", b"A", b"B")):
            put(server, "often/f", letter * 5000)
            until(lambda turn=turn: len(server.lines("saved=5000")) == turn + 1, "it shares its content")  # type: ignore[misc]

        told = "hmac_file_server_store_bytes"
        until(lambda: scrape(server).value("hmac_file_server_store_files") == 4, "two files, a third and its version")
        until(lambda: scrape(server).value(told) == 4 * 5000, "each counts once for its name")
        gone = server.lines("Version removed")

    assert len(gone) == 2
    assert all("size=5000 freed=0" in line for line in gone)


def test_a_resumed_upload_keeps_its_token_and_its_own_inode(server: Server) -> None:
    put(server, "resumed/a.bin", content(1000))
    slot, token = Slot(server, "resumed/b.bin", 1000), fresh_token()
    slot.piece(0, content(1000)[:500], token)
    assert slot.piece(500, content(1000)[500:], token).status == 201

    put(server, "resumed/c.bin", content(1000))
    until(lambda: inode(server, "resumed/c.bin") == inode(server, "resumed/a.bin"), "the others share")

    assert slot.ask(token).status == 201
    assert inode(server, "resumed/b.bin") != inode(server, "resumed/a.bin")


def test_without_deduplication_enabled_every_file_has_its_own_inode_and_is_not_hashed(tmp_path: Path) -> None:
    with Server(tmp_path) as plain:
        for name in ("one", "two"):
            put(plain, f"{name}/a.bin", b"same")

        assert inode(plain, "one/a.bin") != inode(plain, "two/a.bin")
        assert get(plain, "one/a.bin").get("Repr-Digest") is None
        assert not (plain.store_dir / ".hmacfs/content").exists()
