"""Walking a store: every slot's file once, in the order of the catalogue, and nothing else."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import paths
from hmacfs.errors import BadPath, StorageFailed
from hmacfs.storage import storedir, walk


def put(store: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(store), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content")


def walked(store: Path) -> list[str]:
    return [path.raw.decode() for path in walk.slots(str(store))]


def test_every_file_is_found_at_any_depth(tmp_path: Path) -> None:
    put(tmp_path, "plain", "id/cat.jpg", "1/2/3/4/5/6/7/8")

    assert walked(tmp_path) == ["1/2/3/4/5/6/7/8", "id/cat.jpg", "plain"]


def test_an_empty_store_has_no_files(tmp_path: Path) -> None:
    assert walked(tmp_path) == []


def test_the_order_is_that_of_the_bytes_of_whole_paths(tmp_path: Path) -> None:
    names = ["a-b", "a/b", "a/b-c", "a0", "a.txt", "a b", "A", "ä/x", "z", "\U0001f408/x", "a/!", "a!"]
    names = [name for name in names if name != "a"]
    put(tmp_path, *names)

    found = walked(tmp_path)

    assert found == sorted(names, key=str.encode)


@given(st.sets(st.lists(st.sampled_from(["a", "a!", "a-", "a0", "é", "b.c", "~"]), min_size=1, max_size=3).map(tuple)))
def test_any_store_is_walked_whole_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, chosen: set[tuple[str, ...]]
) -> None:
    store = tmp_path_factory.mktemp("store")
    leaves = {"/".join(each) + "/leaf" for each in chosen}  # a name is a file or a folder, never both
    put(store, *leaves)

    assert walked(store) == sorted(leaves, key=str.encode)


@pytest.mark.parametrize("portion", [1, 2, 3, 7])
def test_a_large_folder_is_taken_in_portions(portion: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PORTION", portion)
    names = [f"{number:02}" + ("/in" if number % 3 else "") for number in range(20)]
    put(tmp_path, *names)

    assert walked(tmp_path) == sorted(names)


def test_what_is_ours_is_left_out(tmp_path: Path) -> None:
    storedir.prepare(str(tmp_path))
    put(tmp_path, ".hmacfs/staging/left", ".hmacfs/meta/00/1.json", ".uploads/x", "id/.dotfile")

    assert walked(tmp_path) == ["id/.dotfile"]


def test_names_that_no_slot_can_have_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, b"id/\xff.jpg", b"\xff/x", "id/new\nline", "1/2/3/4/5/6/7/8/9", "id/ok")

    assert walked(tmp_path) == ["id/ok"]
    for name in (b"id/\xff.jpg", b"id/new\nline", b"1/2/3/4/5/6/7/8/9"):
        with pytest.raises(BadPath):
            paths.parse(name)


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    put(store, "id/real")
    put(tmp_path, "outside/secret")
    (store / "folder").symlink_to(tmp_path / "outside")
    (store / "id/file").symlink_to(tmp_path / "outside/secret")
    (store / "id/dangling").symlink_to(tmp_path / "nothing")

    assert walked(store) == ["id/real"]


def test_pipes_and_sockets_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "id/real")
    os.mkfifo(tmp_path / "id/pipe")
    here = os.open(tmp_path / "id", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{here}/sock")  # short, however long the folder's own path is
        os.close(here)

        assert walked(tmp_path) == ["id/real"]


def test_a_folder_that_goes_during_the_walk_is_skipped(tmp_path: Path) -> None:
    put(tmp_path, "a/1", "b/1", "c/1")
    found = walk.slots(str(tmp_path))
    first = next(found)

    os.unlink(tmp_path / "b/1")
    os.rmdir(tmp_path / "b")

    assert [first.raw, *(path.raw for path in found)] == [b"a/1", b"c/1"]


def test_a_folder_that_becomes_a_link_during_the_walk_is_not_followed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    put(store, "a/1", "b/1")
    put(tmp_path, "outside/secret")
    found = walk.slots(str(store))
    next(found)

    os.unlink(store / "b/1")
    os.rmdir(store / "b")
    (store / "b").symlink_to(tmp_path / "outside")

    assert list(found) == []


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        walked(tmp_path / "missing")


def test_no_descriptor_stays_open_when_a_walk_is_given_up(tmp_path: Path) -> None:
    put(tmp_path, "1/2/3", "1/2/4")
    before = len(os.listdir("/proc/self/fd"))
    found = walk.slots(str(tmp_path))
    next(found)

    found.close()  # type: ignore[attr-defined]

    assert len(os.listdir("/proc/self/fd")) == before
