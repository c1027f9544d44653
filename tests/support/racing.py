"""Several processes that replace one path at the same moment, some of them killed while they do."""

import os
import random
import select
import signal
import time
from pathlib import Path

from hmacfs.errors import NotFound
from hmacfs.storage import storedir
from tests.support.resuming import in_child
from tests.support.versioned import Archive, content_of, opened

LONGEST_KILL = 0.02
"""Seconds after the start within which a process may be killed: about what one PUT takes."""


def race(store: Path, racers: int, rounds: int, seed: int) -> tuple[int, int]:
    """Let them race, and check after each round that everything is whole and nothing acknowledged is lost.

    Returns how many PUTs were acknowledged, and how many processes were killed.
    """
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    killed = 0
    for number in range(rounds):
        names = [f"r{number}-{racer}" for racer in range(racers)]
        sizes = {name: chance.choice((0, 100, 100, 70_000)) for name in names}
        victims = {name for name in names if chance.random() < 0.4}
        done, dead = _one_round(store, sizes, victims, chance)
        acknowledged |= done
        killed += dead
        _check(store, acknowledged)
    return len(acknowledged), killed


def _one_round(store: Path, sizes: dict[str, int], victims: set[str], chance: random.Random) -> tuple[set[str], int]:
    waiting, go = os.pipe()
    told, tell = os.pipe()

    def begin(name: str) -> None:
        os.close(go)
        archive = Archive(store, most=10_000)
        content = content_of(name, sizes[name])
        os.write(tell, b".")
        os.read(waiting, 1)
        archive.put(content, in_blocks=len(content) > 65_536)

    pids = {name: in_child(lambda name=name: begin(name)) for name in sizes}  # type: ignore[misc]
    os.close(waiting)
    os.close(tell)
    ready = 0
    while ready < len(sizes):
        ready += len(os.read(told, len(sizes)))
    os.close(told)
    os.close(go)
    began = time.monotonic()
    for moment, name in sorted((chance.uniform(0, LONGEST_KILL), name) for name in victims):
        select.select((), (), (), max(0.0, began + moment - time.monotonic()))
        os.kill(pids[name], signal.SIGKILL)
    ends = {name: os.waitpid(pid, 0)[1] for name, pid in pids.items()}
    assert set(ends.values()) <= {0, signal.SIGKILL}
    return {name for name, status in ends.items() if not status}, sum(map(bool, ends.values()))


def _check(store: Path, acknowledged: set[str]) -> None:
    storedir.sweep_leftovers(str(store))
    with opened(store, most=10_000) as archive:
        try:
            old, current = archive.names()
        except NotFound:
            assert not acknowledged
            return
        assert len(set(old)) == len(old)
        assert current not in old
        assert acknowledged <= {*old, current}
        assert archive.staged() == []
