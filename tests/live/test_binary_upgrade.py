"""Counters across a binary upgrade (SIGUSR2): each master has its own, and together they miss nothing."""

import os
import signal
from pathlib import Path

from tests.support.http import get, put
from tests.support.metrics import Scrape, scrape
from tests.support.polling import until
from tests.support.server import Server, open_files, processes

UPLOADS, DOWNLOADS = "hmac_file_server_uploads_total", "hmac_file_server_downloads_total"
BEFORE, BOTH, AFTER = 50, 40, 15
"""Requests of each kind. The old master has the most, so that its counters are told from the new one's."""


def children(parent: int) -> list[int]:
    return [pid for pid, state, above, _ in processes() if above == parent and state != "Z"]


def new_master(server: Server, old: list[int]) -> int:
    """The pid of the upgraded one, once its workers have opened the store; 0 before."""
    for pid in children(server.pid):
        workers = children(pid)
        ready = [each for each in workers if str(server.store_dir) in open_files(each)]
        if pid not in old and len(ready) == len(old):
            return pid
    return 0


def folder_of(workers: list[int]) -> Path:
    """Where a master's workers count."""
    paths = {path for pid in workers for path in open_files(pid) if "/hmacfs-metrics-" in path}
    (found,) = {os.path.dirname(path) for path in paths if path.endswith(".db")}
    return Path(found)


def use(server: Server, name: str, count: int) -> None:
    for number in range(count):
        assert put(server, f"{name}/{number}", b"x" * 1000).status == 201
        assert get(server, f"{name}/{number}").status == 200


def counts(told: Scrape) -> tuple[float, float]:
    return told.value(UPLOADS), told.value(DOWNLOADS)


def test_counters_of_both_masters_add_up_and_the_new_one_goes_on_alone(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2) as server:
        old_workers, seen = server.worker_pids(), set()
        use(server, "before", BEFORE)
        until(lambda: counts(scrape(server)) == (BEFORE, BEFORE), "the old master's workers have counted")

        server.signal(signal.SIGUSR2)
        master = until(lambda: new_master(server, old_workers), "the new master's workers are ready")
        folders = folder_of(old_workers), folder_of(children(master))
        use(server, "both", BOTH)

        def all_told() -> tuple[float, float]:
            """Of the new master, once both have told everything: either of them answers who asks."""
            seen.add(counts(scrape(server)))
            pairs = [(old, new) for old in seen for new in seen if old[0] >= BEFORE > new[0]]
            whole = [new for old, new in pairs if {a + b for a, b in zip(old, new, strict=True)} == {BEFORE + BOTH}]
            return whole[0] if whole else ()  # type: ignore[return-value]

        begun_with = until(all_told, "what both tell is all that was answered")
        server.signal(signal.SIGTERM)
        until(lambda: not set(old_workers) & set(children(server.pid)), "the old workers have gone")
        until(lambda: not folders[0].exists(), "the old master's counters are removed")
        use(server, "after", AFTER)

        expected = tuple(value + AFTER for value in begun_with)
        until(lambda: counts(scrape(server)) == expected, "the new master has counted on")
        assert folders[1].is_dir()
