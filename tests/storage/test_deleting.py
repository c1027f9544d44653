"""Deleting a stored file: everything that belonged to it goes, readers and neighbours go on."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hmacfs.core import paths
from hmacfs.errors import NotFound
from hmacfs.offload import InlinePool
from hmacfs.storage import chains, fsutil, partialfolders, storedir
from hmacfs.storage.base import Metadata, UploadHeader
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.partials import LocalPartials

WHOLE = Metadata("text/plain", "a" * 64, "b" * 64, "romeo@example.org", 1700000000)


class House:
    def __init__(self, store: Path, *, attributes: bool, durability: str = "full") -> None:
        storedir.prepare(str(store))
        partialfolders.prepare(str(store))
        self.store = store
        self.storage = LocalStorage(
            str(store),
            InlinePool(),
            durability=durability,
            file_mode=0o640,
            dir_mode=0o750,
            use_attributes=attributes,
        )
        self.partials = LocalPartials(self.storage, str(store), most=4, ttl=60, clock=lambda: 0.0)

    def put(self, path: str, content: bytes = b"content") -> None:
        self.storage.store(paths.parse(path.encode()), bytearray(content), WHOLE)

    def delete(self, path: str) -> bool:
        return self.storage.delete(paths.parse(path.encode()))

    def slots(self) -> list[str]:
        """Files and folders outside of our own."""
        found = (path.relative_to(self.store) for path in self.store.rglob("*"))
        return sorted(str(path) for path in found if path.parts[0] != storedir.PRIVATE)

    def sidecars(self) -> list[Path]:
        return list((self.store / storedir.PRIVATE / "meta").rglob("*.json"))


@pytest.fixture(params=[True, False], ids=["attributes", "sidecars"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    built = House(tmp_path / "store", attributes=request.param)
    yield built
    os.close(built.storage._root)
    os.close(built.storage.staging.fd)


def test_the_file_its_sidecar_and_its_empty_folders_go(house: House) -> None:
    house.put("a/b/c/file")

    assert house.delete("a/b/c/file")

    assert house.slots() == []
    assert house.sidecars() == []
    with pytest.raises(NotFound):
        house.storage.open(paths.parse(b"a/b/c/file"), with_content=True)


def test_neighbours_and_their_folders_stay(house: House) -> None:
    house.put("a/b/file")
    house.put("a/b/neighbour")
    house.put("a/c/d/file")

    house.delete("a/b/file")
    house.delete("a/c/d/file")

    assert house.slots() == ["a", "a/b", "a/b/neighbour"]
    stored = house.storage.open(paths.parse(b"a/b/neighbour"), with_content=True)
    assert (stored.metadata, stored.content) == (WHOLE, b"content")


@pytest.mark.parametrize("path", ["a/unknown", "unknown/file", "a/file/below", "a"])
def test_what_is_no_file_is_none(path: str, house: House) -> None:
    house.put("a/file")

    assert not house.delete(path)

    assert house.slots() == ["a", "a/file"]


def test_a_link_is_none_and_nothing_is_followed(house: House, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    (house.store / "folder").symlink_to(outside)
    (house.store / "link").symlink_to(outside / "file")

    assert not house.delete("folder/file")
    assert not house.delete("link")

    assert (outside / "file").read_bytes() == b"precious"
    assert house.slots() == ["folder", "link"]


def test_who_reads_it_goes_on(house: House) -> None:
    house.put("a/file", b"x" * 100_000)
    stored = house.storage.open(paths.parse(b"a/file"), with_content=False)

    house.delete("a/file")

    assert stored.read(99_990, 100) == b"x" * 10
    stored.close()


def test_the_partials_of_the_slot_go_and_others_stay(house: House) -> None:
    for path, token in (("a/file", "t" * 20), ("a/other", "u" * 20)):
        header = UploadHeader(paths.parse(path.encode()), 10, "a/b", "session", token, 0.0)
        house.partials.create(header, others=lambda: 0, drop_idle=False, is_draft=False).close()
    house.put("b/file")
    (house.store / "a").mkdir()
    os.link(house.store / "b" / "file", house.store / "a" / "file")  # published elsewhere, with a partial left over

    house.delete("a/file")

    assert house.partials.count(paths.parse(b"a/file")) == 0
    assert house.partials.count(paths.parse(b"a/other")) == 1


def test_the_way_is_free_for_another_file(house: House) -> None:
    house.put("a/file", b"old")
    house.delete("a/file")

    house.put("a/file", b"new")

    assert (house.store / "a" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("durability", ["full", "data", "none"])
def test_the_folder_is_synced_with_full_durability_alone(
    durability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path / "store", attributes=True, durability=durability)
    house.put("a/file")
    house.put("a/neighbour")
    synced: list[str] = []
    monkeypatch.setattr(fsutil.os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))

    house.delete("a/file")

    assert synced == ([str(house.store / "a")] if durability == "full" else [])


def test_uploads_into_a_folder_that_is_being_emptied_all_arrive(tmp_path: Path) -> None:
    house = House(tmp_path / "store", attributes=True, durability="none")
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(100):
                house.put(f"shared/deep/{name}")
                assert house.delete(f"shared/deep/{name}")
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert house.slots() == []


def test_an_upload_whose_folder_goes_again_and_again_arrives(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, left = chains.open_chain, [20]

    def open_and_lose(root: int, segments: Sequence[bytes], mode: int, umask: int) -> list[int]:
        chain = opened(root, segments, mode, umask)
        if left[0]:
            left[0] -= 1
            chains.remove_empty_chain(chain, segments)
        return chain

    monkeypatch.setattr(chains, "open_chain", open_and_lose)
    house.put("a/b/file")

    assert left == [0]
    assert house.slots() == ["a", "a/b", "a/b/file"]


def test_uploader_and_expiry_travel_with_the_file(house: House) -> None:
    house.put("a/file")

    stored = house.storage.open(paths.parse(b"a/file"), with_content=True)

    assert stored.metadata == WHOLE


@pytest.mark.parametrize(("value", "expires"), [(b"1700000000", 1700000000), (b"soon", 0), (b"-5", 0), (b"", 0)])
def test_an_expiry_that_another_program_wrote_counts_if_it_is_a_number(
    value: bytes, expires: int, tmp_path: Path
) -> None:
    house = House(tmp_path / "store", attributes=True)
    house.put("a/file")
    os.setxattr(house.store / "a" / "file", "user.hmacfs.expires", value)

    stored = house.storage.open(paths.parse(b"a/file"), with_content=True)

    assert stored.metadata.expires_at == expires
