"""StoreDir before the first file: prepared, proven, and rid of what a crash left."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.errors import ConfigError
from hmacfs.offload import InlinePool
from hmacfs.storage import storedir
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage
from tests.storage.localstore import PLAIN, Make, content_of, failing, mode, private_files, put, slot

# --- leftovers ---


def test_what_a_crash_left_is_swept(make: Make, store: Path) -> None:
    make()
    for name in ("one", "two"):
        (store / ".hmacfs/staging" / name).write_bytes(b"half")

    assert storedir.sweep_leftovers(str(store)) == 2
    assert private_files(store) == []


def test_what_somebody_still_writes_is_not_swept(make: Make, store: Path) -> None:
    make()
    leftover, busy = store / ".hmacfs/staging/leftover", store / ".hmacfs/staging/busy"
    leftover.write_bytes(b"half")

    with open(busy, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert storedir.sweep_leftovers(str(store)) == 1
        assert busy.exists()

    assert not leftover.exists()


def test_an_upload_of_ours_survives_a_sweep(storage: LocalStorage, store: Path) -> None:
    staged = storage.stage(slot("a/b"))
    staged.write(memoryview(b"hello"))

    assert storedir.sweep_leftovers(str(store)) == 0
    staged.publish(PLAIN)
    staged.discard()

    assert content_of(storage, "a/b") == b"hello"


def test_a_sweep_touches_no_published_file_and_no_type(storage: LocalStorage, store: Path) -> None:
    put(storage, "a/b", metadata=Metadata("image/png"))

    assert storedir.sweep_leftovers(str(store)) == 0
    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.metadata == Metadata("image/png")


def test_a_sweep_of_a_clean_store_finds_nothing(make: Make, store: Path) -> None:
    make()

    assert storedir.sweep_leftovers(str(store)) == 0


# --- preparing ---


def problem(store: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        storedir.prepare(str(store))
    (sentence,) = caught.value.problems
    assert "\n" not in sentence
    assert sentence.startswith("StoreDir: ")
    return sentence


def test_preparing_makes_the_store_and_its_parents(tmp_path: Path) -> None:
    store = tmp_path / "not/there/yet"

    storedir.prepare(str(store))
    storedir.prepare(str(store))

    assert os.listdir(store) == [".hmacfs"]
    assert private_files(store) == []


def test_preparing_leaves_what_is_there(store: Path) -> None:
    (store / "old").mkdir(parents=True)
    (store / "old/file").write_bytes(b"old")
    store.chmod(0o755)

    storedir.prepare(str(store))

    assert (store / "old/file").read_bytes() == b"old"
    assert mode(store) == 0o755


@pytest.mark.parametrize("below", ["", "below", "below/that"])
def test_a_store_on_a_file_is_told_as_one(store: Path, below: str) -> None:
    store.write_bytes(b"")

    assert "is not a directory. Choose another StoreDir." in problem(store / below)


def test_a_file_in_the_place_of_our_folder_is_told_as_one(store: Path) -> None:
    store.mkdir()
    (store / ".hmacfs").write_bytes(b"")

    assert f"{store / '.hmacfs'} is not a directory" in problem(store)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EACCES, "may not be written by this user. Change its owner, or StoreDir."),
        (errno.EROFS, "is on a read-only filesystem. Choose another StoreDir."),
        (errno.ENOSPC, "there is no space left for"),
        (errno.EDQUOT, "there is no space left for"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_store_that_cannot_be_made_is_told_with_its_name_and_what_to_do(
    store: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
) -> None:
    def mkdir(path: str, *_args: Any, **_options: Any) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "mkdir", mkdir)

    sentence = problem(store)
    assert expected in sentence
    assert str(store) in sentence


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_filesystem_without_hard_links_is_told_and_the_probe_removed(
    store: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "link", failing(code))

    sentence = problem(store)

    assert "has no hard links" in sentence
    assert "ext4" in sentence
    assert private_files(store) == []


def test_a_staging_area_on_another_filesystem_is_told_as_one(store: Path) -> None:
    elsewhere = Path("/dev/shm")
    (store / ".hmacfs").mkdir(parents=True)
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == store.stat().st_dev:
        pytest.skip("needs a second filesystem")
    (store / ".hmacfs/staging").symlink_to(elsewhere)

    assert "another filesystem" in problem(store)


def test_a_close_that_fails_after_publishing_undoes_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storedir.prepare(str(store))
    storage = LocalStorage(str(store), InlinePool(), durability="full", file_mode=0o640, dir_mode=0o750)
    staged = storage.stage(paths.parse(b"a/b"))
    staged.write(memoryview(b"hello"))
    descriptor = staged._fd
    close = os.close

    def close_badly(fd: int) -> None:
        close(fd)
        if fd == descriptor:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "close", close_badly)

    staged.publish(Metadata("text/plain"))
    staged.discard()

    assert (store / "a/b").read_bytes() == b"hello"
