"""hmacfs reindex makes the catalogue agree with the store, also while files come and go."""

import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hmacfs import tiers
from hmacfs.cli import reindex
from hmacfs.cli.reindex import Reindexing
from hmacfs.core import paths, quota
from hmacfs.offload import InlinePool
from hmacfs.settings import Settings
from hmacfs.state.base import FileRow
from hmacfs.state.failover import SharedState
from hmacfs.state.memory import MemoryTier
from hmacfs.storage import storedir, walk
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage
from tests.cli.running import Done, config_in, hmacfs, lines
from tests.support import http
from tests.support.polling import until
from tests.support.server import Server

MODIFIED = 1_600_000_000


class Catalog(MemoryTier):
    """Counts how many rows each call was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []

    def record_files(self, rows: Sequence[FileRow]) -> None:
        self.calls += [("record", len(rows))] if rows else []
        super().record_files(rows)

    def forget_files(self, paths: Sequence[str]) -> None:
        self.calls += [("forget", len(paths))] if paths else []
        super().forget_files(paths)


class House:
    """A store and a catalogue."""

    def __init__(self, store: Path) -> None:
        self.store = store
        storedir.prepare(str(store))
        self.storage = LocalStorage(str(store), InlinePool(), durability="none", file_mode=0o640, dir_mode=0o750)
        self.catalog = Catalog()

    def put(
        self, path: str, content: bytes = b"hello", content_type: str | None = "text/plain", sha256: str = ""
    ) -> None:
        self.storage.store(paths.parse(path.encode()), bytearray(content), Metadata(content_type, sha256))
        os.utime(self.store / path, (MODIFIED, MODIFIED))

    def run(self, **options: Any) -> Reindexing:
        work = Reindexing(self.storage, self.catalog, **options)
        work.run(walk.slots(str(self.store)))
        return work

    def rows(self) -> list[FileRow]:
        return self.catalog.list_files("", 1000)

    def close(self) -> None:
        os.close(self.storage._root)
        os.close(self.storage.staging.fd)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "store")
    yield built
    built.close()


def row(path: str, size: int = 5, content_type: str = "text/plain", **more: Any) -> FileRow:
    known = {"digest": "", "uploader": "", "stored_us": MODIFIED * 1_000_000, "expires_at": 0} | more
    return FileRow(path, size, content_type, **known)


# --- what is compared ---


def test_a_lost_catalogue_is_made_from_the_files(house: House) -> None:
    house.put("id/cat.jpg", b"meow", "image/jpeg")
    house.put("Größe/ü +.txt")

    work = house.run()

    assert house.rows() == [row("Größe/ü +.txt"), row("id/cat.jpg", 4, "image/jpeg")]
    assert (work.files, work.recorded, work.forgotten) == (2, 2, 0)


def test_a_file_that_was_there_before_us_has_the_type_that_it_is_served_with(house: House) -> None:
    house.put("id/cat.png", content_type=None)

    house.run()

    assert house.rows() == [row("id/cat.png", content_type="image/png")]


def test_rows_without_a_file_are_forgotten(house: House) -> None:
    house.put("id/here")
    house.catalog.record_files([row("a/gone"), row("id/here"), row("z/gone"), row(".hmacfs/no-slot")])

    work = house.run()

    assert house.rows() == [row("id/here")]
    assert work.forgotten == 3


def test_a_catalogue_that_is_right_is_left_alone(house: House) -> None:
    house.put("id/here")
    known = row("id/here", digest="a" * 64, uploader="juliet", stored_us=1, expires_at=2_000_000_000)
    house.catalog.record_files([known])
    house.catalog.calls.clear()

    work = house.run()

    assert house.catalog.calls == []
    assert house.rows() == [known]
    assert (work.files, work.recorded, work.forgotten) == (1, 0, 0)


@pytest.mark.parametrize("known", ["", "b" * 64])
def test_the_sha_256_that_lies_with_a_file_counts(house: House, known: str) -> None:
    house.put("id/here", sha256="a" * 64)
    house.catalog.record_files([row("id/here", digest=known)])

    house.run()

    assert house.rows() == [row("id/here", digest="a" * 64)]


def test_a_row_that_is_wrong_is_made_right_and_keeps_what_only_it_knows(house: House) -> None:
    house.put("id/here")
    house.catalog.record_files([row("id/here", 4, digest="a" * 64, uploader="juliet", expires_at=2_000_000_000)])

    work = house.run()

    assert house.rows() == [row("id/here", uploader="juliet", expires_at=2_000_000_000)]
    assert work.recorded == 1


def test_a_row_that_is_wrong_is_made_right_though_it_claims_to_be_of_a_later_file(house: House) -> None:
    house.put("id/here")
    house.catalog.record_files([row("id/here", 4, stored_us=4_000_000_000_000_000)])

    house.run()

    assert house.rows() == [row("id/here", stored_us=4_000_000_000_000_000)]


def test_names_that_sort_around_a_slash_are_paired_rightly(house: House) -> None:
    names = ["B", "Z/a", "a!", "a-b", "a/b", "a/b-c", "a0", "ab", "\uffff", "\U0001f408"]
    for name in names:
        house.put(name)
    house.run()
    house.catalog.calls.clear()

    house.run()

    assert house.catalog.calls == []
    assert {found.path for found in house.rows()} == set(names)


def test_batches_have_five_hundred_rows_at_most(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reindex.BATCH == 500
    monkeypatch.setattr(reindex, "BATCH", 10)
    for number in range(25):
        house.put(f"id/{number:02}")
    house.catalog.record_files([row(f"gone/{number:02}") for number in range(25)])
    house.catalog.calls.clear()

    house.run()

    first = [("forget", 10), ("forget", 10), ("record", 10), ("forget", 5)]
    assert house.catalog.calls == [*first, ("record", 10), ("record", 5)]


def test_a_dry_run_tells_every_step_and_does_none(house: House) -> None:
    house.put("id/new file")
    house.catalog.record_files([row("id/gone")])
    house.catalog.calls.clear()
    told: list[str] = []

    work = house.run(would=told.append)

    assert sorted(told) == ["forget id/gone", "record id/new%20file"]
    assert house.catalog.calls == []
    assert work.summary() == "1 files: 1 to be recorded; 1 rows without a file to be forgotten."


# --- while the server runs ---


def test_a_file_that_was_stored_behind_the_walk_is_not_forgotten(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex, "BATCH", 1)  # rows are read as the walk goes on
    house.put("m/1")
    house.put("z/1")
    house.catalog.record_files([row("m/1")])
    work = Reindexing(house.storage, house.catalog)

    def slots() -> Iterator[paths.SlotPath]:
        for slot in walk.slots(str(house.store)):
            if slot.raw == b"z/1":  # the walk is past "n" already
                house.put("n/1")
                house.catalog.record_files([row("n/1", uploader="juliet")])
            yield slot

    work.run(slots())

    assert house.rows() == [row("m/1"), row("n/1", uploader="juliet"), row("z/1")]
    assert work.forgotten == 0


def test_a_file_that_goes_during_the_walk_is_not_recorded(house: House) -> None:
    house.put("m/1")
    work = Reindexing(house.storage, house.catalog)

    def slots() -> Iterator[paths.SlotPath]:
        for slot in walk.slots(str(house.store)):
            os.unlink(house.store / "m/1")
            yield slot

    work.run(slots())

    assert house.rows() == []


def test_a_file_that_comes_back_while_its_row_is_forgotten_is_recorded(house: House) -> None:
    house.catalog.record_files([row("m/1")])
    forget = house.catalog.forget_files

    def stored_again(gone: Sequence[str]) -> None:
        house.put("m/1")
        house.catalog.record_files([row("m/1")])
        forget(gone)

    house.catalog.forget_files = stored_again  # type: ignore[method-assign]
    house.run()

    assert house.rows() == [row("m/1")]


# --- the command ---


def test_whose_a_file_is_is_told_by_its_path_unless_its_row_says(house: House) -> None:
    for path in ("romeo/x/new", "romeo/x/old", "romeo/x/known", "romeo/short"):
        house.put(path)
    house.catalog.record_files([row("romeo/x/old"), row("romeo/x/known", uploader="juliet@example.org")])

    work = house.run(uploader_of=partial(quota.uploader_of, by_first_segment=True))

    assert {each.path: each.uploader for each in house.rows()} == {
        "romeo/short": "",
        "romeo/x/known": "juliet@example.org",
        "romeo/x/new": "romeo",
        "romeo/x/old": "romeo",
    }
    assert work.recorded == 3
    assert house.run(uploader_of=partial(quota.uploader_of, by_first_segment=True)).recorded == 0


def state_of(folder: Path) -> SharedState:
    return tiers.shared_state(Settings(state_dir=str(folder / "data/state")))


def run(config: Path, *arguments: str) -> Done:
    return hmacfs("reindex", "--config", config, *arguments)


def test_the_command_prints_one_line_of_counts(tmp_path: Path) -> None:
    house = House(tmp_path / "data/store")
    house.put("id/cat.jpg")
    state = state_of(tmp_path)
    state.record_files([row("id/gone")])

    done = run(config_in(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 files: 1 recorded; 1 rows without a file forgotten.\n"
    assert state.list_files("", 10) == [row("id/cat.jpg")]
    state.stop()
    house.close()


def test_the_dry_run_prints_what_it_would_do(tmp_path: Path) -> None:
    house = House(tmp_path / "data/store")
    house.put("id/cat.jpg")
    state = state_of(tmp_path)
    state.record_files([row("id/gone")])

    done = run(config_in(tmp_path), "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")
    *steps, last = lines(done.stdout)
    assert sorted(steps) == ["forget id/gone", "record id/cat.jpg"]
    assert last == "1 files: 1 to be recorded; 1 rows without a file to be forgotten."
    assert state.list_files("", 10) == [row("id/gone")]
    state.stop()
    house.close()


def test_a_catalogue_that_was_lost_is_made_again_beside_a_running_server(server: Server) -> None:
    for number in range(3):
        assert http.put(server, f"again/{number}", b"hello").status == 201
    state = tiers.shared_state(Settings(state_dir=str(server.state_dir)))
    until(lambda: state.find_file("again/2"), "the server recorded its files")
    state.forget_files([f"again/{number}" for number in range(3)])

    done = run(server.config)

    assert (done.returncode, done.stderr) == (0, "")
    assert [state.find_file(f"again/{number}") is not None for number in range(3)] == [True] * 3
    state.stop()


def test_a_state_that_cannot_be_written_is_one_sentence_and_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "data/state" / tiers.EMBEDDED_FILE).mkdir(parents=True)
    (tmp_path / "data/store").mkdir()

    done = run(config_in(tmp_path))

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = lines(done.stderr)
    assert "no tier of shared state can be used: embedded is down" in line


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run(config_in(tmp_path))

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = lines(done.stderr)
    assert "StoreDir" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could make files that the server may not write")
def test_root_makes_no_state_that_the_server_could_not_write(tmp_path: Path) -> None:
    (tmp_path / "data/store").mkdir(parents=True)
    (tmp_path / "data/state").mkdir()
    os.chown(tmp_path / "data/state", 12345, 12345)

    done = run(config_in(tmp_path))

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = lines(done.stderr)
    assert "12345" in line
    assert os.listdir(tmp_path / "data/state") == []


def test_the_embedded_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "data/store").mkdir(parents=True)

    run(config_in(tmp_path))

    made = tmp_path / "data/state" / tiers.EMBEDDED_FILE
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
