"""Files on a local disk: published whole or not at all, never over another, never through a link."""

import contextlib
import errno
import fcntl
import grp
import os
import resource
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.errors import (
    BadPath,
    ConfigError,
    FileExists,
    NotFound,
    PathConflict,
    RequestError,
    StorageBusy,
    StorageFailed,
    StorageFull,
)
from hmacfs.offload import InlinePool
from hmacfs.storage import beneath, storedir
from hmacfs.storage.base import Entity, Metadata, Stored
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.metadata import Attributes
from hmacfs.storage.staging import StagingArea
from hmacfs.storage.stored import SMALL

PLAIN = Metadata("text/plain")
Make = Callable[..., LocalStorage]


def slot(text: str) -> SlotPath:
    return paths.parse(text.encode())


def put(storage: LocalStorage, path: str, content: bytes = b"hello", metadata: Metadata = PLAIN) -> Entity:
    staged = storage.stage(slot(path))
    try:
        if content:
            staged.write(memoryview(content))
        return staged.publish(metadata)
    finally:
        staged.discard()


def put_at_once(storage: LocalStorage, path: str, content: bytes = b"hello", metadata: Metadata = PLAIN) -> Entity:
    return storage.store(slot(path), bytearray(content), metadata)


def content_of(storage: LocalStorage, path: str) -> bytes:
    """Read from the open file; what is handed over together with opening must be the same."""
    with contextlib.closing(storage.open(slot(path), with_content=False)) as stored:
        content = stored.read(0, stored.entity.size + 1)
    with contextlib.closing(storage.open(slot(path), with_content=True)) as stored:
        assert stored.content == content if len(content) <= SMALL else stored.content is None
    return content


def visible(store: Path) -> list[str]:
    """Everything in the store that is not ours."""
    return sorted(
        str(path.relative_to(store)) for path in store.rglob("*") if path.relative_to(store).parts[0] != ".hmacfs"
    )


def private_files(store: Path) -> list[str]:
    """Every file of ours: staged bodies and sidecars."""
    return sorted(str(path.relative_to(store)) for path in (store / ".hmacfs").rglob("*") if not path.is_dir())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def make(store: Path) -> Iterator[Make]:
    """Makes storages on one store; their descriptors are closed at the end."""
    made: list[LocalStorage] = []

    def build(**options: Any) -> LocalStorage:
        storedir.prepare(str(store))
        given: dict[str, Any] = {"durability": "none", "file_mode": 0o640, "dir_mode": 0o750, **options}
        made.append(LocalStorage(str(store), InlinePool(), **given))
        return made[-1]

    yield build
    for storage in made:
        os.close(storage._root)
        os.close(storage.staging.fd)


@pytest.fixture(params=["openat2", "segments"])
def each_opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "segments":
        monkeypatch.setattr(beneath, "_opener", beneath._open_segments)
        monkeypatch.setattr(beneath, "_has_cached_lookup", False)
    elif beneath._opener is not beneath._openat2:
        pytest.skip("this kernel or sandbox has no openat2")


@pytest.fixture(params=["anonymous", "named"])
def each_staging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "named":
        monkeypatch.setattr(StagingArea, "_can_link_anonymous", lambda self: False)


@pytest.fixture(params=["in blocks", "at once"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``put`` goes either way: staged block by block, or stored in one job as small files are."""
    if request.param == "at once":
        monkeypatch.setitem(globals(), "put", put_at_once)


@pytest.fixture(params=["attributes", "sidecars"])
def storage(
    request: pytest.FixtureRequest, make: Make, each_opener: None, each_staging: None, each_way: None
) -> LocalStorage:
    """A storage of every kind: both openers, both ways of staging and of writing, both places for metadata."""
    if request.param == "sidecars":
        return make(use_attributes=False)
    found = make()
    if not isinstance(found._keeper, Attributes):
        pytest.skip("this filesystem has no extended attributes")
    return found


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


# --- permissions ---


@pytest.fixture(params=[0o022, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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


# --- durability ---


@pytest.fixture
def synced(store: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was synced, in order: "file" or the folder's name, and whether a/b/c was visible then."""
    calls: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        target = os.readlink(f"/proc/self/fd/{fd}")
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        calls.append((os.path.relpath(target, store) if is_directory else "file", (store / "a/b/c").exists()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


def test_full_durability_syncs_the_file_before_and_every_folder_after_publishing(
    make: Make, synced: list[tuple[str, bool]], each_staging: None, each_way: None
) -> None:
    storage = make(durability="full", use_attributes=None)
    synced.clear()

    put(storage, "a/b/c")

    assert synced == [("file", False), ("a/b", True), ("a", True), (".", True)]


def test_full_durability_syncs_folders_that_were_there_already(
    make: Make, synced: list[tuple[str, bool]], store: Path
) -> None:
    storage = make(durability="full")
    (store / "a/b").mkdir(parents=True)
    synced.clear()

    put(storage, "a/b/c")

    assert [name for name, _ in synced] == ["file", "a/b", "a", "."]


def test_data_durability_syncs_the_file_only(
    make: Make, synced: list[tuple[str, bool]], each_staging: None, each_way: None
) -> None:
    storage = make(durability="data")
    synced.clear()

    put(storage, "a/b/c")

    assert synced == [("file", False)]


def test_no_durability_syncs_nothing(
    make: Make, synced: list[tuple[str, bool]], each_staging: None, each_way: None
) -> None:
    storage = make(durability="none")
    synced.clear()

    put(storage, "a/b/c")

    assert synced == []


def test_a_file_that_cannot_be_synced_is_never_visible(
    make: Make, store: Path, monkeypatch: pytest.MonkeyPatch, each_staging: None, each_way: None
) -> None:
    storage = make(durability="full")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    before = descriptors()

    with pytest.raises(StorageFailed):
        put(storage, "a/b/c")

    assert visible(store) == []
    assert private_files(store) == []
    assert descriptors() == before


def test_a_folder_that_cannot_be_synced_is_an_error_but_the_visible_file_stays(
    make: Make, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make(durability="full")
    real, before = os.fsync, descriptors()

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(StorageFailed):
        put(storage, "a/b/c")

    assert (store / "a/b/c").read_bytes() == b"hello"
    assert descriptors() == before


# --- errors of the system ---


def failing(code: int) -> Callable[..., Any]:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


CODES = [
    (errno.ENOSPC, StorageFull, 507),
    (errno.EDQUOT, StorageFull, 507),
    (errno.EFBIG, StorageFull, 507),
    (errno.EMFILE, StorageBusy, 503),
    (errno.ENFILE, StorageBusy, 503),
    (errno.ENOMEM, StorageBusy, 503),
    (errno.EIO, StorageFailed, 500),
    (errno.EROFS, StorageFailed, 500),
]


@pytest.mark.parametrize(("code", "kind", "status"), CODES)
def test_an_error_while_writing_is_ours_and_leaves_nothing(
    make: Make,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[RequestError],
    status: int,
    each_staging: None,
    each_way: None,
) -> None:
    storage = make()
    before = descriptors()
    monkeypatch.setattr(os, "pwrite", failing(code))

    with pytest.raises(kind) as caught:
        put(storage, "a/b")

    assert caught.value.status == status
    assert isinstance(caught.value.__cause__, OSError)
    assert errno.errorcode[code] in caught.value.detail
    assert visible(store) == []
    assert private_files(store) == []
    assert descriptors() == before


def test_a_busy_storage_says_when_to_try_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make()
    monkeypatch.setattr(os, "pwrite", failing(errno.EMFILE))

    with pytest.raises(StorageBusy) as caught:
        put(storage, "a/b")

    assert caught.value.retry_after


@pytest.mark.parametrize(("code", "kind", "status"), CODES)
def test_an_error_while_reading_is_ours(
    make: Make, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[RequestError], status: int
) -> None:
    storage = make()
    put(storage, "a/b")

    with contextlib.closing(storage.open(slot("a/b"), with_content=False)) as stored:
        monkeypatch.setattr(os, "pread", failing(code))
        with pytest.raises(kind) as caught:
            stored.read(0, 5)

    assert caught.value.status == status


@contextlib.contextmanager
def limited(which: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def test_a_process_out_of_descriptors_is_busy(storage: LocalStorage) -> None:
    put(storage, "a/b")

    with limited(resource.RLIMIT_NOFILE, 3):
        with pytest.raises(StorageBusy):
            storage.open(slot("a/b"), with_content=False)
        with pytest.raises(StorageBusy):
            storage.stage(slot("a/c"))
        with pytest.raises(StorageBusy):
            storage.check_vacant(slot("a/c"))

    assert content_of(storage, "a/b") == b"hello"


def test_a_body_over_the_system_s_limit_is_full_and_leaves_nothing(storage: LocalStorage, store: Path) -> None:
    with limited(resource.RLIMIT_FSIZE, 1000), pytest.raises(StorageFull):
        put(storage, "a/b", bytes(2000))

    assert visible(store) == []
    assert private_files(store) == []


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
