"""Opening in the loop: what the kernel has cached never goes to the disk pool, everything else does, and the answer is
the same on a disk and in memory."""

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.errors import FileExists, NotFound, PathConflict, StorageFailed, StorageFull
from hmacfs.offload import InlinePool
from hmacfs.storage import beneath, fsutil, stored, storedir
from hmacfs.storage.base import Metadata
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.metadata import Attributes
from hmacfs.storage.stored import SMALL

PLAIN = Metadata("text/plain")
SHARED_MEMORY = Path("/dev/shm")


class CountingPool(InlinePool):
    """Knows how many jobs it ran."""

    jobs = 0

    def run(self, job: Callable[..., Any], *args: Any) -> Any:
        self.jobs += 1
        return super().run(job, *args)


def filesystem(path: Path) -> str:
    """The type of filesystem, as the operating system's own tool tells it."""
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def slot(text: str) -> SlotPath:
    return paths.parse(text.encode())


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk, then one in memory."""
    if request.param == "disk":
        yield tmp_path
        return
    if not SHARED_MEMORY.is_dir() or filesystem(SHARED_MEMORY) != "tmpfs":
        pytest.skip("needs /dev/shm")
    folder = tempfile.mkdtemp(dir=SHARED_MEMORY)
    yield Path(folder)
    shutil.rmtree(folder)


class House:
    """A storage on a store of its own, and how many jobs its disk pool ran."""

    def __init__(self, store: Path, use_attributes: bool | None = None) -> None:
        storedir.prepare(str(store))
        self.store = store
        self.pool = CountingPool()
        self.storage = LocalStorage(
            str(store),
            self.pool,
            durability="full",
            file_mode=0o640,
            dir_mode=0o750,
            use_attributes=use_attributes,
        )

    @property
    def is_in_memory(self) -> bool:
        return str(self.store).startswith("/dev/shm")

    def put(self, path: str, content: bytes = b"hello", metadata: Metadata = PLAIN) -> None:
        self.storage.store(slot(path), bytearray(content), metadata)

    def get(self, path: str = "a/b") -> tuple[bytes | None, str | None]:
        """What a small file's GET needs: content and type."""
        with contextlib.closing(self.storage.open(slot(path), with_content=True)) as stored:
            return stored.content, stored.metadata.content_type

    def jobs(self, path: str = "a/b", *, with_content: bool = True) -> int:
        """How many jobs one opening takes."""
        before = self.pool.jobs
        self.storage.open(slot(path), with_content=with_content).close()
        return self.pool.jobs - before


@pytest.fixture
def house(place: Path) -> Iterator[House]:
    built = House(place / "store")
    before = len(os.listdir("/proc/self/fd"))
    yield built
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(built.storage._root)
    os.close(built.storage.staging.fd)


@pytest.fixture
def cached_lookup(place: Path) -> None:
    """Skips where the kernel or the filesystem cannot say what is cached."""
    if not beneath._has_cached_lookup:
        pytest.skip("this kernel or sandbox has no cached lookup")
    (place / "probe").write_bytes(b"x")
    with open(place / "probe", "rb") as file:
        try:
            os.preadv(file.fileno(), (bytearray(1),), 0, os.RWF_NOWAIT)
        except OSError:
            if filesystem(place) != "tmpfs":
                pytest.skip("this filesystem does not say what is cached")


def blocked(*_args: Any, **_options: Any) -> Any:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


# --- in the loop ---


@pytest.mark.usefixtures("cached_lookup")
@pytest.mark.parametrize("size", [0, 1, SMALL])
def test_a_small_cached_file_never_touches_the_pool(house: House, size: int) -> None:
    house.put("a/b", bytes(size))
    assert house.get() == (bytes(size), "text/plain")
    before = house.pool.jobs

    for _ in range(3):
        assert house.get() == (bytes(size), "text/plain")

    assert house.pool.jobs == before


@pytest.mark.usefixtures("cached_lookup")
def test_a_large_file_is_opened_in_the_loop_and_left_open(house: House) -> None:
    house.put("a/b", bytes(SMALL + 1))
    assert house.get() == (None, "text/plain")

    assert house.jobs() == 0
    with contextlib.closing(house.storage.open(slot("a/b"), with_content=True)) as stored:
        assert os.pread(stored.descriptor(), 10, SMALL - 2) == bytes(3)
        assert stored.read(0, SMALL + 2) == bytes(SMALL + 1)


@pytest.mark.usefixtures("cached_lookup")
def test_a_head_of_a_small_file_reads_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put("a/b")
    house.get()
    monkeypatch.setattr(os, "preadv", blocked)
    monkeypatch.setattr(os, "pread", blocked)

    assert house.jobs(with_content=False) == 0


def test_a_first_opening_asks_the_pool_once(house: House) -> None:
    house.put("a/b")

    assert house.jobs() == 1


def test_a_missing_file_is_not_found_every_time(house: House) -> None:
    house.put("a/b")

    for _ in range(3):
        for path in ("a/c", "c", "a", "a/b/c"):
            with pytest.raises(NotFound):
                house.get(path)


# --- back to the pool ---


def test_a_name_that_is_not_cached_goes_to_the_pool(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put("a/b")
    house.get()
    monkeypatch.setattr(beneath, "open_beneath_now", blocked)

    assert house.jobs() == 1
    assert house.get() == (b"hello", "text/plain")


def test_without_a_cached_lookup_everything_goes_to_the_pool(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put("a/b")
    house.get()
    monkeypatch.setattr(beneath, "_has_cached_lookup", False)

    assert house.jobs() == 1
    assert house.get() == (b"hello", "text/plain")


@pytest.mark.parametrize(
    "preadv",
    [
        blocked,
        lambda fd, buffers, offset, flags: os.readv(fd, (memoryview(buffers[0])[:2],)),
        lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "Operation not supported")),
    ],
    ids=["nothing cached", "a part cached", "not supported"],
)
def test_bytes_that_are_not_all_cached_are_read_by_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preadv: Callable[..., int]
) -> None:
    house = House(tmp_path / "store")
    house.storage.files._is_memory = False
    house.put("a/b")
    house.get()
    monkeypatch.setattr(os, "preadv", preadv)
    before = len(os.listdir("/proc/self/fd"))

    assert house.jobs() == 1
    assert house.get() == (b"hello", "text/plain")
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(house.storage._root)
    os.close(house.storage.staging.fd)


def test_bytes_that_left_the_page_cache_are_still_served(house: House) -> None:
    content = os.urandom(SMALL)
    house.put("a/b", content)
    house.get()
    with open(house.store / "a/b", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    assert house.get() == (content, "text/plain")


@pytest.mark.usefixtures("cached_lookup")
def test_reading_now_gives_what_is_cached_and_nothing_else(place: Path) -> None:
    file = place / "file"
    file.write_bytes(b"0123456789")
    is_memory = filesystem(place) == "tmpfs"

    with open(file, "rb") as opened:
        opened.read()
        assert beneath.read_now(opened.fileno(), 10, is_memory=is_memory) == b"0123456789"
        assert beneath.read_now(opened.fileno(), 4, is_memory=is_memory) == b"0123"
        assert beneath.read_now(opened.fileno(), 0, is_memory=is_memory) == b""
        if not is_memory:
            with pytest.raises(BlockingIOError):
                beneath.read_now(opened.fileno(), 11, is_memory=False)


def test_memory_is_told_from_a_disk(place: Path) -> None:
    folder = os.open(place, os.O_RDONLY)

    try:
        assert fsutil.is_memory(folder) == (filesystem(place) in ("tmpfs", "ramfs"))
    finally:
        os.close(folder)


@pytest.mark.parametrize("path", [b"link", b"dir/outside", b"../outside", b"/etc/passwd"])
def test_a_cached_lookup_never_leaves_the_root(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to("../outside")
    (tmp_path / "root/dir").symlink_to(tmp_path)
    root = os.open(tmp_path / "root", os.O_RDONLY)

    try:
        with pytest.raises(OSError, match=r"."):
            os.close(beneath.open_beneath_now(root, path, os.O_RDONLY))
    finally:
        os.close(root)


# --- what is remembered ---


def test_a_replaced_file_has_its_own_content_and_type(house: House) -> None:
    for number in range(20):
        house.put("a/b", b"%d" % number, Metadata(f"image/x{number}"))
        for _ in range(2):
            assert house.get() == (b"%d" % number, f"image/x{number}")
        (house.store / "a/b").unlink()


def test_a_renamed_file_in_the_place_of_another_is_noticed(house: House) -> None:
    house.put("a/b", b"old", Metadata("image/old"))
    house.put("a/c", b"new!", Metadata("image/new"))
    for path in ("a/b", "a/c"):
        house.get(path)

    (house.store / "a/c").rename(house.store / "a/b")

    assert house.get() == (b"new!", "image/new")


def test_a_changed_attribute_is_noticed(house: House) -> None:
    if not isinstance(house.storage._keeper, Attributes):
        pytest.skip("this filesystem has no extended attributes")
    house.put("a/b")
    assert house.get() == (b"hello", "text/plain")
    file = house.store / "a/b"
    before = file.stat().st_ctime_ns

    while file.stat().st_ctime_ns == before:  # the clock of inodes ticks a few hundred times a second
        os.setxattr(file, "user.mime_type", b"image/png")

    for _ in range(2):
        assert house.get() == (b"hello", "image/png")


def test_a_file_that_is_written_over_is_noticed(house: House) -> None:
    house.put("a/b")
    house.get()

    (house.store / "a/b").write_bytes(b"written over")

    for _ in range(2):
        content, _ = house.get()
        assert content == b"written over"


def test_a_sidecar_of_a_file_that_is_written_over_no_longer_counts(place: Path) -> None:
    house = House(place / "store", use_attributes=False)
    house.put("a/b")
    assert house.get() == (b"hello", "text/plain")

    (house.store / "a/b").write_bytes(b"written over")
    os.utime(house.store / "a/b", ns=(1, 1))

    for _ in range(2):
        assert house.get() == (b"written over", None)
    os.close(house.storage._root)
    os.close(house.storage.staging.fd)


def test_more_files_than_are_remembered_are_served_all_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_KNOWN", 3)
    for number in range(10):
        house.put(f"a/{number}", b"%d" % number, Metadata(f"image/x{number}"))

    for _ in range(2):
        for number in range(10):
            assert house.get(f"a/{number}") == (b"%d" % number, f"image/x{number}")

    assert len(house.storage.files._known_metadata) <= 3


# --- storing at once ---


@pytest.mark.parametrize("size", [0, 1, SMALL])
def test_a_small_file_is_stored_in_one_job(house: House, size: int) -> None:
    before = house.pool.jobs

    house.put("a/b/c", bytes(size))

    assert house.pool.jobs == before + (0 if house.is_in_memory else 1)  # in memory there is no disk to wait for
    assert (house.store / "a/b/c").read_bytes() == bytes(size)


def test_a_small_file_that_cannot_be_stored_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    house.put("a/b")
    for path, error in (("a/b", FileExists), ("a", PathConflict), ("a/b/c", PathConflict)):
        with pytest.raises(error):
            house.put(path, b"other")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFull):
        house.put("c")

    assert [path.name for path in house.store.rglob("*") if path.is_file()] == ["b"]
    assert (house.store / "a/b").read_bytes() == b"hello"


def test_free_bytes_are_those_that_we_may_use(house: House) -> None:
    before = os.statvfs(house.store)

    free = house.storage.free_bytes()

    after = os.statvfs(house.store)
    low, high = sorted((before.f_bavail * before.f_frsize, after.f_bavail * after.f_frsize))
    assert low * 0.9 <= free <= high * 1.1


def test_an_error_of_a_read_without_waiting_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path / "store")
    monkeypatch.setattr(house.storage.files, "_is_memory", False)
    house.put("a/b")
    house.get()

    def fail(*_args: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)

    with pytest.raises(StorageFailed):
        house.get()
