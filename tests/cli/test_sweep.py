"""hmacfs sweep: the plan on the screen, the same rules as the server's, and one at a time."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hmacfs.storage.sweepfile import SweepFile
from tests.cli.running import Done, config_in, hmacfs, lines

DAY = 86400


class House:
    """A store that a server left behind, with its configuration."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.store = folder / "store"
        self.store.mkdir()
        self.config = config_in(folder, StoreDir=str(self.store), StateDir=str(folder / "state"), **keys)

    def put(self, path: str, size: int = 5, age: float = 0.0) -> Path:
        place = self.store / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * size)
        moment = time.time() - age
        os.utime(place, (moment, moment))
        return place

    def run(self, *options: str) -> Done:
        return hmacfs("sweep", "--config", self.config, *options)

    def names(self) -> list[str]:
        found = (path.relative_to(self.store) for path in self.store.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.parts[0] != ".hmacfs")


def test_a_dry_run_prints_the_plan_and_changes_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, FileTTL="30d")
    house.put("id/old name.txt", 2048, age=31 * DAY)
    house.put("id/young.txt")

    done = house.run("--dry-run")

    assert lines(done.stdout) == [
        "would remove id/old%20name.txt (FileTTL, 2.0 KiB)",
        "1 files and versions (2.0 KiB), 0 unfinished uploads, 0 empty folders and 0 sidecars to be removed; "
        "1 files and versions stay, 5 B with unfinished uploads.",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert house.names() == ["id/old name.txt", "id/young.txt"]


def test_a_sweep_removes_what_the_plan_said(tmp_path: Path) -> None:
    house = House(tmp_path, FileTTL="30d")
    house.put("id/old", age=31 * DAY)
    house.put("id/young")

    done = house.run()

    assert lines(done.stdout)[0] == "removed id/old (FileTTL, 5 B)"
    assert (done.returncode, done.stderr) == (0, "")
    assert house.names() == ["id/young"]
    assert lines(house.run().stdout)[0].startswith("0 files")


def test_a_sweep_writes_the_server_s_lines_where_the_server_has_a_log_file(tmp_path: Path) -> None:
    log = tmp_path / "hmacfs.log"
    log.write_text("INFO[2024-10-23T12:34:56Z] Before\n", encoding="utf-8")
    house = House(tmp_path, FileTTL="30d", LogFile=str(log))
    house.put("id/old name", age=31 * DAY)

    planned = house.run("--dry-run")
    after_plan = lines(log.read_text(encoding="utf-8"))
    done = house.run()

    assert (planned.returncode, len(after_plan)) == (0, 1)
    assert (done.returncode, done.stderr, lines(done.stdout)[0]) == (0, "", "removed id/old%20name (FileTTL, 5 B)")
    told = [line.partition("] ")[2].partition(" seconds=")[0] for line in lines(log.read_text(encoding="utf-8"))]
    assert told == [
        "Before",
        "File removed: id/old%20name reason=FileTTL size=5",
        "Sweep done files=0 stored=0 removed=1 freed=5",
    ]


def test_a_sweep_goes_on_where_the_log_file_cannot_be_written(tmp_path: Path) -> None:
    house = House(tmp_path, FileTTL="30d", LogFile=str(tmp_path / "gone" / "hmacfs.log"))
    house.put("id/old", age=31 * DAY)

    done = house.run()

    assert (done.returncode, house.names()) == (0, [])
    assert "LogFile: " in done.stderr


def test_while_another_process_sweeps_it_says_so(tmp_path: Path) -> None:
    house = House(tmp_path, FileTTL="30d")
    house.put("id/old", age=31 * DAY)
    house.run("--dry-run")

    with SweepFile(str(house.store)).turn() as is_ours:
        assert is_ours
        done, planned = house.run(), house.run("--dry-run")

    assert (done.returncode, done.stderr) == (1, "hmacfs: another process sweeps this store now.\n")
    assert planned.returncode == 0
    assert house.names() == ["id/old"]


@pytest.fixture
def doubtful(tmp_path: Path) -> House:
    """A store whose last sweep was sixty days ago by the wall, in this boot that has just begun."""
    house = House(tmp_path, FileTTL="30d")
    for number in range(120):
        house.put(f"id/{number}", age=40 * DAY)
    house.put("id/young")
    house.run("--dry-run")
    boot = int.from_bytes(b"\1" * 8, "little")
    moment = {"wall": time.time() - 60 * DAY, "steady": 5.0, "boot": boot}
    notes = {"last": moment, "trusted": moment, "tidied": None}
    (house.store / ".hmacfs/sweep.json").write_text(json.dumps(notes))
    return house


def test_a_clock_that_has_run_ahead_needs_force(doubtful: House) -> None:
    done = doubtful.run()
    assert (done.returncode, lines(done.stdout)[0]) == (1, "120 of 121 files would go by age.")
    assert "--force" in done.stderr
    assert len(lines(done.stderr)) == 1
    assert len(doubtful.names()) == 121

    forced = doubtful.run("--force")

    assert (forced.returncode, forced.stderr) == (0, "")
    assert doubtful.names() == ["id/young"]


def test_a_plan_tells_of_a_clock_that_has_run_ahead(doubtful: House) -> None:
    assert doubtful.run("--dry-run").returncode == 1
    assert doubtful.run("--dry-run", "--force").stdout.count("would remove") == 120
    assert len(doubtful.names()) == 121


def test_a_store_that_does_not_exist_is_one_clear_line(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.store.rmdir()

    done = house.run()

    assert (done.returncode, done.stderr) == (1, f"hmacfs: StoreDir: {house.store} does not exist.\n")
