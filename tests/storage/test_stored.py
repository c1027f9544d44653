"""Files that are there: opened and read, never through a link, with what travels with them."""

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hmacfs.errors import FileExists, NotFound, PathConflict
from hmacfs.storage import beneath
from hmacfs.storage.base import Entity, Metadata, Stored
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.metadata import Attributes
from tests.storage.localstore import Make, content_of, descriptors, private_files, put, slot, visible

# --- opening ---


@pytest.mark.parametrize("path", ["nothing", "a/nothing", "a/b/c", "nothing/at/all", "a", "x/y"])
def test_a_missing_file_and_a_directory_are_not_found(storage: LocalStorage, path: str) -> None:
    put(storage, "a/b")
    put(storage, "x/y/z")
    before = descriptors()

    with pytest.raises(NotFound):
        storage.open(slot(path), with_content=False)

    assert descriptors() == before


def test_a_slice_can_be_read_and_the_end_is_short(storage: LocalStorage) -> None:
    put(storage, "a/b", b"0123456789")

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.read(0, 4) == b"0123"
        assert stored.read(8, 100) == b"89"
        assert stored.read(10, 5) == b""
        assert stored.read(3, 0) == b""


def test_an_open_file_stays_readable_when_its_path_is_deleted(storage: LocalStorage, store: Path) -> None:
    put(storage, "a/b", b"old")

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        (store / "a/b").unlink()
        put(storage, "a/b", b"new!")
        assert stored.read(0, 100) == b"old"
    assert content_of(storage, "a/b") == b"new!"


def test_a_closed_file_gives_its_descriptor_back_and_may_be_closed_again(storage: LocalStorage) -> None:
    put(storage, "a/b")
    before = descriptors()

    stored: Stored = storage.open(slot("a/b"), with_content=False)
    stored.close()
    stored.close()

    assert descriptors() == before


def test_the_entity_changes_with_the_bytes(storage: LocalStorage, store: Path) -> None:
    first = put(storage, "a/b", b"one")
    (store / "a/b").unlink()
    second = put(storage, "a/b", b"three")

    assert first.etag != second.etag
    for entity in (first, second):
        assert entity.etag.startswith('"')
        assert entity.etag.endswith('"')
        assert not entity.etag.startswith("W/")


def test_last_modified_is_the_whole_second() -> None:
    assert Entity(1, 2, 1_999_999_999).modified == 1


def test_a_file_that_was_there_before_us_is_served_and_has_no_type(storage: LocalStorage, store: Path) -> None:
    (store / "old").mkdir()
    (store / "old/file.jpg").write_bytes(b"jpeg")

    with contextlib.closing(storage.open(slot("old/file.jpg"), with_content=False)) as stored:
        assert stored.metadata == Metadata(None)
        assert stored.read(0, 100) == b"jpeg"


# --- links and special files ---


def test_a_symlink_to_a_file_is_not_followed(storage: LocalStorage, store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    put(storage, "a/real")
    (store / "a/out").symlink_to(outside)
    (store / "a/in").symlink_to("real")

    for path in ("a/out", "a/in"):
        with pytest.raises(NotFound):
            storage.open(slot(path), with_content=False)
        with pytest.raises((FileExists, PathConflict)):
            storage.check_vacant(slot(path))
        with pytest.raises((FileExists, PathConflict)):
            put(storage, path, b"overwritten")

    assert outside.read_bytes() == b"precious"
    assert content_of(storage, "a/real") == b"hello"


def test_a_dangling_symlink_is_not_published_through(storage: LocalStorage, store: Path, tmp_path: Path) -> None:
    (store / "link").symlink_to(tmp_path / "made")

    with pytest.raises(NotFound):
        storage.open(slot("link"), with_content=False)
    with pytest.raises((FileExists, PathConflict)):
        put(storage, "link")

    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("target", ["../outside", "real", "/", ".", ".."])
def test_a_symlink_to_a_directory_is_not_followed(
    storage: LocalStorage, store: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"precious")
    put(storage, "real/file")
    (store / "dir").symlink_to(target)

    for path in ("dir/file", "dir/new", "dir/new/file"):
        with pytest.raises(NotFound):
            storage.open(slot(path), with_content=False)
        with pytest.raises(PathConflict):
            storage.check_vacant(slot(path))
        with pytest.raises(PathConflict):
            put(storage, path, b"escaped")

    assert os.listdir(tmp_path / "outside") == ["file"]
    assert visible(store) == ["dir", "real", "real/file"]


@pytest.mark.usefixtures("each_opener")
@pytest.mark.parametrize("path", [b"link", b"dir/outside", b"/etc/passwd"])
def test_an_opener_never_leaves_the_root(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "root/real").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to("../outside")
    (tmp_path / "root/dir").symlink_to(tmp_path)
    root = os.open(tmp_path / "root", os.O_RDONLY)

    try:
        with pytest.raises(OSError, match=r"."):
            os.close(beneath.open_beneath(root, path, os.O_RDONLY))
    finally:
        os.close(root)


def test_a_fifo_is_not_found_and_nobody_waits_for_it(storage: LocalStorage, store: Path) -> None:
    os.mkfifo(store / "fifo")
    before = descriptors()

    with pytest.raises(NotFound):
        storage.open(slot("fifo"), with_content=False)

    assert descriptors() == before


def test_a_unix_socket_is_not_found(storage: LocalStorage, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)  # a socket's name may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")

        with pytest.raises(NotFound):
            storage.open(slot("socket"), with_content=False)


# --- attributes and sidecars ---


def test_attributes_are_used_where_the_filesystem_has_them(make: Make, store: Path) -> None:
    storage = make()
    if not isinstance(storage._keeper, Attributes):
        pytest.skip("this filesystem has no extended attributes")

    put(storage, "a/b", metadata=Metadata("image/png"))

    assert os.getxattr(store / "a/b", "user.mime_type") == b"image/png"
    assert private_files(store) == []


def test_without_attributes_a_sidecar_keeps_the_type(make: Make, store: Path) -> None:
    storage = make(use_attributes=False)

    put(storage, "a/b", metadata=Metadata("image/png"))

    assert [name.startswith(".hmacfs/meta/") for name in private_files(store)] == [True]
    with pytest.raises(OSError, match="No data"):
        os.getxattr(store / "a/b", "user.mime_type")


def test_a_filesystem_without_attributes_is_found_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    storage = make()

    put(storage, "a/b", metadata=Metadata("image/png"))

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.metadata == Metadata("image/png")


@pytest.mark.parametrize("value", [b"", b"a\r\nSet-Cookie: b", b"\xff\xfe", b"x" * 256, b"a\x00b"])
def test_an_attribute_that_may_not_stand_in_a_header_is_ignored(make: Make, store: Path, value: bytes) -> None:
    storage = make()
    if not isinstance(storage._keeper, Attributes):
        pytest.skip("this filesystem has no extended attributes")
    put(storage, "a/b")
    os.setxattr(store / "a/b", "user.mime_type", value)

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.metadata == Metadata(None)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "5", '{"content_type": null}', '{"content_type": "a\\nb"}', '{"content_type": 5}']
)
def test_a_damaged_sidecar_costs_the_type_and_not_the_file(make: Make, store: Path, text: str) -> None:
    storage = make(use_attributes=False)
    put(storage, "a/b")
    (sidecar,) = private_files(store)
    (store / sidecar).write_text(text, encoding="utf-8")

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.read(0, 100) == b"hello"
        assert stored.metadata.content_type in (None, "5")


def test_a_sidecar_of_another_file_is_not_taken(make: Make, store: Path) -> None:
    storage = make(use_attributes=False)
    put(storage, "a/b", b"ours")
    (store / "a/b").write_bytes(b"somebody wrote over it")
    os.utime(store / "a/b", ns=(1, 1))

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.metadata == Metadata(None)
