"""A simulated power cut: the image under a mounted ext4 is copied while uploads run, and the copy mounted.

What the kernel has not handed to the disk by then is lost, as in a real one. The processes are stopped for the moment
of copying, because a copy takes longer than a power cut.
"""

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.support import crowd
from tests.support.http import Connection, put_head
from tests.support.polling import until
from tests.support.running import make_ext4, mounted
from tests.support.server import Server, stat_fields

MEBIBYTES = 160
SIZES = (0, 1, 4000, 4096, 20_000, 65_536, 65_537, 200_000, 1_000_000)


@dataclass(frozen=True)
class Outcome:
    """What was left after the cut.

    Attributes:
        acknowledged: paths that were answered 201 before.
        missing: those of them that are gone.
        broken: paths that are there with wrong bytes, acknowledged or not.
        present: how many files are there.
    """

    acknowledged: int
    missing: list[str]
    broken: list[str]
    present: int


def body_of(path: str) -> bytes:
    """The only right content for a path; its size is the last part of its name."""
    size = int(path.rpartition("-")[2])
    return (hashlib.sha256(path.encode()).digest() * (size // 32 + 1))[:size]


def cut_power(folder: Path, after: int, *, clients: int = 8, seed: int = 0, **keys: Any) -> Outcome:
    """Upload from several clients, cut the power after so many have been answered, and look at what is left.

    Args:
        folder: an empty one.
        clients: how many upload at once. A single one stops with the last answer, so that nothing but the server's own
            care for that file can have saved it.
        keys: of the server's configuration.
    """
    image, copy = folder / "disk.img", folder / "copy.img"
    make_ext4(image, MEBIBYTES)
    (folder / "server").mkdir()
    with mounted(folder / "disk", "-o", "loop", str(image)) as disk:
        store = disk / "store"
        keys = {"StoreDir": str(store), "MinFreeSpace": 0, "NumCores": 2, **keys}
        acknowledged: list[str] = []
        with (
            Server(folder / "server", **keys) as server,
            crowd.running(partial(_upload, server, acknowledged, seed), clients, acknowledged, after),
        ):
            until(lambda: len(acknowledged) >= after, f"{after} uploads are answered", 60)
            with frozen(server):
                before = list(acknowledged)
                shutil.copyfile(image, copy)
    with mounted(folder / "survivor", "-o", "loop", str(copy)) as survivor:
        return _compared(survivor / "store", before)


def _upload(server: Server, acknowledged: list[str], seed: int, client: int, is_over: Callable[[], bool]) -> None:
    chance = random.Random(f"{seed} {client}")
    with Connection(server.address) as connection:
        for number in count():
            size = chance.choice(SIZES)
            if is_over():
                return
            path = f"client-{client}/{number // 3}/{number}-{size}"  # often a new directory
            connection.send(put_head(server, path, size, headers=[("Connection", "keep-alive")]) + body_of(path))
            if connection.read_answer().status == 201:
                acknowledged.append(path)


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    pids = [*server.worker_pids(), server.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        # A thread stands still only once its system call is over.
        until(lambda: all(stat_fields(pid)[:1] == ["T"] for pid in pids), "the server stands still")
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _compared(store: Path, acknowledged: list[str]) -> Outcome:
    found = {
        os.path.relpath(os.path.join(parent, name), store): Path(parent, name)
        for parent, _, names in os.walk(store)
        for name in names
        if not os.path.relpath(parent, store).startswith(".hmacfs")
    }
    broken = sorted(path for path, file in found.items() if file.read_bytes() != body_of(path))
    return Outcome(len(acknowledged), sorted(set(acknowledged) - found.keys()), broken, len(found))
