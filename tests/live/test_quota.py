"""UserQuota and QuotaByFirstSegment on a running server of two workers: shared, given back, and open in doubt."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.running import hmacfs
from tests.live.faces import FACES, Upload
from tests.live.tierservers import RedisTierServer, TierServer, tier_servers
from tests.support.http import MIB, Connection, put, put_head
from tests.support.polling import until
from tests.support.running import begin_upload, held_by
from tests.support.server import Server
from tests.support.slot import face

QUOTA = 4 * MIB
FULL = (507, "quota-exceeded")
SOON = {
    "hmacfs.services.quotas:FRESH_SECONDS": 0.2,
    "hmacfs.services.quotas:LEASE_SECONDS": 8,
    "hmacfs.services.quotas:RENEW_SECONDS": 0.5,
}
"""5, 300 and 100 seconds in earnest."""


def quotas(folder: Path, **keys: object) -> Server:
    return Server(folder, NumCores=2, UserQuota=QUOTA, QuotaByFirstSegment=True, constants=SOON, **keys)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with quotas(tmp_path_factory.mktemp("quota")) as running:
        # The quota is soft: a worker without a tier of shared state lets everybody in.
        until(lambda: len(running.lines("State tier: embedded serves")) == 2, "both workers can count")
        yield running


def filled(server: Server, user: str, size: int = QUOTA) -> None:
    assert put(server, f"{user}/first/a", bytes(size)).status == 201


@pytest.mark.parametrize("size", [1000, MIB], ids=["small", "large"])
def test_user_quota_bounds_what_one_user_has(server: Server, size: int) -> None:
    user = f"bounded{size}"
    filled(server, user, QUOTA - size)

    answers = [put(server, f"{user}/{number}/a", bytes(size)) for number in range(3)]
    other = put(server, f"other{size}/1/a", bytes(size))

    assert [face(answer) for answer in answers] == [(201, None), FULL, FULL]
    assert other.status == 201
    until(lambda: put(server, f"{user}/more/empty", b"").status == 201, "nothing is counted twice any more")


def test_quota_by_first_segment_counts_paths_of_exactly_three_segments(server: Server) -> None:
    filled(server, "three")

    answers = [put(server, path, b"hello") for path in ("three/a", "three", "x/three/a", "three/x/y/a", "three/x/b")]

    assert [answer.status for answer in answers] == [201, 409, 201, 201, 507]


def test_uploads_at_once_through_two_workers_do_not_go_beyond_the_quota(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: put(server, f"race/{number}/a", bytes(MIB)), range(12)))

    assert sorted(face(answer) for answer in answers) == [(201, None)] * 4 + [FULL] * 8


def test_a_refusal_comes_before_the_body(server: Server) -> None:
    filled(server, "early")
    with Connection(server.address) as connection:
        connection.send(put_head(server, "early/x/a", MIB, headers=[("Expect", "100-continue")]))

        first = connection.read_head()

    assert face(first) == FULL


def test_a_broken_upload_gives_its_bytes_back(server: Server) -> None:
    with ExitStack() as stack:
        begin_upload(server, stack, "broken/1/a", QUOTA)
        assert face(put(server, "broken/2/a", b"hello")) == FULL

    until(lambda: put(server, "broken/2/a", b"hello").status == 201, "there is room again")


def test_a_killed_worker_holds_bytes_for_the_lease_only(server: Server) -> None:
    with ExitStack() as stack:
        begin_upload(server, stack, "killed/1/a", QUOTA)
        (pid,) = [pid for pid in server.worker_pids() if held_by(server, pid)]
        assert face(put(server, "killed/2/a", b"hello")) == FULL

        os.kill(pid, signal.SIGKILL)

        until(lambda: len(server.ready_workers()) == 2, "another worker is there")
        until(lambda: put(server, "killed/2/a", b"hello").status == 201, "the lease is over")


def test_a_deleted_file_makes_room(server: Server) -> None:
    filled(server, "deleted")
    assert face(put(server, "deleted/2/a", b"hello")) == FULL
    (server.store_dir / "deleted/first/a").unlink()

    assert hmacfs("reindex", "--config", server.config).returncode == 0

    assert put(server, "deleted/2/a", b"hello").status == 201


def test_files_from_before_the_quota_are_counted_after_reindex(tmp_path: Path) -> None:
    with quotas(tmp_path) as server:
        folder = server.store_dir / "early/x"
        folder.mkdir(parents=True)
        (folder / "a").write_bytes(bytes(QUOTA))
        assert hmacfs("reindex", "--config", server.config).returncode == 0

        assert face(put(server, "early/y/b", b"hello")) == FULL


@pytest.mark.parametrize("way", FACES)
def test_an_upload_in_pieces_reserves_all_of_it_at_once(server: Server, way: str) -> None:
    body = bytes(QUOTA - 10)
    upload = Upload(way, f"pieces-{way}/1/a", body)
    assert upload.begin(server, 1000).status in (201, 202)

    refused = [
        put(server, f"pieces-{way}/2/a", bytes(100)),
        Upload(way, f"pieces-{way}/3/a", bytes(100)).begin(server, 50),
    ]
    last = upload.send(server, 1000, len(body))
    until(lambda: put(server, f"pieces-{way}/4/a", bytes(10)).status == 201, "what is left is given")

    assert [face(answer) for answer in refused] == [FULL] * 2
    assert last.status in (201, 204)
    assert face(put(server, f"pieces-{way}/5/a", bytes(1))) == FULL


@pytest.mark.parametrize("way", ["tus", "draft"])
def test_a_terminated_upload_gives_its_bytes_back(server: Server, way: str) -> None:
    upload = Upload(way, f"ended-{way}/1/a", bytes(QUOTA))
    upload.begin(server, 1000)
    assert face(put(server, f"ended-{way}/2/a", b"hello")) == FULL

    assert upload.terminate(server).status == 204

    until(lambda: put(server, f"ended-{way}/2/a", b"hello").status == 201, "there is room again")


@pytest.mark.parametrize("way", FACES)
def test_a_file_in_one_piece_gives_back_what_a_larger_upload_to_its_path_had_reserved(server: Server, way: str) -> None:
    Upload(way, f"other-{way}/1/a", bytes(QUOTA)).begin(server, 1000)
    assert face(put(server, f"other-{way}/2/a", b"hello")) == FULL

    assert put(server, f"other-{way}/1/a", b"").status == 201

    until(lambda: put(server, f"other-{way}/2/a", bytes(QUOTA)).status == 201, "there is room again")


@pytest.fixture(scope="module")
def redis_tier() -> Iterator[RedisTierServer]:
    tier: TierServer = tier_servers()["redis"]()
    assert isinstance(tier, RedisTierServer)
    with tier.server:
        yield tier


def test_the_quota_is_shared_in_redis_and_outlives_it(redis_tier: RedisTierServer, tmp_path: Path) -> None:
    with quotas(tmp_path, **redis_tier.keys()) as server:
        until(lambda: len(server.lines(redis_tier.serves)) == 2, "redis serves")
        filled(server, "romeo", QUOTA - MIB)
        with redis_tier.server.client() as client:
            (account,) = client.scan_iter("*account:*")
            until(
                lambda: client.hget(account, "stored") == str(QUOTA - MIB), "the file is in the catalogue and settled"
            )
        assert face(put(server, "romeo/2/a", bytes(2 * MIB))) == FULL

        redis_tier.server.kill()
        refused = [put(server, f"romeo/{number}/b", bytes(2 * MIB)) for number in range(4)]
        taken = put(server, "romeo/3/a", bytes(MIB))

        assert [face(answer) for answer in refused] == [FULL] * 4  # the embedded tier counted anew
        assert taken.status == 201
        assert not server.lines("Unforeseen error")


def test_without_any_tier_the_quota_is_open_and_nothing_is_500(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").mkdir()  # where the embedded file should be
    with quotas(tmp_path, **{"Secret": "a-secret-for-tests-0123456789abcdef"}) as server:
        answers = [put(server, f"romeo/{number}/a", bytes(2 * MIB)) for number in range(4)]

    assert [answer.status for answer in answers] == [201] * 4
