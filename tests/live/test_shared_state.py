"""What uploads leave in shared state: written behind the answer, complete at the end, told by the commands."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import hmacfs
from tests.live.faces import FACES, Upload
from tests.live.tierservers import RedisTierServer, TierServer, tier_servers
from tests.support.http import get, put
from tests.support.polling import until
from tests.support.running import only
from tests.support.server import Server

NEVER = 36_000.0
"""Seconds after which what happens by the clock happens."""

UNFLUSHED = {"hmacfs.services.recorder:FLUSH_SECONDS": NEVER}
UNPROBED = {"hmacfs.state.failover:PROBE_SECONDS": NEVER, "hmacfs.services.bans:REFRESH_SECONDS": NEVER}
SIZE = 2000
SOON = 5.0
"""Seconds for what is written within a fifth of one, on a busy machine."""

_OWN_COMMANDS = {"auth", "client|setinfo", "hello", "info", "select"}
"""Of the client that counts."""


@pytest.fixture(scope="module")
def tiers() -> Iterator[dict[str, TierServer]]:
    """Each of the servers, started when it is first asked for."""
    with ExitStack() as stack:

        class Tiers(dict[str, TierServer]):
            def __missing__(self, name: str) -> TierServer:
                self[name] = tier_servers()[name]()
                stack.enter_context(self[name].server)
                return self[name]

        yield Tiers()


@pytest.fixture
def redis_tier(tiers: dict[str, TierServer]) -> RedisTierServer:
    tier = tiers["redis"]
    assert isinstance(tier, RedisTierServer)
    tier.server.recover()
    return tier


@pytest.fixture
def postgres_tier(tiers: dict[str, TierServer]) -> TierServer:
    tiers["postgres"].server.recover()
    return tiers["postgres"]


@pytest.fixture(params=["redis", "postgres", "mariadb"])
def tier(request: pytest.FixtureRequest, tiers: dict[str, TierServer]) -> TierServer:
    found = tiers[request.param]
    found.server.recover()
    return found


def commands(tier: RedisTierServer) -> dict[str, int]:
    """How often Redis was asked for what, by anybody but this."""
    with tier.server.client() as client:
        stats: Any = client.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    return {name: count for name, count in counts.items() if name not in _OWN_COMMANDS}


def calmed(tier: RedisTierServer) -> dict[str, int]:
    """The same, once nobody has asked for a while; nothing before."""
    counts = commands(tier)
    time.sleep(0.3)
    return counts if commands(tier) == counts else {}


def wait_for(server: Server, tier: TierServer) -> None:
    workers = int(server.keys["NumCores"])
    until(lambda: len(server.lines(tier.serves)) == workers, f"{tier.name} serves")


def publish(server: Server, face: str, path: str) -> Upload:
    """An upload in two pieces."""
    upload = Upload(face, path, os.urandom(SIZE))
    upload.begin(server, SIZE // 2)
    assert upload.send(server, SIZE // 2, SIZE).status in (201, 204)
    return upload


def listed(server: Server) -> dict[str, int]:
    """Path to bytes received, as ``hmacfs uploads`` tells it."""
    done = hmacfs("uploads", "--config", server.config, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["path"]: row["received"] for row in rows}


# --- on whose time ---


def test_no_request_of_any_face_asks_redis(redis_tier: RedisTierServer, tmp_path: Path) -> None:
    with Server(tmp_path, constants=UNFLUSHED | UNPROBED, **redis_tier.keys()) as server:
        wait_for(server, redis_tier)
        before = until(lambda: calmed(redis_tier), "what a start asks has been asked")

        for number in range(20):
            assert put(server, f"id/{number}", bytes(SIZE)).status == 201
            assert get(server, f"id/{number}").status == 200
        for face in FACES:
            publish(server, face, f"id/{face}")
            Upload(face, f"id/{face}-kept", bytes(SIZE)).begin(server, 1)

        assert commands(redis_tier) == before
        server.signal(signal.SIGTERM)
        server.wait()
    assert redis_tier.files().keys() == {f"id/{name}" for name in (*range(20), *FACES)}
    assert redis_tier.sessions() == {f"id/{face}-kept": 1 for face in FACES}


# --- what is written, and when ---


def test_a_file_of_any_face_is_in_redis_and_in_the_sql_server_soon(
    redis_tier: RedisTierServer, postgres_tier: TierServer, tmp_path: Path
) -> None:
    with Server(tmp_path, **redis_tier.keys(), **postgres_tier.keys()) as server:
        until(lambda: server.lines("State tier: redis serves unfinished uploads, postgres"), "both serve")

        put(server, "id/plain", bytes(SIZE))
        for face in FACES:
            publish(server, face, f"id/{face}")

        expected = {f"id/{name}": SIZE for name in ("plain", *FACES)}
        until(lambda: redis_tier.files() == expected, "Redis has the rows", SOON)
        until(lambda: postgres_tier.files() == expected, "PostgreSQL has the rows", SOON)
        until(lambda: redis_tier.sessions() == {}, "no upload is unfinished", SOON)


def test_what_is_queued_is_written_at_term(tier: TierServer, tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2, constants=UNFLUSHED, **tier.keys()) as server:
        wait_for(server, tier)
        names = {f"id/{number}" for number in range(30)}
        for name in names:
            assert put(server, name, bytes(SIZE)).status == 201
        Upload("tus", "id/kept", bytes(SIZE)).begin(server, 7)
        assert (tier.files(), tier.sessions()) == ({}, {})

        server.signal(signal.SIGTERM)
        server.wait()

    found = tier.files() if tier.has_catalog else embedded_files(server)
    assert found.keys() == names
    assert tier.sessions() == {"id/kept": 7}


def embedded_files(server: Server) -> dict[str, int]:
    """The catalogue in StateDir, once the server has ended."""
    database = sqlite3.connect(server.state_dir / "state.db")
    try:
        return dict(database.execute("SELECT path, size FROM hmacfs_files"))
    finally:
        database.close()


# --- facts of several workers ---


def test_an_upload_that_one_worker_began_and_another_published_is_not_listed(
    redis_tier: RedisTierServer, tmp_path: Path
) -> None:
    with Server(tmp_path, NumCores=2, constants=UNFLUSHED, **redis_tier.keys()) as server:
        wait_for(server, redis_tier)
        began, published = server.worker_pids()
        upload = Upload("tus", "id/file", bytes(SIZE))
        with only(server, began):
            upload.begin(server)
            Upload("tus", "id/other", bytes(SIZE)).begin(server)
        with only(server, published):
            assert upload.send(server, 0, SIZE).status == 204

        os.kill(published, signal.SIGTERM)  # a worker that ends writes what it knows
        until(lambda: redis_tier.files(), "it has written")
        until(lambda: published not in server.worker_pids(), "it has ended")
        os.kill(began, signal.SIGTERM)
        until(lambda: "id/other" in redis_tier.sessions(), "the other has written, too")

        assert redis_tier.sessions().keys() == {"id/other"}


# --- the commands ---


def test_hmacfs_uploads_lists_an_upload_until_it_is_published(tier: TierServer, tmp_path: Path) -> None:
    with Server(tmp_path, **tier.keys()) as server:
        wait_for(server, tier)
        uploads = [Upload(face, f"id/{face}", os.urandom(SIZE)) for face in FACES]

        def all_at(offset: int) -> dict[str, int]:
            expected = {upload.path: offset for upload in uploads}
            until(lambda: tier.sessions() == expected, f"all uploads are known to be at {offset}")
            return expected

        for upload in uploads:
            upload.begin(server, 500)
        expected = all_at(500)
        assert listed(server) == expected
        for upload in uploads:
            upload.send(server, 500, 1200)
        expected = all_at(1200)
        assert listed(server) == expected
        for upload in uploads:
            upload.send(server, 1200, SIZE)

        until(lambda: tier.sessions() == {}, "they are known to be published")
        assert listed(server) == {}


def test_hmacfs_uploads_forgets_an_upload_that_was_terminated(redis_tier: RedisTierServer, tmp_path: Path) -> None:
    with Server(tmp_path, **redis_tier.keys()) as server:
        wait_for(server, redis_tier)
        uploads = [Upload(face, f"id/{face}", os.urandom(SIZE)) for face in ("tus", "draft")]
        for upload in uploads:
            upload.begin(server, 500)
        until(lambda: len(redis_tier.sessions()) == 2, "both are known")
        before = listed(server)

        assert [upload.terminate(server).status for upload in uploads] == [204, 204]

        until(lambda: redis_tier.sessions() == {}, "both are known to be given up")
        assert before == {"id/tus": 500, "id/draft": 500}
        assert listed(server) == {}


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_hmacfs_reindex_rebuilds_a_catalogue_that_was_dropped(
    tiers: dict[str, TierServer], tmp_path: Path, name: str
) -> None:
    tier = tiers[name]
    tier.server.recover()
    with Server(tmp_path, **tier.keys()) as server:
        wait_for(server, tier)
        for number in range(30):
            put(server, f"id/{number}", bytes(SIZE + number))
        publish(server, "tus", "id/in-pieces")
        expected = {f"id/{number}": SIZE + number for number in range(30)} | {"id/in-pieces": SIZE}
        until(lambda: tier.files() == expected, "the catalogue is complete")

        tier.server.make_clean()
        dropped = tier.files()
        done = hmacfs("reindex", "--config", server.config)

        assert dropped == {}
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "31 files: 31 recorded; 0 rows without a file forgotten.\n"
        assert tier.files() == expected
        put(server, "id/later", bytes(SIZE))
        until(lambda: tier.files() == expected | {"id/later": SIZE}, "the server goes on with it")
