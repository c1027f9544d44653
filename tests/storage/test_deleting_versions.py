"""A deletion takes along what was kept of the path, and leaves what other paths share with it."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from hmacfs.errors import Gone, NotFound, StorageBusy, StorageFailed
from hmacfs.storage import fsutil, slotlocks
from hmacfs.storage.base import Deleted, GoneVersion, Metadata
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.slotlocks import slot_name
from tests.support.versioned import PATH, PLAIN, Archive, content_of, slot

OTHER = "a/other.jpg"


@pytest.fixture(params=[True, False], ids=["attributes", "sidecars"])
def archive(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Archive]:
    built = Archive(tmp_path / "store", shares=True, use_attributes=request.param, durability="full")
    yield built
    built.close()


@pytest.fixture
def graves(archive: Archive) -> Iterator[LocalGraves]:
    """Of the archive, which asks them."""
    made = LocalGraves(str(archive.store), archive.storage.disk)
    archive.storage.is_buried = made.buried_now
    yield made
    os.close(made._fd)


def refuse_to_drop(archive: Archive, monkeypatch: pytest.MonkeyPatch, refuses: Callable[[bytes], bool]) -> None:
    """Names of which ``refuses`` says so cannot be removed."""
    real = archive.storage.drop_name

    def drop_name(folder: int, name: bytes) -> int:
        if refuses(name):
            raise OSError(errno.EPERM, "the file is immutable")
        return real(folder, name)

    monkeypatch.setattr(archive.storage, "drop_name", drop_name)


def share(archive: Archive, path: str, content: bytes, metadata: Metadata = PLAIN) -> int:
    """Store a file and share its content; bytes saved."""
    entity = archive.put(content, path, metadata=metadata)
    assert archive.content is not None
    return archive.content.share(slot(path), entity, metadata)


def test_old_versions_and_what_was_kept_beside_them_go(archive: Archive) -> None:
    for name in ("one", "two", "three"):
        archive.put(content_of(name))
    archive.put(b"neighbour", OTHER)

    assert archive.storage.delete(slot())

    assert archive.version_files() == []
    with pytest.raises(NotFound):
        archive.versions.of(slot())
    assert len(list((archive.store / ".hmacfs/meta").rglob("*.json"))) == (not archive.storage.shares_inodes)
    assert archive.read(OTHER) == b"neighbour"


def test_old_versions_go_where_versioning_is_off_now(tmp_path: Path) -> None:
    earlier = Archive(tmp_path / "store")
    earlier.put(b"old")
    earlier.put(b"new")
    earlier.close()
    now = Archive(tmp_path / "store", replaces=False)

    assert now.storage.delete(slot())

    assert now.version_files() == []
    now.close()


def test_a_file_that_cannot_be_removed_keeps_its_versions(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"one", b"two", b"three"):
        archive.put(content)
    refuse_to_drop(archive, monkeypatch, lambda name: name == b"b.jpg")

    with pytest.raises(StorageFailed):
        archive.storage.delete(slot())

    assert archive.read() == b"three"
    assert archive.old() == {1: b"one", 2: b"two"}


def test_a_file_whose_folder_cannot_be_synced_leaves_its_versions_to_the_sweep(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, "the disk is failing")

    archive.put(b"old")
    archive.put(b"new")
    monkeypatch.setattr(fsutil, "fsync", refuse)

    with pytest.raises(StorageFailed):
        archive.storage.delete(slot())

    assert archive.version_files() == ["1"], "a power cut may bring the file back"


def test_versions_that_cannot_be_removed_do_not_keep_a_file_and_are_shown_to_nobody(
    archive: Archive, graves: LocalGraves, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"one", b"two", b"three"):
        archive.put(content)
    graves.bury(slot())
    refuse_to_drop(archive, monkeypatch, lambda name: name == b"2")

    deleted = archive.storage.delete(slot())

    assert deleted == Deleted(5, [GoneVersion(1, 3)])
    assert archive.version_files() == ["2"]
    with pytest.raises(Gone):
        archive.versions.of(slot())
    with pytest.raises(Gone):
        archive.versions.open(slot(), 2, with_content=True)


def test_a_grave_that_is_dug_a_moment_before_the_file_goes_hides_no_version(
    archive: Archive, graves: LocalGraves
) -> None:
    archive.put(b"old")
    archive.put(b"new")

    graves.bury(slot())

    assert archive.old() == {1: b"old"}


def test_the_path_can_be_taken_again_and_has_no_history(archive: Archive) -> None:
    archive.put(b"old")
    archive.put(b"new")
    archive.storage.delete(slot())

    archive.put(b"another file")

    assert archive.old() == {}
    assert archive.read() == b"another file"


def test_who_shares_the_content_keeps_it_and_the_last_deletion_frees_it(archive: Archive) -> None:
    content = content_of("shared", 10_000)
    known = Metadata("image/jpeg", sha256(content).hexdigest())
    share(archive, PATH, content, known)
    saved = share(archive, OTHER, content, known)
    if not archive.storage.shares_inodes and not saved:
        pytest.skip("neither one inode nor reflink: nothing is shared here")

    archive.storage.delete(slot())

    assert archive.read(OTHER) == content
    archive.storage.delete(slot(OTHER))
    assert [path for path in (archive.store / ".hmacfs/content").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("changed", [{"uploader": "juliet@example.org"}, {"expires_at": 1_800_000_000}])
def test_equal_content_of_another_uploader_or_with_another_end_keeps_an_inode_of_its_own(
    changed: dict[str, object], tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "store", shares=True)
    whole = {"content_type": "image/jpeg", "uploader": "romeo@example.org", "expires_at": 1_900_000_000}
    content = content_of("same", 10_000)

    share(archive, PATH, content, Metadata(**whole))  # type: ignore[arg-type]
    share(archive, OTHER, content, Metadata(**{**whole, **changed}))  # type: ignore[arg-type]

    inodes = {os.stat(archive.store / path).st_ino for path in (PATH, OTHER)}
    assert len(inodes) == 2
    archive.close()


def test_a_deletion_waits_for_who_replaces_the_file(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.put(b"old")
    monkeypatch.setattr(slotlocks, "PATIENCE_SECONDS", 0.05)

    with archive.storage.locks.held(slot_name(slot())), pytest.raises(StorageBusy):
        archive.storage.delete(slot())

    assert archive.read() == b"old"
    assert archive.storage.delete(slot())


def test_replacing_and_deleting_at_once_leave_a_whole_file_or_none_at_all(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "store", most=2)
    errors: list[BaseException] = []

    def replacing(worker: int) -> None:
        try:
            for number in range(60):
                archive.put(content_of(f"{worker}-{number}", 100 + number))
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    def deleting() -> None:
        try:
            for _ in range(120):
                archive.storage.delete(slot())
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=replacing, args=(worker,)) for worker in range(2)]
    threads.append(threading.Thread(target=deleting))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    try:
        archive.names()
    except NotFound:
        pass
    archive.storage.delete(slot())
    assert archive.version_files() == []
    archive.close()
