"""The embedded tier's file: damaged, deleted or replaced under the processes that have it open."""

import logging
import multiprocessing
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from hmacfs.errors import StateUnavailable
from hmacfs.state import statefile
from hmacfs.state.sql import SqlTier
from tests.state.tiers import embedded_tier, file_row

GARBAGE = b"garbage" * 3000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def paths_in(tier: SqlTier) -> list[str]:
    return [row.path for row in tier.list_files("", 100)]


def damaged(folder: Path) -> list[Path]:
    return sorted(folder.glob("state.db.damaged-*"))


def torn(file: Path) -> None:
    """Pages behind the first one are lost, as by a failing disk; the head still says that it is a database."""
    size = file.stat().st_size
    with open(file, "r+b") as writing:
        writing.seek(4096)
        writing.write(b"\xff" * (size - 4096))


def test_a_file_that_is_no_database_is_set_aside_and_a_new_one_serves(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(GARBAGE)
    tier = embedded_tier(file.parent)

    tier.record_files([file_row("a")])

    assert paths_in(tier) == ["a"]
    (kept,) = damaged(file.parent)
    assert kept.read_bytes() == GARBAGE
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert str(kept) in record.getMessage()
    assert "hmacfs reindex" in record.getMessage()
    tier.close()


def test_a_file_that_is_damaged_while_it_is_used_is_set_aside(file: Path) -> None:
    tier = embedded_tier(file.parent)
    tier.record_files([file_row(f"old/{number}") for number in range(500)])
    tier.close()
    torn(file)

    tier.record_files([file_row("new")])

    assert paths_in(tier) == ["new"]
    assert len(damaged(file.parent)) == 1
    tier.close()


def test_one_damaged_file_is_kept_the_last_one(file: Path) -> None:
    (file.parent / "state.db.damaged-2020-01-01").write_bytes(b"earlier")
    file.write_bytes(GARBAGE)
    tier = embedded_tier(file.parent)

    tier.ping()

    assert [kept.read_bytes() for kept in damaged(file.parent)] == [GARBAGE]
    tier.close()


def test_a_file_that_another_process_has_replaced_already_is_left_alone(file: Path) -> None:
    file.write_bytes(GARBAGE)
    inode = statefile.begun(str(file))
    os.replace(file, file.parent / "state.db.damaged-2020-01-01")
    tier = embedded_tier(file.parent)
    tier.record_files([file_row("a")])

    statefile.set_aside(str(file), inode)

    assert paths_in(tier) == ["a"]
    tier.close()


def _uses(folder: Path, number: int, start: "multiprocessing.synchronize.Barrier") -> None:
    tier = embedded_tier(folder)
    start.wait(20)
    tier.record_files([file_row(f"by/{number}")])
    tier.close()


def test_processes_that_find_the_damage_at_once_replace_the_file_once(file: Path) -> None:
    file.write_bytes(GARBAGE)
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(4)
    processes = [fork.Process(target=_uses, args=(file.parent, number, start)) for number in range(4)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    tier = embedded_tier(file.parent)
    assert [process.exitcode for process in processes] == [0] * 4
    assert paths_in(tier) == [f"by/{number}" for number in range(4)]
    tier.close()


@pytest.mark.parametrize("with_its_journal", [True, False])
def test_a_file_that_is_deleted_under_us_is_begun_anew_by_the_next_verb(file: Path, with_its_journal: bool) -> None:
    tier, other = embedded_tier(file.parent), embedded_tier(file.parent)
    for each in (tier, other):
        each.record_files([file_row("old/" + "x" * 900 + str(number)) for number in range(500)])
    file.unlink()
    if with_its_journal:
        for beside in file.parent.glob("state.db-*"):
            beside.unlink()

    tier.record_files([file_row("new")])

    assert paths_in(tier) == paths_in(other) == ["new"]
    assert damaged(file.parent) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tier.close()
    other.close()


def test_a_file_that_cannot_be_set_aside_is_a_dead_tier(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(GARBAGE)
    tier = embedded_tier(file.parent)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)

    with pytest.raises(StateUnavailable):
        tier.ping()

    assert file.read_bytes() == GARBAGE
    tier.close()


def test_opening_a_file_that_is_in_use_drops_no_lock_of_it(file: Path) -> None:
    tier = embedded_tier(file.parent)
    tier.ping()
    tier.close()
    locking = sqlite3.connect(file, isolation_level=None)
    locking.execute("PRAGMA locking_mode=EXCLUSIVE")
    locking.execute("BEGIN EXCLUSIVE")

    statefile.begun(str(file))

    (info,) = [line for line in Path("/proc/locks").read_text().splitlines() if _is_lock_of(line, file)][:1]
    assert "POSIX" in info
    locking.close()


def _is_lock_of(line: str, file: Path) -> bool:
    fields = line.split()
    return int(fields[4]) == os.getpid() and int(fields[5].split(":")[2]) == file.stat().st_ino
