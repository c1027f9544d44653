"""All files of a store in batches, and their removal: only of what was judged, with folders that are empty then."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hmacfs.core.retention import Held
from hmacfs.errors import StorageFailed
from hmacfs.storage import shelf as module
from hmacfs.storage.base import Metadata
from hmacfs.storage.metadata import EXPIRES_ATTRIBUTE
from tests.support.aging import NOW, Attic, slot


@pytest.fixture
def attic(tmp_path: Path) -> Iterator[Attic]:
    made = Attic(tmp_path / "store")
    yield made
    made.close()


# --- what is found ---


def test_every_file_of_a_slot_is_found_with_its_size_and_age(attic: Attic) -> None:
    attic.put("a", 1, age=10)
    attic.put("id/b.jpg", 2, age=20)
    attic.put("Größe/x/y/.hidden", 3, age=30)

    found = {path: (held.size, NOW - held.turn) for path, held in attic.found().items()}

    assert found == {"a": (1, 10), "id/b.jpg": (2, 20), "Größe/x/y/.hidden": (3, 30)}


def test_what_no_slot_can_have_is_left_alone(attic: Attic, tmp_path: Path) -> None:
    attic.put("id/here")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x")
    for name in (".hmacfs/staging/x", ".well-known/x", "id/line\nbreak", "1/2/3/4/5/6/7/8/9"):
        attic.put(name)
    (attic.store / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"x")
    (attic.store / "id" / "link").symlink_to(outside / "file")
    (attic.store / "linked").symlink_to(outside)
    os.mkfifo(attic.store / "id" / "fifo")

    assert list(attic.found()) == ["id/here"]


def test_a_folder_that_is_closed_to_us_does_not_end_the_sweep(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    attic.put("id/here")
    attic.put("lost+found/there")
    real = os.open

    def closed(path: object, *args: object, **options: object) -> int:
        if path == "lost+found":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", closed)

    assert list(attic.found()) == ["id/here"]


def test_a_disk_that_fails_is_told(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    attic.put("id/here")

    def fail(_place: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", fail)

    with pytest.raises(StorageFailed):
        attic.found()


@pytest.mark.parametrize("folders", [1, 100])
def test_batches_are_small_and_nothing_is_missed_or_twice(attic: Attic, folders: int) -> None:
    names = [f"f{number % folders}/{number}" for number in range(300)]
    for name in names:
        attic.put(name, 0)

    batches = list(attic.shelf.batches())

    assert sorted(str(held.path) for batch in batches for held in batch.files) == sorted(names)
    assert max(len(batch.files) for batch in batches) == module.BATCH


@pytest.mark.parametrize("keeper", ["attributes", "sidecars"])
def test_the_end_that_a_claim_gives_a_file_is_found(tmp_path: Path, keeper: str) -> None:
    attic = Attic(tmp_path / "store", use_attributes=keeper == "attributes")
    attic.storage.store(slot("id/b.jpg"), bytearray(b"x"), Metadata("text/plain"))
    place = attic.store / "id/b.jpg"
    if keeper == "attributes":
        os.setxattr(place, EXPIRES_ATTRIBUTE, b"1800000123")
    else:
        (sidecar,) = (attic.store / ".hmacfs/meta").glob("??/*")
        sidecar.write_text('{"content_type": "text/plain", "expires_at": "1800000123"}')
    attic.put("id/none")

    found = {path: held.expires_at for path, held in attic.found().items()}

    assert found == {"id/b.jpg": 1_800_000_123, "id/none": 0}
    attic.close()


@pytest.mark.parametrize("value", [b"", b"-1", b"1e9", b"never", b"9" * 13])
def test_an_end_that_is_no_number_counts_as_none(attic: Attic, value: bytes) -> None:
    os.setxattr(attic.put("a"), EXPIRES_ATTRIBUTE, value)

    assert attic.found()["a"].expires_at == 0


def test_empty_folders_are_told_with_their_age(attic: Attic) -> None:
    for name in ("a/empty", "a/full", "top"):
        (attic.store / name).mkdir(parents=True)
    attic.put("a/full/file")
    attic.touch(attic.store / "a/empty", 77)

    empty = {folder: NOW - changed for batch in attic.shelf.batches() for folder, changed in batch.empty}

    assert set(empty) == {b"a/empty", b"top"}
    assert empty[b"a/empty"] == 77


# --- removing ---


def test_removed_files_are_gone_buried_and_take_their_folders_with_them(attic: Attic) -> None:
    for name in ("a/b/one", "a/b/two", "a/three", "four", "five"):
        attic.put(name)
    found = attic.found()
    going = [found[name] for name in ("a/b/one", "a/b/two", "four")]

    assert attic.shelf.remove(going) == going
    attic.shelf.tidy(going)

    assert attic.names() == ["a/three", "five"]
    assert attic.folders() == ["a"]
    assert {name for name in found if attic.graves.buried(slot(name))} == {"a/b/one", "a/b/two", "four"}
    assert attic.store.is_dir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "gone": lambda place: place.unlink(),
    "replaced": lambda place: (place.rename(place.with_name("old")), place.write_bytes(b"xxxxx")),
    "touched": lambda place: os.utime(place, (1, 1)),
    "longer": lambda place: place.write_bytes(b"longer than before"),
    "a folder": lambda place: (place.unlink(), place.mkdir()),
    "a link": lambda place: (place.unlink(), place.symlink_to("/etc/hostname")),
    "without its folder": lambda place: (place.unlink(), place.parent.rmdir()),
    "below a file": lambda place: (place.unlink(), place.parent.rmdir(), place.parent.write_bytes(b"x")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_what_was_judged_stays(attic: Attic, change: str) -> None:
    place = attic.put("id/file")
    held = attic.found()["id/file"]
    CHANGES[change](place)
    before = {path: path.lstat().st_ino for path in attic.store.rglob("id*")}

    assert attic.shelf.remove([held]) == []

    assert {path: path.lstat().st_ino for path in attic.store.rglob("id*")} == before
    assert not attic.graves.buried(slot("id/file"))


def test_a_download_of_a_removed_file_goes_on(attic: Attic) -> None:
    attic.put("id/file")
    stored = attic.storage.open(slot("id/file"), with_content=False)

    attic.shelf.remove(list(attic.found().values()))

    assert stored.read(0, 100) == b"xxxxx"
    stored.close()


def test_what_was_kept_beside_a_file_goes_with_its_last_name(tmp_path: Path) -> None:
    attic = Attic(tmp_path / "store", use_attributes=False)
    attic.storage.store(slot("a"), bytearray(b"x"), Metadata("text/plain"))
    os.link(attic.store / "a", attic.store / "b")
    sidecars = lambda: list((attic.store / ".hmacfs/meta").glob("??/*"))  # noqa: E731

    attic.shelf.remove([attic.found()["a"]])
    assert len(sidecars()) == 1
    attic.shelf.remove([attic.found()["b"]])

    assert sidecars() == []
    attic.close()


def test_each_folder_that_stays_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attic = Attic(tmp_path / "store", durability="full")
    for name in ("a/1", "a/2", "a/stays", "b/1", "c/d/1"):
        attic.put(name)
    going = [held for path, held in attic.found().items() if path != "a/stays"]
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))

    attic.shelf.tidy(attic.shelf.remove(going))

    assert sorted(synced) == [str(attic.store), str(attic.store / "a")]
    attic.close()


def test_a_grave_is_made_before_the_name_goes(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    attic.put("id/file")
    held = attic.found()["id/file"]
    buried: list[bool] = []
    real = os.unlink

    def watch(path: object, **options: object) -> None:
        buried.append(attic.graves.buried(slot("id/file")))
        real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", watch)

    attic.shelf.remove([held])

    assert buried == [True]


def test_empty_folders_are_removed_unless_something_has_come(attic: Attic) -> None:
    for name in ("a/b/c", "d", "e"):
        (attic.store / name).mkdir(parents=True)
    attic.put("e/new")

    removed = attic.shelf.remove_empty([b"a/b/c", b"d", b"e"])

    assert removed == [b"a/b/c", b"d"]
    assert attic.folders() == ["e"]


def test_uploads_that_race_a_sweep_for_a_folder_are_all_stored(attic: Attic) -> None:
    """The sweep empties and removes the folder all the time; no upload may fail for it."""
    ended = threading.Event()
    stored: set[str] = set()  # who is deleted before the answer is told so

    def sweep() -> None:
        while not ended.is_set():
            old = [held for path, held in attic.found().items() if path in stored]
            attic.shelf.tidy(attic.shelf.remove(old))
            attic.shelf.remove_empty([b"shared"])

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(300):
            attic.storage.store(slot(f"shared/old-{number}"), bytearray(b"x"), Metadata("text/plain"))
            stored.add(f"shared/old-{number}")
        attic.storage.store(slot("shared/new"), bytearray(b"x"), Metadata("text/plain"))
    finally:
        ended.set()
        sweeper.join(20)

    assert "shared/new" in attic.names()


def test_a_held_file_says_its_age_in_whole_seconds() -> None:
    assert Held(slot("a"), 1, 1, 1_999_999_999).turn == 1
    assert Held(slot("a"), 1, 1, -1).turn == -1
