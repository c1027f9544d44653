"""A file that replaces another: what is kept, what stays, what a crash leaves (protocol, section 5.5)."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core.preconditions import WriteConditions
from hmacfs.core.versions import DAY
from hmacfs.errors import (
    FileExists,
    NotFound,
    PathConflict,
    PreconditionFailed,
    StorageBusy,
    TooManyVersions,
)
from hmacfs.storage import fsutil, replacing, slotlocks, storedir
from hmacfs.storage.base import Entity, Metadata
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.versionfolders import LEDGER
from tests.support.resuming import each_death, syncs
from tests.support.versioned import PATH, PLAIN, Archive, content_of, opened, slot

Open = Callable[..., Archive]


class Wall:
    """The clock on the wall, which files follow too."""

    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=["attributes", "sidecars"])
def keeping(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {} if request.param == "attributes" else {"use_attributes": False}


@pytest.fixture
def reopen(store: Path, wall: Wall, keeping: dict[str, Any]) -> Iterator[Open]:
    """Opens the store as another process would; nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    made: list[Archive] = []

    def build(**options: Any) -> Archive:
        made.append(Archive(store, **{"wall": wall, **keeping, **options}))
        return made[-1]

    yield build
    for archive in made:
        archive.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def archive(reopen: Open) -> Archive:
    return reopen()


@pytest.fixture(params=["at once", "in blocks"])
def each_way(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "in blocks")


# --- what is kept ---


def test_a_put_on_an_existing_path_keeps_the_old_file_as_a_version(archive: Archive, each_way: bool) -> None:
    first = archive.put(b"first", metadata=Metadata("text/plain"), in_blocks=each_way)
    second = archive.put(b"second", metadata=Metadata("image/png"), in_blocks=each_way)

    (version,) = archive.versions.of(slot())
    assert archive.read() == b"second"
    assert archive.old() == {1: b"first"}
    assert (version.entity, version.metadata) == (first, Metadata("text/plain"))
    assert second.etag != first.etag
    with closing(archive.storage.open(slot(), with_content=True)) as stored:
        assert (stored.entity, stored.metadata) == (second, Metadata("image/png"))
    assert archive.staged() == []


def test_of_files_that_followed_each_other_the_later_one_was_stored_later_whenever_its_body_came(
    reopen: Open, wall: Wall
) -> None:
    first, second = reopen(), reopen()
    slow = first.storage.stage(slot())
    slow.write(memoryview(b"begun first"))
    stored = second.put(b"published first")

    wall.time += 2
    last = slow.publish(PLAIN)
    slow.discard()

    assert second.read() == b"begun first"
    assert last.stored_us == int(wall.time * 1_000_000_000) // 1000 > stored.stored_us
    with closing(second.storage.open(slot(), with_content=False)) as found:
        assert found.entity == last  # when it was replaced tells no file from another


def test_a_file_that_replaces_one_of_a_clock_that_was_ahead_was_stored_later_all_the_same(
    archive: Archive, wall: Wall
) -> None:
    archive.put(b"first")
    ahead = (int(wall.time) + 3600) * 1_000_000_000
    os.utime(archive.store / PATH, ns=(ahead, ahead))

    second = archive.put(b"second")

    assert second.stored_us == ahead // 1000 + 1


def test_max_versions_keeps_the_newest(archive: Archive, each_way: bool) -> None:
    for number in range(6):
        archive.put(b"content %d" % number, in_blocks=each_way)

    assert archive.old() == {3: b"content 2", 4: b"content 3", 5: b"content 4"}
    assert archive.read() == b"content 5"


def test_max_versions_of_zero_keeps_none_and_still_replaces(reopen: Open, each_way: bool) -> None:
    archive = reopen(most=0)
    for content in (b"first", b"second"):
        archive.put(content, in_blocks=each_way)

    assert archive.read() == b"second"
    assert archive.old() == {}
    assert archive.version_files() == []


def test_a_lower_max_versions_removes_the_oldest_with_the_next_put(reopen: Open) -> None:
    wide = reopen(most=10)
    for number in range(6):
        wide.put(b"content %d" % number)

    narrow = reopen(most=1)
    narrow.put(b"the last")

    assert narrow.old() == {6: b"content 5"}


def test_what_was_kept_of_a_version_goes_with_it(reopen: Open, store: Path) -> None:
    archive = reopen(most=1, use_attributes=False)
    for number in range(5):
        archive.put(b"content %d" % number)

    assert len(list((store / ".hmacfs/meta").rglob("*.json"))) == 2


def test_equal_content_makes_no_version_and_stays_the_same_file(archive: Archive, each_way: bool) -> None:
    first = archive.put(b"same", in_blocks=each_way)

    again = archive.put(b"same", in_blocks=each_way)

    assert again == first
    assert archive.old() == {}
    assert archive.read() == b"same"
    assert archive.staged() == []


@pytest.mark.parametrize(("digests", "makes"), [(("ab" * 32, "ab" * 32), 0), (("ab" * 32, "cd" * 32), 1)])
def test_known_digests_tell_equal_content_without_reading_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, digests: tuple[str, str], makes: int
) -> None:
    monkeypatch.setattr(replacing, "are_equal", lambda *_: pytest.fail("it was read"))
    for digest in digests:
        archive.put(b"same", metadata=Metadata("text/plain", digest))

    assert len(archive.old()) == makes


def test_content_of_another_size_or_with_another_last_byte_is_not_equal(archive: Archive) -> None:
    large = bytes(700_000)
    for content in (large, large + b"\0", large[:-1] + b"x"):
        archive.put(content, in_blocks=True)

    assert [len(content) for content in archive.old().values()] == [700_000, 700_001]


def test_a_path_that_is_free_leaves_nothing_but_its_file(archive: Archive, store: Path) -> None:
    archive.put(b"first")

    assert list((store / ".hmacfs/versions").rglob("*")) == []
    assert not (store / ".hmacfs/slots.lock").exists()


def test_an_empty_file_is_a_version_like_any_other(archive: Archive, each_way: bool) -> None:
    for content in (b"", b"something", b""):
        archive.put(content, in_blocks=each_way)

    assert archive.old() == {1: b"", 2: b"something"}


def test_a_reader_goes_on_with_the_file_that_it_opened(archive: Archive) -> None:
    archive.put(b"first")
    with closing(archive.storage.open(slot(), with_content=False)) as reader:
        for content in (b"second", b"third", b"fourth", b"fifth", b"sixth"):
            archive.put(content)

        assert reader.read(0, 100) == b"first"
    assert b"first" not in archive.old().values()


@pytest.mark.parametrize("path", ["a", "a/b.jpg/c"])
def test_a_directory_is_never_replaced_nor_a_file_taken_for_one(archive: Archive, path: str) -> None:
    archive.put(b"first")

    with pytest.raises(PathConflict):
        archive.put(b"second", path)
    with pytest.raises(PathConflict):
        archive.versions.check(slot(path), 6, WriteConditions())

    assert archive.read() == b"first"
    assert archive.staged() == []


def test_a_symlink_at_the_path_is_not_replaced(archive: Archive, store: Path) -> None:
    archive.put(b"first")
    (store / "a/link.jpg").symlink_to("b.jpg")

    with pytest.raises(FileExists):
        archive.put(b"second", "a/link.jpg")

    assert (store / "a/link.jpg").is_symlink()
    assert archive.read() == b"first"


def test_without_versioning_nothing_is_replaced_and_old_versions_can_still_go(reopen: Open) -> None:
    keeping = reopen()
    for content in (b"first", b"second"):
        keeping.put(content)

    plain = reopen(replaces=False)

    with pytest.raises(FileExists):
        plain.put(b"third")
    plain.versions.forget(slot())
    assert plain.old() == {}


# --- conditions and the limit of a day ---


def test_if_match_with_the_current_tag_replaces_and_with_any_other_does_not(archive: Archive, each_way: bool) -> None:
    first = archive.put(b"first")
    second = archive.put(b"second", conditions=WriteConditions(if_match=first.etag), in_blocks=each_way)

    for wrong in (first.etag, '"x"', f"W/{second.etag}"):
        with pytest.raises(PreconditionFailed):
            archive.put(b"third", conditions=WriteConditions(if_match=wrong), in_blocks=each_way)
        with pytest.raises(PreconditionFailed):
            archive.versions.check(slot(), 5, WriteConditions(if_match=wrong))

    assert archive.read() == b"second"
    assert archive.old() == {1: b"first"}
    archive.put(b"fourth", conditions=WriteConditions(if_match="*"), in_blocks=each_way)
    assert archive.read() == b"fourth"


def test_if_match_never_makes_a_file_where_there_is_none(archive: Archive, store: Path, each_way: bool) -> None:
    for header in ('"x"', "*"):
        with pytest.raises(PreconditionFailed):
            archive.put(b"first", conditions=WriteConditions(if_match=header), in_blocks=each_way)
        with pytest.raises(PreconditionFailed):
            archive.versions.check(slot(), 5, WriteConditions(if_match=header))

    assert not (store / PATH).exists()


def test_if_none_match_of_a_star_never_replaces(archive: Archive, each_way: bool) -> None:
    only_new = WriteConditions(if_none_match="*")
    archive.put(b"first", conditions=only_new, in_blocks=each_way)

    with pytest.raises(PreconditionFailed):
        archive.put(b"second", conditions=only_new, in_blocks=each_way)
    with pytest.raises(PreconditionFailed):
        archive.versions.check(slot(), 6, only_new)

    assert archive.read() == b"first"


def test_a_url_that_is_sent_again_and_again_leaves_the_genuine_versions_for_the_day(reopen: Open, wall: Wall) -> None:
    archive = reopen(most=5, per_day=10)
    for number in range(7):
        archive.put(content_of(f"genuine-{number}"))
        wall.time += DAY

    for number in range(10):
        archive.put(content_of(f"replay-{number}", 200 + number))
        wall.time += 60
    with pytest.raises(TooManyVersions):
        archive.put(content_of("replay-10", 300))

    old, current = archive.names()
    assert old == ["genuine-3", "genuine-4", "genuine-5", "genuine-6", "replay-8"]
    assert current == "replay-9"
    wall.time += DAY
    archive.put(content_of("genuine-7"))
    assert archive.names() == (["genuine-4", "genuine-5", "genuine-6", "replay-8", "replay-9"], "genuine-7")


def test_a_path_takes_versions_per_day_and_then_no_more_until_the_day_is_over(
    reopen: Open, wall: Wall, each_way: bool
) -> None:
    archive = reopen(per_day=2)
    for content in (b"first", b"second", b"third"):
        archive.put(content, in_blocks=each_way)

    wall.time += 100
    with pytest.raises(TooManyVersions) as refused:
        archive.put(b"fourth", in_blocks=each_way)
    with pytest.raises(TooManyVersions):
        archive.versions.check(slot(), 6, WriteConditions())

    assert refused.value.retry_after is not None
    assert abs(refused.value.retry_after - (DAY - 100)) <= 1
    assert archive.read() == b"third"
    wall.time += DAY
    archive.put(b"fifth", in_blocks=each_way)
    assert archive.read() == b"fifth"


def test_a_replayed_upload_takes_nothing_of_the_day(reopen: Open) -> None:
    archive = reopen(per_day=2)
    archive.put(b"first")
    for _ in range(10):
        archive.put(b"first")
    archive.put(b"second")
    archive.put(b"third")

    archive.put(b"third")  # equal to the current file: it is there already
    archive.versions.check(slot(), len(b"third"), WriteConditions())

    assert list(archive.old().values()) == [b"first", b"second"]


def test_the_limit_of_a_day_holds_though_no_versions_are_kept(reopen: Open) -> None:
    archive = reopen(per_day=1, most=0)
    archive.put(b"first")
    archive.put(b"second")

    with pytest.raises(TooManyVersions):
        archive.put(b"third")


def test_a_damaged_ledger_loses_the_count_and_no_version(archive: Archive, store: Path) -> None:
    archive.put(b"first")
    archive.put(b"second")
    (ledger,) = (store / ".hmacfs/versions").rglob(LEDGER)
    for damage in (b"", b"\0" * 50, b"[]", b'{"path": 3}', b"[" * 100_000):
        ledger.write_bytes(damage)
        archive.put(b"after %d" % len(damage))

    assert sorted(archive.old()) == [4, 5, 6]


# --- order, locks and crashes ---


def test_the_old_name_is_synced_before_the_new_file_takes_its_place(reopen: Open, store: Path) -> None:
    archive = reopen(durability="full", use_attributes=True)
    archive.put(b"first")

    with syncs() as seen:
        archive.put(b"second")

    folder = next((store / ".hmacfs/versions").glob("??/*"))
    order = [os.path.relpath(name, store) for name in seen if "#" not in name and "(deleted)" not in name]
    versions = os.path.relpath(folder, store)
    assert order.index(versions) < order.index("a")
    assert os.path.dirname(versions) in order
    assert ".hmacfs/versions" in order


@pytest.mark.parametrize("cut_after", range(3))
def test_a_crash_at_any_call_leaves_whole_files_and_the_next_put_repairs(tmp_path: Path, cut_after: int) -> None:
    """Cut after link, rename and so on; each with another number of versions that were there before."""

    def prepare(store: Path) -> Callable[[], object]:
        with opened(store, most=2) as archive:
            for number in range(1 + cut_after):
                archive.put(content_of(f"n{number}"))
        return lambda: Archive(store, most=2).put(content_of("cut"))

    outcomes = set()
    for _, store in each_death(tmp_path, prepare):
        with opened(store, most=2) as archive:
            old, current = archive.names()
            outcomes.add(current)
            expected = [f"n{number}" for number in range(cut_after)]
            assert old[-2:] == (expected if current != "cut" else [*expected, f"n{cut_after}"])[-2:]
            assert len(old) <= 3

            archive.put(content_of("next"))

            after = [*expected, f"n{cut_after}", *(["cut"] if current == "cut" else [])]
            assert archive.names() == (after[-2:], "next")
            assert len(archive.version_files()) <= 2

    assert outcomes == {f"n{cut_after}", "cut"}


def test_a_version_that_is_the_current_file_is_not_shown_and_goes_with_the_sweep(archive: Archive, store: Path) -> None:
    """As a crash between linking away and replacing leaves it."""
    for content in (b"first", b"second"):
        archive.put(content)
    folder = next((store / ".hmacfs/versions").glob("??/*"))
    os.link(store / PATH, folder / "2")

    assert archive.old() == {1: b"first"}
    archive.tidied()

    assert archive.version_files() == ["1"]
    assert archive.read() == b"second"


def test_another_server_that_starts_meanwhile_sweeps_nothing_that_is_on_its_way(
    archive: Archive, store: Path, monkeypatch: pytest.MonkeyPatch, each_way: bool
) -> None:
    archive.put(b"first")
    real = fsutil.replace_name
    swept: list[int] = []

    def sweeping(*args: Any) -> None:
        swept.append(storedir.sweep_leftovers(str(store)))
        real(*args)

    monkeypatch.setattr(fsutil, "replace_name", sweeping)
    archive.put(b"second", in_blocks=each_way)

    assert swept == [0]
    assert archive.read() == b"second"


def test_who_holds_the_lock_makes_others_wait_and_then_give_up(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, waiter = reopen(), reopen()
    holder.put(b"first")
    slept: list[float] = []
    monkeypatch.setattr(slotlocks.time, "sleep", slept.append)
    monkeypatch.setattr(fsutil, "pause", slept.append)

    with holder.storage.locks.held(slot_name(slot())):
        with pytest.raises(StorageBusy):
            waiter.put(b"second")
        waiter.put(b"another path", "a/c.jpg")
        waiter.put(b"and again", "a/c.jpg")

    assert sum(slept) >= slotlocks.PATIENCE_SECONDS
    assert holder.read() == b"first"
    assert waiter.staged() == []
    waiter.put(b"second")
    assert holder.read() == b"second"


def test_a_file_that_is_replaced_while_it_is_compared_is_compared_anew(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = reopen(), reopen()
    ours.put(b"aaaa")
    contents = iter([b"bbbb", b"cccc"])
    real = replacing.are_equal

    def meanwhile(first: int, second: int, size: int) -> bool:
        result = real(first, second, size)
        with suppress(StopIteration):
            other.storage.store(slot(), bytearray(next(contents)), Metadata("text/plain", "ab" * 32))
        return result

    monkeypatch.setattr(replacing, "are_equal", meanwhile)
    ours.put(b"bbbb")

    assert [*ours.old().values(), ours.read()].count(b"cccc") == 1
    assert ours.read() == b"bbbb"


def test_a_file_that_is_removed_while_it_is_compared_is_simply_published(
    archive: Archive, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.put(b"aaaa")
    monkeypatch.setattr(replacing, "are_equal", lambda *_: os.unlink(store / PATH))

    archive.put(b"bbbb")

    assert archive.read() == b"bbbb"


# --- removing ---


def test_a_deletion_takes_the_versions_along(archive: Archive, store: Path) -> None:
    for content in (b"first", b"second", b"third"):
        archive.put(content)
        archive.put(content, "a/other.jpg")

    archive.versions.forget(slot())

    assert archive.old() == {}
    assert archive.old("a/other.jpg") == {1: b"first", 2: b"second"}
    assert len(list((store / ".hmacfs/versions").glob("??/*"))) == 1


def test_neither_a_file_nor_a_version_is_not_found(archive: Archive) -> None:
    archive.put(b"first")

    assert archive.old() == {}
    with pytest.raises(NotFound):
        archive.versions.of(slot("a/missing"))
    for number in (1, 99):
        with pytest.raises(NotFound):
            archive.versions.open(slot(), number, with_content=True)


def test_retention_sees_every_version_with_its_path_age_and_size(archive: Archive) -> None:
    entities = [archive.put(content) for content in (b"first", b"second", b"third")]
    others = [archive.put(content, "other") for content in (b"1", b"22")]

    found = {(str(version.path), version.number): version.entity for version in archive.versions.each()}

    assert found == {(PATH, 1): entities[0], (PATH, 2): entities[1], ("other", 1): others[0]}


def test_retention_removes_a_version_only_while_it_is_the_one_that_was_judged(archive: Archive) -> None:
    for content in (b"first", b"second", b"third"):
        archive.put(content)
    first, second = archive.versions.each()
    changed = replace(second, entity=Entity(second.entity.inode, 1, second.entity.modified_ns))

    assert archive.versions.remove(first) == len(b"first")
    assert archive.versions.remove(first) is None
    assert archive.versions.remove(changed) is None

    assert archive.old() == {2: b"second"}
    archive.put(b"fourth")
    assert sorted(archive.old()) == [2, 3]


def test_a_sweep_removes_a_folder_without_versions_once_its_day_is_over(reopen: Open, wall: Wall, store: Path) -> None:
    archive = reopen(most=0, per_day=1)
    archive.put(b"first")
    archive.put(b"second")

    archive.tidied()
    with pytest.raises(TooManyVersions):
        archive.put(b"third")
    wall.time += DAY + 10
    archive.tidied()

    assert list((store / ".hmacfs/versions").glob("??/*")) == []
    archive.put(b"fourth")
    assert archive.read() == b"fourth"


def test_a_bare_store_of_another_server_is_swept_without_harm(archive: Archive) -> None:
    assert archive.tidied() == 0
    assert list(archive.versions.each()) == []
    archive.versions.forget(slot())


def test_a_sweep_passes_over_what_is_not_ours(reopen: Open, store: Path) -> None:
    archive = reopen(most=1)
    archive.put(b"first")
    archive.put(b"second")
    root, name = store / ".hmacfs/versions", slot_name(slot())
    for folder in ("ab/xyz", "zz/" + "ab" * 16, f"{name[:2]}/{name}/9", "cd/" + "ab" * 16):
        (root / folder).mkdir(parents=True)
    strays = [".nfs0001", "ab/.nfs0002", "ab/xyz/7", "cd/" + "ab" * 16 + "/3", f"{name[:2]}/{name}/{'9' * 23}", "ab/07"]
    for stray in strays:
        (root / stray).write_text("not ours")

    assert archive.tidied() == 0
    assert [each.number for each in archive.versions.each()] == [1]
    archive.put(b"third")

    assert archive.old() == {2: b"second"}
    assert [stray for stray in strays if not (root / stray).exists()] == []


@pytest.mark.parametrize(
    "content",
    [
        '{"path": "a/b.jpg", "highest": 1e400, "made": []}',
        '{"path": "a/b.jpg", "highest": 1, "made": [1e400, NaN]}',
        '{"path": "a/b.jpg", "highest": -1, "made": []}',
        '{"path": "a/b.jpg", "highest": 1, "made": [], "stored": [1]}',
        '{"path": "a/b.jpg", "highest": 1, "made": [], "stored": {"1": "long ago"}}',
        '{"path": "a/b.jpg", "highest": 1%s, "made": []}' % ("0" * 300),
        '{"path": "\\ud800", "highest": 1, "made": []}',
        "[" * 100_000,
        "[]",
        "\0",
        "",
    ],
)
def test_a_damaged_ledger_counts_as_empty(reopen: Open, store: Path, content: str) -> None:
    archive = reopen(per_day=5)
    archive.put(b"first")
    archive.put(b"second")
    (ledger,) = (store / ".hmacfs/versions").rglob(LEDGER)
    ledger.write_text(content)

    assert archive.tidied() == 0
    assert [each.number for each in archive.versions.each()] == [1]
    archive.put(b"third")

    assert archive.old() == {1: b"first", 2: b"second"}


def test_a_version_is_as_old_as_it_was_when_its_content_is_stored_again(archive: Archive, store: Path) -> None:
    archive.put(b"first")
    os.utime(store / PATH, (1_000_000, 1_000_000))
    archive.put(b"second")
    os.utime(store / PATH, (2_000_000, 2_000_000))
    archive.put(b"third")
    (kept,) = (store / ".hmacfs/versions").rglob("1")

    os.utime(kept)  # as sharing does with the inode

    assert [version.stored for version in archive.versions.of(slot())] == [1_000_000, 2_000_000]
    assert [version.stored_ns // 10**9 for version in archive.versions.each()] == [1_000_000, 2_000_000]


@pytest.mark.parametrize("noted", ["{}", '{"1": 0}', '{"1": -5}', f'{{"1": {10**30}}}', '{"7": 5}'])
def test_without_a_note_a_version_is_as_old_as_its_file(archive: Archive, store: Path, noted: str) -> None:
    archive.put(b"first")
    os.utime(store / PATH, (1_000_000, 1_000_000))
    archive.put(b"second")
    (ledger,) = (store / ".hmacfs/versions").rglob(LEDGER)

    ledger.write_text(f'{{"path": "{PATH}", "highest": 1, "made": [], "stored": {noted}}}')
    (damaged,) = archive.versions.of(slot())
    ledger.write_text(f'{{"path": "{PATH}", "highest": 1, "made": []}}')
    (earlier,) = archive.versions.of(slot())

    assert (damaged.stored, earlier.stored) == (1_000_000, 1_000_000)


def test_plain_metadata_is_what_the_tests_above_put(archive: Archive) -> None:
    archive.put(b"x")

    with closing(archive.storage.open(slot(), with_content=False)) as stored:
        assert stored.metadata == PLAIN
