"""Equal content takes its space once, and nothing that a reader can see goes wrong by it (DeduplicationEnabled)."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hmacfs.storage import contents, fsutil
from hmacfs.storage.base import Entity, Metadata
from tests.support.resuming import together
from tests.support.running import make_xfs, mounted
from tests.support.tracing import killed_at_each_call
from tests.support.versioned import Archive, content_of, name_of, opened, slot

Open = Callable[..., Archive]
CONTENT = content_of("same", 5000)
DIGEST = sha256(CONTENT).hexdigest()
KNOWN = Metadata("image/jpeg", DIGEST)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def reopen(store: Path) -> Iterator[Open]:
    before = len(os.listdir("/proc/self/fd"))
    made: list[Archive] = []

    def build(**options: Any) -> Archive:
        made.append(Archive(store, **{"shares": True, **options}))
        return made[-1]

    yield build
    for archive in made:
        archive.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def archive(reopen: Open) -> Archive:
    return reopen()


def stored(archive: Archive, path: str, content: bytes = CONTENT, metadata: Metadata = KNOWN) -> Entity:
    return archive.put(content, path, metadata=metadata)


def shared(archive: Archive, path: str, content: bytes = CONTENT, metadata: Metadata = KNOWN) -> int:
    """Store a file and look for equal ones, as happens behind its answer; the bytes saved."""
    assert archive.content is not None
    return archive.content.share(slot(path), stored(archive, path, content, metadata), metadata)


def inodes(archive: Archive, *names: str) -> int:
    """How many files these paths are."""
    return len({(archive.store / name).stat().st_ino for name in names})


def index(archive: Archive) -> list[Path]:
    return [path for path in (archive.store / ".hmacfs/content").rglob("*") if path.is_file()]


def test_equal_content_shares_one_inode_and_the_saved_bytes_are_told(archive: Archive) -> None:
    saved = [shared(archive, name) for name in ("a/1", "b/2", "3")]

    assert saved == [0, len(CONTENT), len(CONTENT)]
    assert inodes(archive, "a/1", "b/2", "3") == 1
    assert archive.read("a/1") == archive.read("b/2") == archive.read("3") == CONTENT
    assert [path.name for path in index(archive)] == [DIGEST]
    assert archive.staged() == []


def test_other_content_shares_nothing(archive: Archive) -> None:
    other = content_of("else", 5000)

    assert shared(archive, "a/1") == 0
    assert shared(archive, "a/2", other, Metadata("image/jpeg", sha256(other).hexdigest())) == 0

    assert inodes(archive, "a/1", "a/2") == 2


def test_a_file_without_a_known_digest_is_hashed_then(archive: Archive) -> None:
    shared(archive, "a/1", metadata=Metadata("image/jpeg"))

    assert shared(archive, "a/2", metadata=Metadata("image/jpeg")) == len(CONTENT)
    assert [path.name for path in index(archive)] == [DIGEST]


def test_empty_files_are_left_alone(archive: Archive) -> None:
    nothing = Metadata("image/jpeg", sha256().hexdigest())

    assert [shared(archive, name, b"", nothing) for name in ("a/1", "a/2")] == [0, 0]
    assert index(archive) == []


@pytest.mark.parametrize(
    "other", [Metadata("text/plain", DIGEST), Metadata("image/jpeg", DIGEST, "ab" * 32), Metadata(None, DIGEST)]
)
def test_files_that_differ_in_what_travels_with_them_never_share_an_inode(archive: Archive, other: Metadata) -> None:
    shared(archive, "a/1")
    shared(archive, "a/2", metadata=other)

    assert inodes(archive, "a/1", "a/2") == 2
    for path, metadata in (("a/1", KNOWN), ("a/2", other)):
        with closing(archive.storage.open(slot(path), with_content=False)) as found:
            assert found.metadata == metadata


def test_files_with_other_permissions_never_share_an_inode(reopen: Open) -> None:
    shared(reopen(), "a/1")

    assert shared(reopen(file_mode=0o600), "a/2") == 0


def test_where_what_travels_is_in_sidecars_no_inode_is_shared(reopen: Open) -> None:
    archive = reopen(use_attributes=False)

    for name in ("a/1", "a/2"):
        shared(archive, name)

    assert inodes(archive, "a/1", "a/2") == 2


def test_a_shared_file_is_as_young_as_the_youngest_of_its_names(archive: Archive, store: Path) -> None:
    """So that no rule of age removes the new one with the old one."""
    shared(archive, "a/1")
    os.utime(store / "a/1", (1e9, 1e9))
    second = stored(archive, "a/2")

    assert archive.content is not None
    archive.content.share(slot("a/2"), second, KNOWN)

    assert (store / "a/1").stat().st_mtime_ns == (store / "a/2").stat().st_mtime_ns == second.modified_ns


def test_content_that_somebody_changed_in_place_is_shared_with_nobody(archive: Archive, store: Path) -> None:
    shared(archive, "a/1")
    changed = bytearray(CONTENT)
    changed[2500] ^= 1
    (store / "a/1").write_bytes(changed)

    assert shared(archive, "a/2") == 0
    assert archive.read("a/2") == CONTENT
    assert shared(archive, "a/3") == len(CONTENT)
    assert inodes(archive, "a/2", "a/3") == 1


def test_a_file_that_was_replaced_meanwhile_is_left_alone(archive: Archive) -> None:
    shared(archive, "a/1")
    second = stored(archive, "a/2")
    newer = content_of("newer")
    archive.put(newer, "a/2")

    assert archive.content is not None
    assert archive.content.share(slot("a/2"), second, KNOWN) == 0
    assert archive.read("a/2") == newer
    assert shared(archive, "a/3") == len(CONTENT)  # and the digest still leads to what has it


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_file_that_was_deleted_meanwhile_does_not_come_back(
    archive: Archive, store: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    shared(archive, "a/1")
    second = stored(archive, "a/2")
    real = contents.are_equal

    def deleting(first: int, other: int, size: int) -> bool:
        (store / "a/2").unlink()
        return real(first, other, size)

    if moment == "before":
        (store / "a/2").unlink()
    else:
        monkeypatch.setattr(contents, "are_equal", deleting)
    assert archive.content is not None
    assert archive.content.share(slot("a/2"), second, KNOWN) == 0

    assert not (store / "a/2").exists()


def test_a_reader_goes_on_while_its_file_is_shared(archive: Archive) -> None:
    shared(archive, "a/1")
    second = stored(archive, "a/2")
    with closing(archive.storage.open(slot("a/2"), with_content=False)) as reader:
        assert archive.content is not None
        archive.content.share(slot("a/2"), second, KNOWN)

        assert reader.read(0, 10_000) == CONTENT


def test_a_file_with_as_many_names_as_there_can_be_is_left_alone(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(archive, "a/1")

    def full(*_: object) -> None:
        raise OSError(errno.EMLINK, "too many links")

    second = stored(archive, "a/2")
    monkeypatch.setattr(fsutil, "link_descriptor", full)

    assert archive.content is not None
    assert archive.content.share(slot("a/2"), second, KNOWN) == 0
    assert archive.read("a/2") == CONTENT


def test_content_that_no_file_has_any_more_goes_with_the_sweep(archive: Archive, store: Path) -> None:
    shared(archive, "a/1")
    shared(archive, "a/2")
    assert archive.content is not None
    (store / "a/1").unlink()
    assert sum(archive.content.sweep()) == 0

    (store / "a/2").unlink()

    assert sum(archive.content.sweep()) == len(CONTENT)
    assert index(archive) == []


def test_the_last_version_of_some_content_takes_it_along(reopen: Open) -> None:
    archive = reopen(most=1)
    shared(archive, "a/1")
    for number in range(2):
        archive.put(content_of(f"n{number}"), "a/1")

    assert index(archive) == []


def test_versions_and_files_share_content_and_keep_apart(archive: Archive) -> None:
    shared(archive, "a/1")
    archive.put(content_of("between"), "a/1")

    assert shared(archive, "a/1") == len(CONTENT)

    assert [name_of(content) for content in archive.old("a/1").values()] == ["same", "between"]
    assert name_of(archive.read("a/1")) == "same"
    archive.put(content_of("after"), "a/1")
    assert archive.names("a/1") == (["same", "between", "same"], "after")


def test_the_only_version_that_stays_may_be_the_content_that_is_current_again(reopen: Open) -> None:
    archive = reopen(most=1, per_day=9)
    shared(archive, "a/1")
    archive.put(content_of("between"), "a/1")
    shared(archive, "a/1")
    assert archive.version_files() == ["1"], "of a day's versions the first stays"
    if archive.storage.shares_inodes:
        assert (archive.store / "a/1").samefile(next((archive.store / ".hmacfs/versions").rglob("1")))

    archive.tidied()

    assert archive.names("a/1") == (["same"], "same")
    assert [version.number for version in archive.versions.each()] == [1]


def test_content_that_is_current_again_becomes_a_version_of_its_own_beside_one_that_stayed(reopen: Open) -> None:
    shared(reopen(most=1, per_day=9), "a/1")
    reopen(most=1, per_day=9).put(content_of("between"), "a/1")
    shared(reopen(most=1, per_day=9), "a/1")

    archive = reopen(most=2, per_day=9)
    archive.put(content_of("after"), "a/1")

    assert archive.names("a/1") == (["same", "same"], "after")
    assert archive.version_files() == ["1", "3"]


def test_racing_processes_share_one_content_among_all_their_files(store: Path) -> None:
    with opened(store, shares=True) as archive:

        def job(number: int) -> None:
            ours = Archive(store, shares=True)
            for each in range(10):
                shared(ours, f"p{number}/{each}")

        assert together(6, job) == [0] * 6

        files = [path for path in store.rglob("p*/*") if path.is_file()]
        assert len(files) == 60
        assert all(path.read_bytes() == CONTENT for path in files)
        assert len({path.stat().st_ino for path in files}) <= 6  # who came at the very same moment keeps its own
        assert archive.staged() == []


def test_kill_9_at_any_system_call_of_sharing_leaves_whole_files(tmp_path: Path) -> None:
    before: list[Archive] = []

    def prepare(store: Path) -> Callable[[], object]:
        while before:
            before.pop().close()
        archive = Archive(store, shares=True)
        before.append(archive)
        shared(archive, "a/1")
        second = stored(archive, "a/2")
        content = archive.content
        assert content is not None
        return lambda: content.share(slot("a/2"), second, KNOWN)

    outcomes = set()
    for _, store in killed_at_each_call(tmp_path / "stores", prepare):
        with opened(store, shares=True) as archive:
            outcomes.add(inodes(archive, "a/1", "a/2"))
            for path in ("a/1", "a/2"):
                with closing(archive.storage.open(slot(path), with_content=False)) as found:
                    assert found.read(0, 10_000) == CONTENT
                    assert found.metadata == KNOWN
            assert shared(archive, "a/3") == len(CONTENT)

    before.pop().close()
    assert outcomes == {1, 2}


# --- reflinks ---


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A filesystem that can share extents."""
    image = tmp_path / "xfs.img"
    make_xfs(image, 400)
    with mounted(tmp_path / "xfs", "-o", "loop", str(image)) as folder:
        yield folder


def test_where_the_filesystem_can_files_that_differ_share_their_space(xfs: Path) -> None:
    content = content_of("large", 3_000_000)
    digest = sha256(content).hexdigest()
    with opened(xfs / "store", shares=True, durability="full") as archive:
        shared(archive, "a/1", content, Metadata("image/jpeg", digest))
        second = stored(archive, "a/2", content, Metadata("text/plain", digest))
        used = os.statvfs(xfs).f_bfree

        assert archive.content is not None
        saved = archive.content.share(slot("a/2"), second, Metadata("text/plain", digest))
        os.sync()

        assert saved == len(content)
        assert inodes(archive, "a/1", "a/2") == 2
        assert (os.statvfs(xfs).f_bfree - used) * os.statvfs(xfs).f_frsize > 2_500_000
        with closing(archive.storage.open(slot("a/2"), with_content=False)) as found:
            assert (found.entity, found.metadata.content_type) == (second, "text/plain")
            assert found.read(0, 4_000_000) == content


def test_files_that_are_not_equal_share_no_space(xfs: Path) -> None:
    with opened(xfs / "store") as archive:
        archive.put(bytes(100_000), "a/1")
        archive.put(bytes(99_999) + b"x", "a/2")
        with (
            closing(archive.storage.open(slot("a/1"), with_content=False)) as first,
            closing(archive.storage.open(slot("a/2"), with_content=False)) as second,
        ):
            assert not contents.share_space(first.descriptor(), second.descriptor(), 100_000)

        assert archive.read("a/2") == bytes(99_999) + b"x"


def test_where_the_filesystem_cannot_share_space_nothing_happens(archive: Archive) -> None:
    stored(archive, "a/1")
    stored(archive, "a/2")
    with (
        closing(archive.storage.open(slot("a/1"), with_content=False)) as first,
        closing(archive.storage.open(slot("a/2"), with_content=False)) as second,
    ):
        assert not contents.share_space(first.descriptor(), second.descriptor(), len(CONTENT))


def test_a_sweep_passes_over_what_is_not_ours(archive: Archive, store: Path) -> None:
    root = store / ".hmacfs/content"
    strays = [root / ".nfs0001", root / "ff", root / "ab/.nfs0002"]
    (root / "ab").mkdir(exist_ok=True)
    for stray in strays:
        stray.write_text("not ours")

    assert archive.content is not None
    assert sum(archive.content.sweep()) == 0

    assert all(stray.exists() for stray in strays)
