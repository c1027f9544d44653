"""Paths that are gone and known to be: for 30 days, over processes, at the cost of one entry in a folder each."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from hmacfs.errors import Gone
from hmacfs.storage import graves as module
from hmacfs.storage.base import Metadata
from hmacfs.storage.graves import LocalGraves
from tests.support.aging import DAY, NOW, Attic, slot

MIDNIGHT = NOW // DAY * DAY


@pytest.fixture
def attic(tmp_path: Path) -> Iterator[Attic]:
    made = Attic(tmp_path / "store")
    yield made
    made.close()


def places(attic: Attic) -> list[Path]:
    """Every grave."""
    return sorted((attic.store / ".hmacfs/graves").glob("??/*"))


def days(attic: Attic) -> dict[str, int]:
    """The files of the days, and how many names each has."""
    return {path.name: path.stat().st_nlink for path in (attic.store / ".hmacfs/graves/days").iterdir()}


def sweep(attic: Attic) -> int:
    return sum(attic.graves.sweep(2))


def test_a_buried_path_is_known_to_every_process_and_no_other_is(attic: Attic) -> None:
    assert not attic.graves.buried(slot("a/b.jpg"))

    attic.graves.bury(slot("a/b.jpg"))

    other = LocalGraves(str(attic.store), attic.storage.disk, lambda: attic.now)
    assert other.buried(slot("a/b.jpg"))
    assert [path for path in ("a", "a/b.jp", "a/b.jpg/c", "b.jpg") if other.buried(slot(path))] == []


def test_a_grave_is_named_after_a_digest_of_the_path_and_takes_no_inode(attic: Attic) -> None:
    for number in range(5):
        attic.graves.bury(slot(f"a/{number}"))

    digest = sha256(b"a/0").hexdigest()
    assert attic.store / ".hmacfs/graves" / digest[:2] / digest in places(attic)
    assert len({path.stat().st_ino for path in places(attic)}) == 1
    assert days(attic) == {f"{time.strftime('%Y%m%d', time.gmtime(NOW))}-0": 6}


def test_a_grave_holds_for_thirty_days_and_at_most_one_more(attic: Attic) -> None:
    attic.now = MIDNIGHT + DAY - 1
    attic.graves.bury(slot("late"))
    attic.now += 30 * DAY
    assert attic.graves.buried(slot("late"))

    attic.now += 2

    assert not attic.graves.buried(slot("late"))


def test_a_path_buried_again_is_gone_for_thirty_days_from_then(attic: Attic) -> None:
    attic.graves.bury(slot("a"))
    attic.now += 29 * DAY
    attic.graves.bury(slot("a"))
    attic.graves.bury(slot("a"))
    attic.now += 29 * DAY

    assert attic.graves.buried(slot("a"))
    assert sweep(attic) == 0
    assert len(places(attic)) == 1


def test_who_buries_learns_whether_the_path_counted_as_gone_before_and_can_take_that_back(attic: Attic) -> None:
    first, second = attic.graves.bury(slot("a")), attic.graves.bury(slot("a"))
    attic.now += 3 * DAY
    renewed = attic.graves.bury(slot("a"))
    attic.now += 32 * DAY
    over = attic.graves.bury(slot("a"))

    attic.graves.exhume(slot("a"))
    attic.graves.exhume(slot("a"))

    assert (first, second, renewed, over) == (True, False, False, True)
    assert not attic.graves.buried(slot("a"))


def test_no_file_gets_more_names_than_a_filesystem_allows(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINKS", 4)

    for number in range(10):
        attic.graves.bury(slot(f"a/{number}"))

    assert sorted(days(attic).values()) == [2, 4, 4, 4]
    assert all(attic.graves.buried(slot(f"a/{number}")) for number in range(10))
    attic.now += DAY
    attic.graves.bury(slot("b"))
    assert f"{time.strftime('%Y%m%d', time.gmtime(attic.now))}-0" in days(attic)


def test_a_file_of_which_the_filesystem_takes_no_more_names_is_followed_by_another(
    attic: Attic, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.link, []

    def full(source: str, target: str, **options: object) -> None:
        if source.endswith("-0"):
            refused.append(source)
            raise OSError(31, "Too many links")
        real(source, target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", full)

    attic.graves.bury(slot("a"))

    assert len(refused) == 1
    assert attic.graves.buried(slot("a"))


def test_processes_that_bury_at_the_same_time_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINKS", 20)
    attics = [Attic(tmp_path / "store") for _ in range(4)]
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait(20)
        for turn in range(50):
            attics[number].graves.bury(slot(f"shared/{turn}"))
            attics[number].graves.bury(slot(f"own-{number}/{turn}"))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()

    names = [f"shared/{turn}" for turn in range(50)] + [f"own-{n}/{turn}" for n in range(4) for turn in range(50)]
    assert all(attics[0].graves.buried(slot(name)) for name in names)
    assert len(places(attics[0])) == len(names)
    for attic in attics:
        attic.close()


# --- sweeping ---


def test_old_graves_and_their_days_are_swept_and_young_ones_stay(attic: Attic) -> None:
    for number in range(20):
        attic.graves.bury(slot(f"old/{number}"))
    attic.now += 31 * DAY
    attic.graves.bury(slot("young"))

    assert sweep(attic) == 20

    assert [path.stat().st_nlink for path in places(attic)] == [2]
    assert list(days(attic)) == [f"{time.strftime('%Y%m%d', time.gmtime(attic.now))}-0"]
    assert sweep(attic) == 0


def test_while_no_day_is_over_no_grave_is_looked_at(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    attic.graves.bury(slot("a"))
    looked: list[object] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (looked.append(path), real(path))[1])  # type: ignore[func-returns-value]

    assert sweep(attic) == 0

    assert looked == [str(attic.store / ".hmacfs/graves/days")]


def test_a_store_without_graves_is_swept_in_no_time(attic: Attic) -> None:
    assert sweep(attic) == 0
    assert list((attic.store / ".hmacfs/graves").iterdir()) == []


# --- what the storage says ---


def test_a_path_that_is_gone_is_neither_read_nor_written(attic: Attic) -> None:
    attic.graves.bury(slot("a/b.jpg"))
    staged = attic.storage.stage(slot("a/b.jpg"))
    deeds = {
        "open": lambda: attic.storage.open(slot("a/b.jpg"), with_content=True),
        "vacant": lambda: attic.storage.check_vacant(slot("a/b.jpg")),
        "store": lambda: attic.storage.store(slot("a/b.jpg"), bytearray(b"x"), Metadata()),
        "publish": lambda: staged.publish(Metadata()),
    }

    for deed in deeds.values():
        with pytest.raises(Gone):
            deed()

    staged.discard()
    assert (attic.names(), attic.folders()) == ([], [])


def test_a_file_that_is_there_is_served_whatever_the_graves_say(attic: Attic) -> None:
    attic.put("a/b.jpg")
    attic.graves.bury(slot("a/b.jpg"))

    assert attic.storage.open(slot("a/b.jpg"), with_content=True).content == b"xxxxx"
