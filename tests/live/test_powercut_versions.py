"""A power cut while files are replaced and while equal content is shared: everything is whole, nothing told is lost."""

import shutil
import threading
from pathlib import Path

import pytest

from tests.support import powercut
from tests.support.http import put
from tests.support.polling import until
from tests.support.powercut import cut_power, frozen
from tests.support.running import make_ext4, mounted
from tests.support.server import Server
from tests.support.versioned import content_of, opened

PATHS = ("a/one.bin", "a/two.bin", "b/three.bin")
SIZES = (100, 4096, 70_000, 300_000)
ENOUGH = 60


def test_every_acknowledged_version_outlives_a_power_cut_and_none_is_broken(tmp_path: Path) -> None:
    image, copy = tmp_path / "disk.img", tmp_path / "copy.img"
    make_ext4(image, 160)
    (tmp_path / "server").mkdir()
    acknowledged: list[tuple[str, str]] = []
    over = threading.Event()
    keys = {"EnableVersioning": True, "MaxVersions": 10_000, "VersionsPerDay": 0, "MaxSessionsPerSlot": 8}

    def replace(client: int) -> None:
        number = 0
        while not over.is_set():
            path, name = PATHS[number % len(PATHS)], f"c{client}-{number}"
            if put(server, path, content_of(name, SIZES[number % len(SIZES)])).status == 201:
                acknowledged.append((path, name))
            number += 1

    with (
        mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk,
        Server(tmp_path / "server", StoreDir=str(disk / "store"), MinFreeSpace=0, NumCores=2, **keys) as server,
    ):
        threads = [threading.Thread(target=replace, args=(client,)) for client in range(4)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(acknowledged) >= ENOUGH, f"{ENOUGH} files are stored", 60)
            with frozen(server):
                before = list(acknowledged)
                shutil.copyfile(image, copy)
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
    with (
        mounted(tmp_path / "survivor", "-o", "loop", str(copy)) as survivor,
        opened(survivor / "store", most=10_000) as archive,
    ):
        for path in PATHS:
            old, current = archive.names(path)
            assert {name for at, name in before if at == path} <= {*old, current}


def test_every_file_outlives_a_power_cut_while_equal_content_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercut, "body_of", lambda path: (bytes(range(251)) * 4000)[: int(path.rpartition("-")[2])])

    outcome = cut_power(tmp_path, after=120, Durability="full", DeduplicationEnabled=True)

    assert outcome.acknowledged >= 120
    assert (outcome.missing, outcome.broken) == ([], [])
