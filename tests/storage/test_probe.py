"""Whether a store can be written is found out as an upload would, and leaves nothing behind."""

import os
import shutil
from pathlib import Path

import pytest

from hmacfs.core.health import Store
from hmacfs.core.wallclock import Moment, Swept
from hmacfs.storage import probe, storedir
from hmacfs.storage.probe import ANOTHER, StoreProbe
from hmacfs.storage.staging import StagingArea
from hmacfs.storage.sweepfile import SweepFile
from tests.support.running import small_tmpfs
from tests.support.server import tree


def looking_at(store: Path, *, is_anonymous: bool = True) -> StoreProbe:
    storedir.prepare(str(store))
    area = StagingArea(str(store / ".hmacfs" / "staging"), 0o640, 0o027)
    area.anonymous = area.anonymous and is_anonymous
    return StoreProbe(str(store), area)


@pytest.mark.parametrize("is_anonymous", [True, False])
def test_a_look_at_a_good_store_says_what_is_free_and_leaves_nothing(tmp_path: Path, is_anonymous: bool) -> None:
    made = looking_at(tmp_path, is_anonymous=is_anonymous)
    before = tree(tmp_path)
    descriptors = os.listdir("/proc/self/fd")

    store = made.look()

    assert store.trouble == ""
    assert store.free is not None
    assert store.free > 0
    assert tree(tmp_path) == before
    assert os.listdir("/proc/self/fd") == descriptors


def test_it_tells_what_is_noted_of_the_last_sweep(tmp_path: Path) -> None:
    made = looking_at(tmp_path)
    swept = Swept(Moment(1.0, 2.0, 3), trouble="storage-failed")
    SweepFile(str(tmp_path)).save(swept)

    store = made.look()

    assert (store.swept, store.sweep_trouble) == (swept, "storage-failed")


def test_a_full_store_says_so_and_is_well_when_there_is_space_again(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "store", 1) as folder:
        made = looking_at(folder)
        filler = folder / "filler"
        info = os.statvfs(folder)
        filler.write_bytes(bytes(info.f_bavail * info.f_frsize))

        full = made.look()
        filler.unlink()
        after = made.look()
        os.close(made._staging.fd)

    assert (full.trouble, full.free) == ("No space left on device", 0)
    assert after.trouble == ""


def test_a_folder_that_has_gone_or_is_another_one_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    made = looking_at(folder)

    folder.rename(tmp_path / "elsewhere")
    gone = made.look()
    storedir.prepare(str(folder))
    other = made.look()

    assert gone == Store("No such file or directory")
    assert other == Store(ANOTHER)


def test_a_folder_for_uploads_that_has_gone_is_told(tmp_path: Path) -> None:
    made = looking_at(tmp_path)
    shutil.rmtree(tmp_path / ".hmacfs" / "staging")

    assert made.look().trouble  # which error it is differs between filesystems


def test_notes_that_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    made = looking_at(tmp_path)
    (tmp_path / ".hmacfs" / "sweep.json").symlink_to("sweep.json")

    store = made.look()

    assert (store.trouble, store.swept) == ("", None)


def test_one_block_is_written_and_no_more() -> None:
    assert len(probe._BLOCK) == 4096
