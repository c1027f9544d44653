"""Who removes a file with old versions is killed, with -9, as he enters his system calls: either all of it is there, or
nothing is shown of it any more and the next sweep takes the rest."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hmacfs.core import retention
from hmacfs.errors import Gone, NotFound
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.shelf import LocalShelf
from hmacfs.storage.versionfolders import LEDGER
from hmacfs.storage.versionshelf import VersionShelf
from tests.support.tracing import killed_at_each_call
from tests.support.versioned import Archive, content_of, opened, slot

NAMES = ["one", "two", "three"]
NOW = 1.7e9


def dig(archive: Archive) -> LocalGraves:
    graves = LocalGraves(str(archive.store), archive.storage.disk, lambda: NOW)
    archive.storage.is_buried = graves.buried_now
    return graves


def deleting(archive: Archive, graves: LocalGraves) -> None:
    """As ``services.deletions`` does."""
    graves.bury(slot())
    archive.storage.delete(slot())


def sweeping(archive: Archive, graves: LocalGraves) -> None:
    shelf = LocalShelf(archive.storage, str(archive.store), graves)
    shelf.remove([held for batch in shelf.batches() for held in batch.files])


def sweep_versions(archive: Archive) -> None:
    shelf = VersionShelf(archive.versions)
    for batch in shelf.batches():
        reasons = retention.reasons_to_go(batch.files, None, NOW)
        shelf.remove([held for held, reason in zip(batch.files, reasons, strict=True) if reason])


def prepared(remove: Callable[[Archive, LocalGraves], None], ledger: bool) -> Callable[[Path], Callable[[], object]]:
    """A file with two versions, which is to be removed; the ledger may have been lost."""
    before: list[tuple[Archive, LocalGraves]] = []

    def prepare(store: Path) -> Callable[[], object]:
        while before:
            archive, graves = before.pop()
            archive.close()
            os.close(graves._fd)
        archive = Archive(store, durability="full")
        for name in NAMES:
            archive.put(content_of(name))
        if not ledger:
            next((store / ".hmacfs/versions").rglob(LEDGER)).unlink()
        before.append((archive, dig(archive)))
        return lambda: remove(*before[-1])

    return prepare


def check_one_store(store: Path) -> str:
    """What is left is all of it or, for everybody who asks, nothing; which of the two it was."""
    with opened(store, durability="full") as archive:
        graves = dig(archive)
        try:
            found = archive.names()
        except (Gone, NotFound):
            found = None
            for number in (1, 2):
                with suppress(Gone, NotFound):
                    archive.versions.open(slot(), number, with_content=True).close()
                    pytest.fail("a version of a file that is gone is shown")
            sweep_versions(archive)
            assert archive.version_files() == []
        finally:
            os.close(graves._fd)
    assert found in (None, (NAMES[:-1], NAMES[-1]))
    return "gone" if found is None else "there"


@pytest.mark.parametrize("ledger", [True, False], ids=["", "its ledger was lost"])
@pytest.mark.parametrize("remove", [deleting, sweeping])
def test_a_removal_that_is_killed_anywhere_leaves_all_of_a_file_or_nothing_for_ever(
    remove: Callable[[Archive, LocalGraves], None], ledger: bool, tmp_path: Path
) -> None:
    calls = frozenset(("linkat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "fsync", "newfstatat"))

    outcomes = [
        (call, check_one_store(store))
        for call, store in killed_at_each_call(tmp_path / "stores", prepared(remove, ledger), calls)
    ]

    assert {outcome for _, outcome in outcomes} == {"there", "gone"}
    assert {"unlink", "linkat"} & {call for call, _ in outcomes}
