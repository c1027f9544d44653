"""A running server deletes by age and by size, answers 410 for what is gone, and sweeps beside its clients."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.storage.metadata import EXPIRES_ATTRIBUTE
from tests.live.faces import Upload
from tests.support.http import Connection, get, head_of, put, url_of
from tests.support.polling import until
from tests.support.server import Server

DAY, HOUR = 86400, 3600
QUICK = {"SweepInterval": 1}
"""The shortest interval: a sweep is always due."""
SOON = {"hmacfs.services.janitor:LEASE_SECONDS": 4, "hmacfs.services.janitor:RENEW_SECONDS": 1.0}
"""A worker that ends in the middle of a sweep keeps the next one from sweeping for so long; a minute in earnest."""


def age(server: Server, path: str, seconds: float) -> None:
    """Let a stored file be older."""
    moment = time.time() - seconds
    os.utime(server.store_dir / path, (moment, moment))


def until_gone(server: Server, path: str) -> None:
    until(lambda: not (server.store_dir / path).exists(), f"{path} is swept")


def removals(server: Server) -> list[str]:
    """What the log says of removed files, without the time."""
    return sorted(line.partition("File removed: ")[2] for line in server.lines("File removed: "))


def sweeps(server: Server) -> str:
    return (server.store_dir / ".hmacfs/sweep.json").read_text()


def until_swept(server: Server) -> None:
    """Until a sweep has begun and ended from now on."""
    for _ in range(2):
        before = sweeps(server)
        until(lambda before=before: sweeps(server) != before, "a sweep has begun")  # type: ignore[misc]


# --- each key ---


def test_file_ttl_deletes_what_is_older(tmp_path: Path) -> None:
    with Server(tmp_path, FileTTL="30d", **QUICK) as server:
        for path in ("id/old", "id/young"):
            put(server, path, b"hello")
        age(server, "id/young", 30 * DAY - HOUR)
        age(server, "id/old", 30 * DAY)

        until_gone(server, "id/old")

        assert get(server, "id/young").body == b"hello"
        until(lambda: removals(server), "the log tells")
        assert removals(server) == ["id/old reason=FileTTL size=5"]
        said = server.lines("Retention: ")
        assert [line.partition("] ")[2] for line in said] == [
            "Retention: files are deleted 30d after they were stored (FileTTL)"
        ]


def test_caches_are_told_no_more_than_the_time_that_is_left(tmp_path: Path) -> None:
    with Server(tmp_path, FileTTL="10d") as server:
        put(server, "id/file", b"hello")
        age(server, "id/file", 4 * DAY)
        kept = get(server, "id/file")["Cache-Control"]
        age(server, "id/file", 11 * DAY)
        late = get(server, "id/file")["Cache-Control"]

    left = int(kept.removeprefix("public, max-age=").removesuffix(", immutable"))
    assert 6 * DAY - 60 <= left <= 6 * DAY
    assert late == "public, max-age=0, immutable"


def test_delete_files_deletes_after_delete_files_after_period(tmp_path: Path) -> None:
    with Server(tmp_path, DeleteFiles=True, DeleteFilesAfterPeriod="2d", **QUICK) as server:
        put(server, "id/old", b"hello")
        age(server, "id/old", 2 * DAY)

        until_gone(server, "id/old")

        until(lambda: removals(server) == ["id/old reason=DeleteFilesAfterPeriod size=5"], "the log tells")


def test_delete_files_after_period_alone_deletes_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, DeleteFilesAfterPeriod="2d", MaxRetentionTime="1d", MaxRetentionSize=1, **QUICK) as server:
        put(server, "id/old", b"hello")
        age(server, "id/old", 900 * DAY)
        until(lambda: (server.store_dir / ".hmacfs/sweep.json").exists(), "a sweep has begun")

        until_swept(server)

        assert get(server, "id/old").status == 200


def test_max_retention_time_deletes_where_retention_policy_enabled_says_so(tmp_path: Path) -> None:
    with Server(tmp_path, RetentionPolicyEnabled=True, MaxRetentionTime="1d", FileTTL="3d", **QUICK) as server:
        put(server, "id/old", b"hello")
        age(server, "id/old", DAY)

        until_gone(server, "id/old")

        assert "(MaxRetentionTime, shorter than FileTTL = 3d)" in server.output()


def test_max_retention_size_deletes_the_oldest(tmp_path: Path) -> None:
    with Server(
        tmp_path, RetentionPolicyEnabled=True, MaxRetentionSize=25_000, SweepInterval=3600, constants=SOON
    ) as server:
        for number in range(5):
            put(server, f"id/{number}", bytes(10_000))
            age(server, f"id/{number}", 10 * DAY - number * HOUR)
        server.stop()
        server.write_config(SweepInterval=1)
        (server.store_dir / ".hmacfs/sweep.json").unlink(missing_ok=True)
        server.start()

        until_gone(server, "id/2")

        until(lambda: len(removals(server)) == 3, "the log tells")
        assert removals(server) == [f"id/{number} reason=MaxRetentionSize size=10000" for number in range(3)]
        assert [get(server, f"id/{number}").status for number in range(5)] == [410, 410, 410, 200, 200]


def test_sweep_interval_says_how_often(tmp_path: Path) -> None:
    with Server(
        tmp_path, FileTTL="1d", SweepInterval="1h", constants={"hmacfs.services.janitor:LOOK_SECONDS": 1.0}
    ) as server:
        until(lambda: (server.store_dir / ".hmacfs/sweep.json").exists(), "the first sweep has begun")
        before = until(lambda: sweeps(server), "it is noted")
        until(lambda: '"trusted": {' in sweeps(server), "it has ended")
        put(server, "id/old", b"hello")
        age(server, "id/old", 2 * DAY)
        noted = json.loads(sweeps(server))
        noted["last"]["steady"] -= 3596
        (server.store_dir / ".hmacfs/sweep.json").write_text(json.dumps(noted))
        assert (server.store_dir / "id/old").exists()

        until_gone(server, "id/old")  # four seconds later

        assert before != sweeps(server)


def test_a_reload_that_changes_the_rules_says_so_and_the_workers_follow(tmp_path: Path) -> None:
    with Server(tmp_path, constants=SOON, **QUICK) as server:
        put(server, "id/old", b"hello")
        age(server, "id/old", 8 * DAY)
        until(lambda: (server.store_dir / ".hmacfs/sweep.json").exists(), "a sweep has begun")
        until_swept(server)
        assert (server.store_dir / "id/old").exists()
        server.write_config(FileTTL="7d")

        server.signal(signal.SIGHUP)

        until_gone(server, "id/old")
        assert len(server.lines("Retention: files are deleted 7d after they were stored (FileTTL)")) == 1


# --- 410 ---


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two workers on which ``id/gone`` has expired."""
    with Server(tmp_path_factory.mktemp("after"), FileTTL="1d", NumCores=2, **QUICK) as server:
        put(server, "id/gone", b"hello")
        age(server, "id/gone", 2 * DAY)
        until_gone(server, "id/gone")
        yield server


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_that_has_expired_is_gone_and_not_unknown(after: Server, method: str) -> None:
    answer = get(after, "id/gone", method=method)

    assert (answer.status, answer.code) == (410, "gone")
    assert get(after, "id/never", method=method).status == 404


@pytest.mark.parametrize("size", [5, 200_000])
def test_a_replayed_put_does_not_bring_it_back(after: Server, size: int) -> None:
    answer = put(after, "id/gone", bytes(size))

    assert (answer.status, answer.code) == (410, "gone")
    assert get(after, "id/gone").status == 410


@pytest.mark.parametrize("face", ["session", "tus", "draft"])
def test_no_face_of_resumable_uploads_brings_it_back(after: Server, face: str) -> None:
    answer = Upload(face, "id/gone", bytes(1000)).begin(after, 500)

    assert answer.status == 410
    assert get(after, "id/gone").status == 410


def test_a_restart_forgets_no_path_that_is_gone(tmp_path: Path) -> None:
    with Server(tmp_path, FileTTL="1d", constants=SOON, **QUICK) as server:
        put(server, "id/gone", b"hello")
        age(server, "id/gone", 2 * DAY)
        until_gone(server, "id/gone")

        server.stop()
        server.start()

        assert [get(server, "id/gone").status, put(server, "id/gone", b"hello").status] == [410, 410]


# --- beside the clients ---


def test_a_download_of_a_file_that_expires_is_whole(tmp_path: Path) -> None:
    content = os.urandom(8 << 20)
    with Server(tmp_path, FileTTL="1d", **QUICK) as server:
        put(server, "id/film", content)
        with Connection(server.address) as connection:
            connection.send(head_of("GET", url_of(server, "id/film")))
            answer = connection.read_head()
            age(server, "id/film", 2 * DAY)
            until_gone(server, "id/film")

            body = b"".join(connection.blocks(int(answer["Content-Length"])))

        assert body == content


def test_a_files_own_end_comes_before_every_limit(tmp_path: Path) -> None:
    with Server(tmp_path, **QUICK) as server:
        put(server, "id/claimed", b"hello")
        os.setxattr(server.store_dir / "id/claimed", EXPIRES_ATTRIBUTE, b"%d" % (time.time() - 1))

        until_gone(server, "id/claimed")

        until(lambda: removals(server) == ["id/claimed reason=claim size=5"], "the log tells")


def test_a_stop_ends_a_sweep_within_a_second(tmp_path: Path) -> None:
    constants = {"hmacfs.services.sweep:LEAST_REST": 0.5, "hmacfs.services.sweep:BATCH": 8}
    with Server(tmp_path, FileTTL="1d", constants=constants, **QUICK) as server:
        for number in range(1000):
            place = server.store_dir / f"id-{number}" / "file"
            place.parent.mkdir()
            place.write_bytes(b"x")
            os.utime(place, (1, 1))
        until(lambda: len(removals(server)) > 10, "a sweep is under way")

        server.signal(signal.SIGTERM)
        begun = time.monotonic()
        assert server.wait() == 0

        assert time.monotonic() - begun < 15  # the sweep would take a minute
        assert any((server.store_dir / f"id-{number}").exists() for number in range(1000))


def test_of_two_workers_one_sweeps(tmp_path: Path) -> None:
    with Server(tmp_path, FileTTL="1d", NumCores=2, **QUICK) as server:
        for number in range(100):
            put(server, f"id/{number}", b"hello")
            age(server, f"id/{number}", 2 * DAY)

        until(lambda: not list(server.store_dir.glob("id/*")), "all are swept")

        until(lambda: len(removals(server)) >= 100, "the log tells")
        assert len(removals(server)) == len(set(removals(server))) == 100


def test_a_clock_that_has_run_ahead_stops_the_age_rules_with_one_error_line(tmp_path: Path) -> None:
    with Server(tmp_path, FileTTL="30d", SweepInterval="1h", constants=SOON) as server:
        for number in range(120):
            place = server.store_dir / f"id-{number}" / "file"
            place.parent.mkdir()
            place.write_bytes(b"x")
            moment = time.time() - 40 * DAY
            os.utime(place, (moment, moment))
        server.stop()
        moment_then = {"wall": time.time() - 60 * DAY, "steady": 1.0, "boot": 7}
        notes = {"last": moment_then, "trusted": moment_then, "tidied": None}
        (server.store_dir / ".hmacfs/sweep.json").write_text(json.dumps(notes))
        server.write_config(SweepInterval=2)
        server.start()

        until(lambda: server.lines("The clock has run ahead"), "the log tells")

        assert len(list(server.store_dir.glob("id-*/file"))) == 120
        assert removals(server) == []
