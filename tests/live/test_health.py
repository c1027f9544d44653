"""Health of real servers: what a balancer is told while a disk, a tier or the server itself is in trouble."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hmacfs.services.health import SILENT
from hmacfs.storage.probe import ANOTHER
from tests.support.http import Answer, Connection, get, head_of, put, put_head, request
from tests.support.metrics import ask
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.redis import PASSWORD, RedisServer
from tests.support.running import begin_upload, make_ext4, mounted, refuses, small_tmpfs
from tests.support.server import SECRET, Server
from tests.support.skipping import skip_or_fail

MIB = 1024 * 1024
BALANCER = 10.0
"""Seconds in which an answer must be there whatever the disk does: a second of patience, and a machine that is busy."""


def ready(server: Server) -> tuple[int, dict[str, Any]]:
    answer = ask(server, "/health/ready")
    assert answer["Content-Type"] == "application/json"
    return answer.status, json.loads(answer.body)


def codes(server: Server) -> list[str]:
    """Why it is not well."""
    return [reason["code"] for reason in ready(server)[1]["reasons"]]


def becomes_well(server: Server) -> None:
    until(lambda: ready(server) == (200, {"condition": "ready", "reasons": []}), "it is well")


def is_alive(server: Server) -> bool:
    answer = ask(server, "/health/live")
    return (answer.status, answer.body) == (200, b"ok\n")


# --- the paths ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), NumCores=2) as running:
        yield running


def test_a_server_that_is_well_is_live_and_ready(server: Server) -> None:
    becomes_well(server)

    assert is_alive(server)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/status.json"])
def test_only_reading_is_allowed_and_nothing_of_it_is_kept(server: Server, path: str) -> None:
    answer, head = ask(server, path), request_head(server, path)

    assert (answer.status, answer["Cache-Control"]) == (200, "no-store")
    assert (head.status, head["Content-Type"]) == (200, answer["Content-Type"])
    assert ask(server, path, "POST").status == 405
    assert ask(server, f"{path}/").status == 404


def request_head(server: Server, path: str) -> Answer:
    with Connection(server.operations) as connection:
        connection.send(head_of("HEAD", path))
        return connection.read_answer(bodiless=True)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/status.json"])
def test_the_public_listener_answers_404_and_the_main_one_that_is_both_answers(tmp_path: Path, path: str) -> None:
    with Server(tmp_path, MetricsPort="") as server:
        assert request(server, "GET", path).status == 200

        server.stop()
        server.write_config(MetricsPort=f"127.0.0.1:{free_port()}")
        server.start()
        assert request(server, "GET", path).status == 404


def test_many_probes_at_once_are_all_answered(server: Server) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: ready(server)[0], range(100)))

    assert answers == [200] * 100


def test_the_status_says_what_the_server_does(server: Server) -> None:
    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask(server, "/status.json").body)
        return found

    before = status()
    assert put(server, "status/file", b"hello").status == 201
    assert get(server, "status/file").status == 200
    with ExitStack() as stack:
        begin_upload(server, stack, "status/slow", 5 * MIB)
        until(lambda: (status()["uploads"], status()["connections"]) == (1, 1), "the running upload is told")
    done = until(
        lambda: found if (found := status())["completed"]["downloads"] > before["completed"]["downloads"] else None,
        "the download is counted",
    )

    assert done is not None
    assert done["completed"]["uploads"] == before["completed"]["uploads"] + 1
    assert done["store"]["files"] == before["store"]["files"] + 1
    assert done["store"]["bytes"] == before["store"]["bytes"] + 5
    assert done["store"]["free"] > 0
    assert (done["workers"], done["condition"], done["bans"]) == (2, "ready", 0)
    assert done["uptime"] >= before["uptime"]
    assert done["memory"] > 20_000_000
    assert done["tiers"] == [{"name": "embedded", "why": ""}]


# --- the store ---


def test_a_store_that_is_full_is_not_ready_until_there_is_space(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "store", 16) as store, Server(tmp_path, MinFreeSpace="2MiB") as server:
        becomes_well(server)
        filler = store / "filler"
        filler.write_bytes(bytes(15 * MIB))

        until(lambda: codes(server) == ["low-space"], "too little space is told")
        refused = put(server, "a/file", b"hello")
        fill(store)
        until(lambda: codes(server) == ["store-not-writable", "low-space"], "no space at all is told")
        status, verdict = ready(server)
        alive = is_alive(server)
        for path in store.glob("filler*"):
            path.unlink()

        becomes_well(server)
        assert (status, verdict["condition"], alive) == (503, "not-ready", True)
        assert verdict["reasons"][0]["sentence"] == "The store cannot be written: No space left on device."
        assert refused.status == 507
        until(lambda: put(server, "a/file", b"hello").status == 201, "uploads are taken again")


def fill(store: Path) -> None:
    info = os.statvfs(store)
    (store / "filler.rest").write_bytes(bytes(info.f_bavail * info.f_frsize))


def test_a_store_whose_mount_has_gone_is_not_ready(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "store", 16) as store, Server(tmp_path, MinFreeSpace=0) as server:
        becomes_well(server)
        subprocess.run(["umount", "--lazy", str(store)], check=True)

        try:
            until(lambda: ready(server)[0] == 503, "it is told")
            (reason,) = ready(server)[1]["reasons"]
            assert reason["code"] == "store-not-writable"
            assert ANOTHER in reason["sentence"]
            assert is_alive(server)
        finally:  # something to unmount, for the block that mounted it
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(store)], check=True)


@contextmanager
def immutable(folder: Path) -> Iterator[None]:
    """Nothing can be made in it, by root neither."""
    if shutil.which("chattr") is None:
        skip_or_fail("chattr is not installed")
    subprocess.run(["chattr", "+i", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """StoreDir on an ext4 of its own."""
    make_ext4(tmp_path / "image", 32)
    with mounted(tmp_path / "store", "-o", "loop", str(tmp_path / "image")) as folder:
        yield folder


def test_a_store_that_may_not_be_written_is_not_ready_until_it_may(tmp_path: Path, disk: Path) -> None:
    with Server(tmp_path, MinFreeSpace=0) as server:
        becomes_well(server)

        with immutable(disk / ".hmacfs" / "staging"):
            until(lambda: codes(server) == ["store-not-writable"], "it is told")
            assert ready(server)[0] == 503
            assert is_alive(server)

        becomes_well(server)


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Who writes there waits until the block ends, as with a disk that hangs."""
    if shutil.which("fsfreeze") is None:
        skip_or_fail("fsfreeze is not installed")
    subprocess.run(["fsfreeze", "--freeze", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=True)


def test_a_store_that_hangs_is_told_in_time_and_keeps_nobody_else_waiting(tmp_path: Path, disk: Path) -> None:
    with Server(tmp_path, MinFreeSpace=0, DeduplicationEnabled=False) as server:
        assert put(server, "a/file", b"x" * 100_000).status == 201
        becomes_well(server)

        with frozen(disk):
            until(lambda: ready(server)[0] == 503, "it is told")
            began = time.monotonic()
            with ThreadPoolExecutor(10) as threads:
                told = list(threads.map(lambda _: codes(server), range(20)))
            seconds = time.monotonic() - began
            sentence = ready(server)[1]["reasons"][0]["sentence"]
            status = ask(server, "/status.json")
            alive, served = is_alive(server), get(server, "a/file").status
            until(lambda: hanging_threads(server) == 1, "one thread alone waits for the disk")

        assert told == [["store-not-writable"]] * 20
        assert seconds < BALANCER
        assert sentence == f"The store cannot be written: {SILENT}."
        assert json.loads(status.body)["condition"] == "not-ready"
        assert (alive, served) == (True, 200)
        becomes_well(server)


def hanging_threads(server: Server) -> int:
    """Threads of the worker that wait for a disk."""
    folder = Path(f"/proc/{server.worker()}/task")
    states = [(each / "stat").read_text().rpartition(") ")[2].split()[0] for each in folder.iterdir()]
    return states.count("D")


# --- shared state, secret, memory ---


def test_a_tier_that_is_killed_degrades_the_server_until_it_is_back(tmp_path: Path) -> None:
    with (
        RedisServer() as redis,
        Server(tmp_path, RedisAddr=f"127.0.0.1:{redis.port}", RedisPassword=PASSWORD) as server,
    ):
        becomes_well(server)

        redis.kill()
        until(lambda: codes(server) == ["tier-down"], "it is told")
        status, verdict = ready(server)
        uploaded = put(server, "a/file", b"hello").status
        tiers = json.loads(ask(server, "/status.json").body)["tiers"]
        redis.start()

        becomes_well(server)
        assert (status, verdict["condition"], uploaded) == (200, "degraded", 201)
        assert verdict["reasons"][0]["sentence"].startswith("Shared state: redis is down (")
        assert [(each["name"], bool(each["why"])) for each in tiers] == [("redis", True), ("embedded", False)]
        assert PASSWORD not in json.dumps((verdict, tiers))


def test_a_secret_that_cannot_be_read_again_degrades_every_worker_until_it_can(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    reask: dict[str, Any] = {"ReaskSecretEnabled": True, "ReaskSecretInterval": 1, "NumCores": 2}
    with Server(tmp_path, Secret="", SecretFile=str(file), **reask) as server:
        becomes_well(server)

        file.rename(tmp_path / "elsewhere")
        until(lambda: times(10, lambda: codes(server)) == [["secret-unreadable"]] * 10, "both workers tell it")
        verdict = ready(server)
        told = json.loads(ask(server, "/status.json").body)["secret_trouble"]
        (tmp_path / "elsewhere").rename(file)

        until(lambda: times(10, lambda: codes(server)) == [[]] * 10, "both workers are well")
        assert verdict[0] == 200
        assert "SecretFile" in told
        assert SECRET not in json.dumps((verdict, told))


def times(count: int, question: Callable[[], list[str]]) -> list[list[str]]:
    """On connections that any worker may take."""
    return [question() for _ in range(count)]


def test_workers_over_the_memory_limit_make_the_server_not_ready(tmp_path: Path) -> None:
    never_replaced = {"hmacfs.server.memorylimit:_LEAST_AGE_SECONDS": 3600.0}
    with Server(tmp_path, MaxMemoryMB=1, constants=never_replaced) as server:
        until(lambda: codes(server) == ["memory-over-limit"], "it is told")

        assert ready(server)[0] == 503
        assert put(server, "a/file", b"hello").code == "server-busy"


# --- the end ---


def test_a_server_that_stops_is_live_and_not_ready_and_refuses_uploads(tmp_path: Path) -> None:
    size = 2 * MIB
    with Server(tmp_path, GracefulShutdownTimeout=60, HeadTimeout=60) as server, ExitStack() as stack:
        running = begin_upload(server, stack, "drain/running", size)
        late, head = stack.enter_context(Connection(server.address)), put_head(server, "drain/late", 5)
        late.send(head[:20])
        for _ in range(3):  # by then it has read the beginning of the head too
            get(server, "nothing")
        becomes_well(server)

        server.signal(signal.SIGTERM)
        until(lambda: refuses(server), "no new connection is taken")
        status, verdict = ready(server)
        alive = is_alive(server)
        late.send(head[20:] + b"hello")
        refused = late.read_answer()
        running.send(bytes(size - 100_000))

        assert running.read_answer().status == 201
        assert server.wait() == 0
        assert (status, [reason["code"] for reason in verdict["reasons"]]) == (503, ["draining"])
        assert alive
        assert (refused.status, refused.code) == (503, "draining")
