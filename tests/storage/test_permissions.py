"""Files and folders get their modes and their group, whatever the umask is."""

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.localstore import Make, mode, put


@pytest.fixture(params=[0o022, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_get_their_modes_whatever_the_umask(
    make: Make, store: Path, umask: int, each_staging: None, each_way: None
) -> None:
    storage = make(file_mode=0o664, dir_mode=0o775)

    put(storage, "a/b/c")

    assert mode(store / "a/b/c") == 0o664
    assert (mode(store / "a"), mode(store / "a/b")) == (0o775, 0o775)


def test_the_default_modes_let_the_group_read(make: Make, store: Path, umask: int) -> None:
    put(make(), "a/b")

    assert (mode(store / "a/b"), mode(store / "a")) == (0o640, 0o750)


def test_what_is_not_published_is_for_nobody_else(make: Make, store: Path, umask: int) -> None:
    make()

    assert mode(store / ".hmacfs") == 0o700
    assert mode(store / ".hmacfs/staging") == 0o700


def test_a_folder_that_exists_keeps_its_mode(make: Make, store: Path) -> None:
    storage = make()
    (store / "a").mkdir()
    (store / "a").chmod(0o701)

    put(storage, "a/b")

    assert mode(store / "a") == 0o701


def other_group() -> int:
    """A group that we may give files to, and that is not our own."""
    if os.geteuid() == 0:
        return next(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid not in (0, os.getegid()))
    others = [group for group in os.getgroups() if group != os.getegid()]
    return others[0] if others else pytest.skip("needs a second group")


def test_a_set_group_id_bit_is_inherited(
    make: Make, store: Path, umask: int, each_staging: None, each_way: None
) -> None:
    group = other_group()
    store.mkdir()
    os.chown(store, -1, group)
    store.chmod(0o2750)

    put(make(), "a/b/c")

    for folder in (store / "a", store / "a/b"):
        assert mode(folder) == 0o2750
        assert folder.stat().st_gid == group
    assert mode(store / "a/b/c") == 0o640
    assert (store / "a/b/c").stat().st_gid == group


def test_without_a_set_group_id_bit_none_appears(make: Make, store: Path, umask: int) -> None:
    put(make(), "a/b")

    assert not mode(store / "a") & stat.S_ISGID
