"""The folder of the counters: private, one for each server, and gone with it."""

import os
import stat
from pathlib import Path

import pytest

from hmacfs.errors import ConfigError
from hmacfs.telemetry.metricsfolder import MetricsFolder, base_folder
from tests.support.running import small_tmpfs


def test_it_is_private_and_goes_at_the_end(tmp_path: Path) -> None:
    folder = MetricsFolder(str(tmp_path))

    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700

    folder.remove()
    assert os.listdir(tmp_path) == []


def test_servers_side_by_side_have_one_each(tmp_path: Path) -> None:
    first, second = MetricsFolder(str(tmp_path)), MetricsFolder(str(tmp_path))

    assert first.path != second.path
    assert os.path.isdir(first.path)
    first.remove()
    second.remove()


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = MetricsFolder(str(tmp_path))
    os.close(left._lock)  # as the kernel does it with the last process of the server

    folder = MetricsFolder(str(tmp_path))

    assert os.listdir(tmp_path) == [os.path.basename(folder.path)]
    folder.remove()


def test_a_folder_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    young, old = tmp_path / "hmacfs-metrics-young", tmp_path / "hmacfs-metrics-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (1, 1))

    folder = MetricsFolder(str(tmp_path))

    assert young.is_dir()
    assert not old.exists()
    folder.remove()


def test_a_link_of_that_name_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    os.symlink(elsewhere, tmp_path / "hmacfs-metrics-link")

    MetricsFolder(str(tmp_path)).remove()

    assert (elsewhere / "lock").exists()


def test_where_nothing_can_be_made_the_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MetricsEnabled"):
        MetricsFolder(str(tmp_path / "missing"))


def test_where_there_is_no_room_for_its_workers_the_start_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "memory", 1) as memory:
        fits = MetricsFolder(str(memory), workers=4)
        fits.remove()
        os.close(fits._lock)

        with pytest.raises(ConfigError, match=r"MetricsEnabled: there is no room for counters in .* \(No space left"):
            MetricsFolder(str(memory), workers=40)

        assert os.listdir(memory) == []


def test_systemds_folder_comes_first(tmp_path: Path) -> None:
    assert base_folder({"RUNTIME_DIRECTORY": f"{tmp_path}:/elsewhere"}) == str(tmp_path)
    assert base_folder({"RUNTIME_DIRECTORY": str(tmp_path / "missing")}) == base_folder({})
    assert os.path.isdir(base_folder({}))
