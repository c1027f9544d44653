"""What is synced and when, and what is left where the system fails."""

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.errors import RequestError, StorageBusy, StorageFailed, StorageFull
from hmacfs.storage.local import LocalStorage
from tests.storage.localstore import Make, content_of, descriptors, failing, private_files, put, slot, visible

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
