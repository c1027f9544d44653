"""What lies beside the files: bytes of unfinished uploads, and sidecars that no file has any more."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs.core.bloom import Seen
from hmacfs.storage.base import Metadata
from tests.support.aging import DAY, Attic, slot
from tests.support.resuming import header


@pytest.fixture
def attic(tmp_path: Path) -> Iterator[Attic]:
    made = Attic(tmp_path / "store", use_attributes=False)
    yield made
    made.close()


def store(attic: Attic, path: str) -> Path:
    """A file with a sidecar; the sidecar's path."""
    before = sidecars(attic)
    attic.storage.store(slot(path), bytearray(b"hello"), Metadata("text/plain"))
    (made,) = sidecars(attic) - before
    os.utime(made, (attic.now - 2 * DAY, attic.now - 2 * DAY))
    return made


def sidecars(attic: Attic) -> set[Path]:
    return set((attic.store / ".hmacfs/meta").glob("??/*"))


def seen_of(attic: Attic) -> Seen:
    seen = Seen(1)
    for held in attic.found().values():
        seen.add(held.inode, held.modified_ns)
    list(attic.leftovers.see_private(seen, 2))
    return seen


def orphans(attic: Attic, *, removes: bool = True) -> list[str]:
    return [name for names in attic.leftovers.orphans(seen_of(attic), 3, removes=removes) for name in names]


def test_sidecars_of_files_stay_and_others_go(attic: Attic) -> None:
    kept = {store(attic, f"id/{number}") for number in range(10)}
    lost = {store(attic, f"id/lost-{number}") for number in range(5)}
    for number in range(5):
        (attic.store / f"id/lost-{number}").unlink()

    told = orphans(attic, removes=False)
    assert sidecars(attic) == kept | lost

    assert sorted(orphans(attic)) == sorted(told) == sorted(path.name for path in lost)
    assert sidecars(attic) == kept


def test_a_sidecar_of_a_file_that_is_kept_under_no_slots_name_stays(attic: Attic) -> None:
    made = store(attic, "id/file")
    private = attic.store / ".hmacfs/versions/ab"
    private.mkdir(parents=True)
    (attic.store / "id/file").rename(private / "1")

    assert orphans(attic) == []
    assert sidecars(attic) == {made}


def test_a_young_sidecar_may_be_that_of_an_upload_on_its_way(attic: Attic) -> None:
    made = store(attic, "id/file")
    (attic.store / "id/file").unlink()
    os.utime(made, (attic.now - DAY + 10, attic.now - DAY + 10))

    assert orphans(attic) == []


def test_other_files_among_the_sidecars_are_left_alone(attic: Attic) -> None:
    store(attic, "id/file")
    stranger = attic.store / ".hmacfs/meta/README"
    stranger.write_bytes(b"x")
    os.utime(stranger, (0, 0))

    assert orphans(attic) == []
    assert stranger.exists()


def test_a_file_from_before_1970_keeps_its_sidecar(attic: Attic) -> None:
    made = store(attic, "id/file")
    place = attic.store / "id/file"
    os.utime(place, ns=(-5_000_000_007, -5_000_000_007))
    renamed = made.with_name(f"{place.stat().st_ino:x}--12a05f207.json")
    made.rename(renamed)

    assert orphans(attic) == []


def test_a_store_with_attributes_has_no_sidecars(tmp_path: Path) -> None:
    plain = Attic(tmp_path / "plain", use_attributes=True)
    plain.put("a")

    assert not plain.leftovers.has_sidecars()
    assert list(plain.leftovers.orphans(Seen(1), 3, removes=True)) == []
    plain.close()


def test_unfinished_uploads_count_with_what_they_take_on_the_disk(attic: Attic) -> None:
    assert sum(attic.leftovers.partial_bytes()) == 0
    attic.house.begin(header("token-of-client-1", total=100_000), (0, 60_000)).close()
    attic.house.begin(header("token-of-client-2", path="c", total=10_000_000), (9_990_000, 10_000_000)).close()

    counted = sum(attic.leftovers.partial_bytes())

    assert 70_000 <= counted < 200_000
