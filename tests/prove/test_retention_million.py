"""Sweeps of stores of ten thousand, a hundred thousand and a million files: time, memory, and requests beside them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import environment
from tests.prove.tables import write_table
from tests.support.http import Connection, head_of, put_head, url_of
from tests.support.polling import until
from tests.support.running import mounted
from tests.support.server import ROOT, SECRET, Server, toml

DAY = 86400
SIZE = 100_000
"""Bytes that each file says it has; they are sparse."""

COUNTS = (10_000, 100_000, 1_000_000)
RULES: dict[str, dict[str, Any]] = {
    "nothing": {"FileTTL": "100d"},
    "a tenth, by age": {"FileTTL": "90d"},
    "a tenth, by size": {"FileTTL": "100d", "RetentionPolicyEnabled": True},
}


def make_store(store: Path, count: int) -> None:
    """``count`` sparse files, each in a folder of its own, as Prosody's slots are, and 0 to 99 days old."""
    store.mkdir()
    now, root = time.time(), str(store)
    for number in range(count):
        folder = f"{root}/{number * 2654435761 % 2**32:08x}-{number:07x}"
        os.mkdir(folder)
        fd = os.open(f"{folder}/picture.jpg", os.O_WRONLY | os.O_CREAT, 0o640)
        os.ftruncate(fd, SIZE)
        moment = now - (number % 100) * DAY - 43200
        os.utime(fd, (moment, moment))
        os.close(fd)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """In memory, with room for as many inodes as it takes."""
    options = ("-t", "tmpfs", "-o", "size=8g,nr_inodes=0", "tmpfs")
    with tempfile.TemporaryDirectory() as around, mounted(Path(around) / "memory", *options) as folder:
        yield folder


@dataclass
class Took:
    """What a sweep took. Attributes: memory: bytes beyond what the process had before."""

    place: str
    count: int
    rule: str
    wall: float
    cpu: float
    memory: int
    files: int
    removed: int
    freed: int

    @property
    def per_file(self) -> float:
        """Microseconds of processor time for each file that was there."""
        return 1e6 * self.cpu / (self.files + self.removed)

    def row(self) -> Sequence[object]:
        return (
            self.place,
            f"{self.count:,}",
            self.rule,
            f"{self.removed:,}",
            f"{self.wall:.1f}",
            f"{self.cpu:.1f}",
            f"{self.per_file:.1f}",
            f"{self.memory / 2**20:.1f}",
        )


def sweep(folder: Path, place: str, count: int, rule: str) -> Took:
    keys = {"Secret": SECRET, "StoreDir": str(folder / "store"), "StateDir": str(folder / "state"), **RULES[rule]}
    if "size" in rule:
        keys["MaxRetentionSize"] = SIZE * (count * 8 // 10)  # a tenth went by age before
    config = folder / "config.toml"
    config.write_text(toml(keys), encoding="utf-8")
    command = (sys.executable, "-m", "tests.prove.sweeping", str(config))
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    return Took(place, count, rule, **json.loads(done.stdout))


def sweeps(folder: Path, place: str, count: int) -> list[Took]:
    make_store(folder / "store", count)
    return [sweep(folder, place, count, rule) for rule in RULES]


def test_a_sweep_costs_the_same_for_each_file_of_a_million_and_its_memory_is_bounded(tmp_path: Path) -> None:
    done: list[Took] = []
    for count in COUNTS:
        with memory_folder() as folder:
            done += sweeps(folder, "tmpfs", count)
    disk = tmp_path / "disk"
    disk.mkdir()
    done += sweeps(disk, "disk", COUNTS[1])
    shutil.rmtree(disk)
    columns = ("store on", "files", "deletes", "deleted", "s", "s of CPU", "us of CPU a file", "MiB of memory")
    write_table("retention-million", "Sweeps", columns, [each.row() for each in done])

    for each in done:
        expected = 0 if each.rule == "nothing" else each.count // 10
        assert each.removed == expected, each
        assert each.memory < 64 * 2**20, each
    for rule in RULES:
        by_count = {each.count: each.per_file for each in done if each.rule == rule and each.place == "tmpfs"}
        assert by_count[COUNTS[2]] < 1.5 * by_count[COUNTS[0]] + 5, by_count


# --- requests beside a sweep ---


class Client(threading.Thread):
    """GETs and PUTs in turn on one connection, as fast as they are answered, until told to stop."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._name = name
        self._ended = threading.Event()
        self.times: dict[str, list[float]] = {"GET": [], "PUT": []}
        self.statuses: set[int] = set()

    def stop(self) -> None:
        self._ended.set()
        self.join(60)

    def run(self) -> None:
        keep = [("Connection", "keep-alive")]
        number = 0
        with Connection(self._server.address) as connection:
            while not self._ended.is_set():
                path = f"{self._name}/{number // 50}/{number}"
                self._ask(connection, "PUT", put_head(self._server, path, 1000, headers=keep) + bytes(1000))
                self._ask(connection, "GET", head_of("GET", url_of(self._server, path), keep))
                number += 1

    def _ask(self, connection: Connection, method: str, request: bytes) -> None:
        begun = time.perf_counter()
        connection.send(request)
        self.statuses.add(connection.read_answer().status)
        self.times[method].append(time.perf_counter() - begun)


def measured(server: Server, name: str, until_done: Callable[[], object]) -> Client:
    client = Client(server, name)
    client.start()
    try:
        until(until_done, "the window is over", patience=900)
    finally:
        client.stop()
    return client


def quantile(times: Sequence[float], share: float) -> float:
    """Milliseconds."""
    return 1000 * sorted(times)[int(share * (len(times) - 1))]


def window(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


@pytest.mark.parametrize("place", ["tmpfs", "disk"])
def test_requests_are_answered_in_time_beside_a_sweep(tmp_path: Path, place: str) -> None:
    count = COUNTS[2] if place == "tmpfs" else COUNTS[1]
    with memory_folder() if place == "tmpfs" else nothing(tmp_path / "disk") as folder:
        make_store(folder / "store", count)
        constants = {"hmacfs.services.janitor:LOOK_SECONDS": 1.0}
        server = Server(folder, FileTTL="90d", LogFile=str(folder / "server.log"), constants=constants)
        notes = folder / "store/.hmacfs/sweep.json"
        notes.parent.mkdir(parents=True)
        keep_quiet(notes)
        with server:
            alone = measured(server, "alone", window(15))
            begun = expire(notes)
            beside = measured(server, "beside", lambda: ended_since(notes, begun))
            alone_again = measured(server, "again", window(15))
    rows = []
    for method in ("GET", "PUT"):
        without = quantile(alone.times[method] + alone_again.times[method], 0.99)
        with_it = quantile(beside.times[method], 0.99)
        medians = [f"{quantile(client.times[method], 0.5):.2f}" for client in (alone, beside)]
        rows.append((place, f"{count:,}", method, *medians, f"{without:.2f}", f"{with_it:.2f}"))
    columns = ("store on", "files", "request", "p50 without (ms)", "p50 beside", "p99 without", "p99 beside")
    write_table(f"retention-requests-{place}", "Requests beside a sweep that deletes a tenth", columns, rows)

    assert alone.statuses | beside.statuses == {200, 201}
    for row in rows:
        without, with_it = float(row[5]), float(row[6])
        assert with_it <= max(2 * without, without + 5), row


@contextmanager
def nothing(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def keep_quiet(notes: Path) -> None:
    """The store was swept a moment ago."""
    boot = int.from_bytes(b"\1" * 8, "little")
    moment = {"wall": time.time(), "steady": 0.0, "boot": boot}
    notes.write_text(json.dumps({"last": moment, "trusted": moment, "tidied": moment}))


def expire(notes: Path) -> float:
    """The next look finds that a sweep is due; Unix seconds."""
    noted = json.loads(notes.read_text())
    noted["last"]["wall"] -= 2 * 3600
    notes.write_text(json.dumps(noted))
    return time.time()


def ended_since(notes: Path, moment: float) -> bool:
    """Whether a sweep has ended that began after it. (What asks shares an interpreter with the client: it must cost
    nothing. To search the server's log for it took ten milliseconds each time, which the client then waited.)"""
    noted = json.loads(notes.read_text())
    return bool(noted["trusted"]["wall"] >= moment and noted["stock"]["counted_ms"] >= 1000 * moment)
