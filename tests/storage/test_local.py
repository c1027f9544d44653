"""Files on a local disk: published whole or not at all, and never over another."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hmacfs.errors import BadPath, FileExists, NotFound, PathConflict
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage
from tests.storage.localstore import PLAIN, content_of, descriptors, private_files, put, slot, visible

# --- publishing ---


@pytest.mark.parametrize(
    "path", ["a.txt", "a/b.txt", "1/2/3/4/5/6/7/8", "a/Grüße aus Köln.jpg", "a/-rf *", "a/.b\\c", "x" * 255]
)
def test_a_published_file_can_be_opened_with_its_bytes_and_type(storage: LocalStorage, store: Path, path: str) -> None:
    entity = put(storage, path, b"hello", Metadata("image/x; a=b"))

    with contextlib.closing(storage.open(slot(path), with_content=False)) as stored:
        assert stored.entity == entity
        assert stored.entity.size == 5
        assert stored.metadata == Metadata("image/x; a=b")
        assert stored.read(0, 100) == b"hello"
    assert (store / path).read_bytes() == b"hello"


def test_nothing_is_visible_before_it_is_published(storage: LocalStorage, store: Path) -> None:
    staged = storage.stage(slot("a/b"))
    staged.write(memoryview(b"half"))

    storage.check_vacant(slot("a/b"))
    assert visible(store) == []
    with pytest.raises(NotFound):
        storage.open(slot("a/b"), with_content=False)
    staged.discard()


def test_an_empty_file_can_be_published(storage: LocalStorage) -> None:
    assert put(storage, "a/empty", b"").size == 0
    assert content_of(storage, "a/empty") == b""


def test_blocks_are_appended_in_their_order(storage: LocalStorage) -> None:
    staged = storage.stage(slot("a/b"))
    for block in (b"one ", b"", b"two ", bytearray(b"three")):
        staged.write(memoryview(block))
    staged.publish(PLAIN)
    staged.discard()

    assert content_of(storage, "a/b") == b"one two three"


def test_a_block_that_the_kernel_takes_in_pieces_is_written_whole(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))

    put(storage, "a/b", b"0123456789")

    assert content_of(storage, "a/b") == b"0123456789"


def test_a_file_is_never_replaced(storage: LocalStorage, store: Path) -> None:
    first = put(storage, "a/b", b"first")

    with pytest.raises(FileExists):
        put(storage, "a/b", b"second")

    assert content_of(storage, "a/b") == b"first"
    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert (stored.entity, stored.metadata) == (first, PLAIN)
    assert visible(store) == ["a", "a/b"]


def test_of_two_uploads_of_one_path_exactly_one_is_published(storage: LocalStorage) -> None:
    early, late = storage.stage(slot("a/b")), storage.stage(slot("a/b"))
    early.write(memoryview(b"early"))
    late.write(memoryview(b"late!"))

    late.publish(PLAIN)
    with pytest.raises(FileExists):
        early.publish(Metadata("image/png"))
    early.discard()
    late.discard()

    assert content_of(storage, "a/b") == b"late!"
    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        assert stored.metadata == PLAIN


def test_a_discarded_upload_leaves_nothing(storage: LocalStorage, store: Path) -> None:
    before = descriptors()
    staged = storage.stage(slot("a/b"))
    staged.write(memoryview(b"half"))

    staged.discard()

    assert visible(store) == []
    assert private_files(store) == []
    assert descriptors() == before


def test_a_refused_upload_leaves_nothing(storage: LocalStorage, store: Path) -> None:
    put(storage, "a/b")
    kept, before = private_files(store), descriptors()

    with pytest.raises(FileExists):
        put(storage, "a/b", b"second")

    assert private_files(store) == kept
    assert descriptors() == before


def test_discarding_twice_and_after_publishing_harms_nothing(storage: LocalStorage) -> None:
    staged = storage.stage(slot("a/b"))
    staged.write(memoryview(b"hello"))
    staged.publish(PLAIN)

    staged.discard()
    staged.discard()

    assert content_of(storage, "a/b") == b"hello"


def test_a_published_upload_holds_no_descriptor_and_no_staged_name(storage: LocalStorage, store: Path) -> None:
    before = descriptors()

    put(storage, "a/b/c")

    assert descriptors() == before
    assert [name for name in private_files(store) if "staging" in name] == []
    assert (store / "a/b/c").stat().st_nlink == 1


# --- vacancy and conflicts ---


@pytest.mark.parametrize("path", ["free", "a/free", "new/folder/free"])
def test_a_free_path_is_vacant(storage: LocalStorage, path: str) -> None:
    put(storage, "a/b")

    storage.check_vacant(slot(path))


def test_a_taken_path_is_not_vacant(storage: LocalStorage) -> None:
    put(storage, "a/b")

    with pytest.raises(FileExists):
        storage.check_vacant(slot("a/b"))


@pytest.mark.parametrize("path", ["a/b/c", "a/b/c/d", "a", "x/y"])
def test_a_file_as_a_directory_or_the_reverse_is_a_conflict(storage: LocalStorage, path: str) -> None:
    put(storage, "a/b")
    put(storage, "x/y/z")

    with pytest.raises(PathConflict) as caught:
        storage.check_vacant(slot(path))

    assert (caught.value.status, caught.value.code) == (409, "path-conflict")


def test_publishing_below_a_file_is_a_conflict_that_leaves_nothing(storage: LocalStorage, store: Path) -> None:
    put(storage, "a/b")
    kept, before = private_files(store), descriptors()

    with pytest.raises(PathConflict):
        put(storage, "a/b/c")

    assert visible(store) == ["a", "a/b"]
    assert private_files(store) == kept
    assert descriptors() == before


def test_publishing_onto_a_directory_never_succeeds(storage: LocalStorage, store: Path) -> None:
    put(storage, "a/b")

    with pytest.raises((PathConflict, FileExists)) as caught:
        put(storage, "a")

    assert caught.value.status == 409
    assert visible(store) == ["a", "a/b"]


def test_a_directory_that_vanishes_while_publishing_is_made_again(
    storage: LocalStorage, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storage.staging.link
    vanished: list[bytes] = []

    def link(fd: int, name: bytes | None, parent: int, target: bytes) -> None:
        if not vanished:
            vanished.append(target)
            (store / "a").rmdir()
        real(fd, name, parent, target)

    monkeypatch.setattr(storage.staging, "link", link)

    put(storage, "a/b")

    assert vanished == [b"b"]
    assert content_of(storage, "a/b") == b"hello"


def test_a_name_too_long_for_the_filesystem_is_a_bad_path(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any) -> None:
        raise OSError(errno.ENAMETOOLONG, "File name too long")

    monkeypatch.setattr(storage.staging, "link", refuse)

    with pytest.raises(BadPath):
        put(storage, "a/b")
