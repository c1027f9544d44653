"""One sweep: what its time is over for goes, what must make room goes oldest first, and nothing else."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmacfs.core import oldest
from hmacfs.core.retention import AgeRule, Batch, Held, Policy
from hmacfs.errors import StorageFailed
from hmacfs.services import sweep as module
from hmacfs.services.sweep import Report, Sweep
from hmacfs.storage.base import Metadata
from hmacfs.storage.metadata import EXPIRES_ATTRIBUTE
from tests.support.aging import DAY, HOUR, NOW, Attic, slot
from tests.support.resuming import TTL, header

MONTH = Policy((AgeRule("FileTTL", 30 * DAY),))


@pytest.fixture
def attic(tmp_path: Path) -> Iterator[Attic]:
    made = Attic(tmp_path / "store")
    yield made
    made.close()


def at_once(_seconds: float) -> bool:
    return False


def swept(attic: Attic, policy: Policy, *, by_age: bool = True, **options: bool) -> Report:
    return Sweep(attic.means(policy, **options), attic.now, at_once).run(by_age=by_age)


def room(count: int) -> Policy:
    return Policy((), count)


# --- by age ---


def test_old_files_go_with_their_reason_and_young_ones_stay(attic: Attic) -> None:
    attic.put("id/old", 7, age=30 * DAY)
    attic.put("id/young", 5, age=30 * DAY - 1)
    os.setxattr(attic.put("id/claimed", 3, age=1), EXPIRES_ATTRIBUTE, b"%d" % NOW)

    report = swept(attic, MONTH)

    assert attic.names() == ["id/young"]
    assert sorted(attic.told.removed) == [("id/claimed", "claim"), ("id/old", "FileTTL")]
    assert sorted(attic.ledger.gone) == ["id/claimed", "id/old"]
    assert (report.files, report.stored, report.removed, report.freed) == (1, 5, 2, 10)
    assert attic.told.sweeps == 1


def test_without_rules_nothing_goes(attic: Attic) -> None:
    attic.put("id/old", age=10_000 * DAY)

    report = swept(attic, Policy())

    assert (attic.names(), report.removed, report.files) == (["id/old"], 0, 1)


def test_a_path_that_expired_is_known_to_be_gone(attic: Attic) -> None:
    attic.put("id/old", age=30 * DAY)

    swept(attic, MONTH)

    assert attic.graves.buried(slot("id/old"))


def test_a_file_that_was_replaced_after_it_was_judged_stays(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    place = attic.put("id/file", age=31 * DAY)
    real = attic.shelf.remove
    monkeypatch.setattr(attic.shelf, "remove", lambda files: (attic.put("id/file", 9), real(files))[1])

    report = swept(attic, MONTH)

    assert place.stat().st_size == 9
    assert (report.removed, attic.told.removed, attic.ledger.gone) == (0, [], [])


def test_a_file_that_cannot_be_removed_leaves_its_path_as_it_was(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: int, _name: bytes) -> int:
        raise OSError(errno.EPERM, "the file is immutable")

    attic.put("id/new", age=31 * DAY)
    monkeypatch.setattr(attic.storage, "drop_name", refuse)

    with pytest.raises(StorageFailed):
        swept(attic, MONTH)
    was_buried = attic.graves.buried(slot("id/new"))
    attic.graves.bury(slot("id/new"))
    with pytest.raises(StorageFailed):
        swept(attic, MONTH)

    assert attic.names() == ["id/new"]
    assert (was_buried, attic.graves.buried(slot("id/new"))) == (False, True)  # not the older grave


def test_where_the_clock_is_not_believed_nothing_goes_by_age(attic: Attic) -> None:
    attic.put("id/old", age=30 * DAY)
    os.setxattr(attic.put("id/claimed"), EXPIRES_ATTRIBUTE, b"1")
    attic.graves.bury(slot("gone"))
    attic.now += 40 * DAY

    swept(attic, MONTH, by_age=False)

    assert attic.names() == ["id/claimed", "id/old"]
    attic.now -= 40 * DAY
    assert attic.graves.buried(slot("gone"))


# --- by size ---


def test_the_oldest_files_make_room(attic: Attic) -> None:
    for number in range(10):
        attic.put(f"id/{number}", 100, age=(10 - number) * DAY)

    report = swept(attic, room(550))

    assert attic.names() == [f"id/{number}" for number in range(5, 10)]
    assert sorted(attic.told.removed) == [(f"id/{number}", "MaxRetentionSize") for number in range(5)]
    assert (report.stored, report.files) == (500, 5)


def test_a_store_of_exactly_the_limit_stays_as_it_is(attic: Attic) -> None:
    for number in range(10):
        attic.put(f"id/{number}", 100, age=number * DAY + HOUR)

    assert swept(attic, room(1000)).removed == 0
    assert swept(attic, room(999)).removed == 1


def test_files_of_the_last_hour_are_spared_even_if_the_store_stays_too_large(attic: Attic) -> None:
    attic.put("id/young", 1000, age=HOUR - 1)
    attic.put("id/old", 10, age=HOUR)

    report = swept(attic, room(500))

    assert attic.names() == ["id/young"]
    assert report.stored == 1000


def test_a_store_that_is_too_large_but_young_is_looked_at_once(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    attic.put("id/young", 1000, age=HOUR - 1)
    looks: list[int] = []
    real = attic.shelf.batches
    monkeypatch.setattr(attic.shelf, "batches", lambda: (looks.append(1), real())[1])

    swept(attic, room(500))

    assert len(looks) == 1


def test_unfinished_uploads_count_but_stay(attic: Attic) -> None:
    attic.now = time.time()  # partials have the machine's own time
    attic.put("id/old", 1000, age=2 * HOUR)
    attic.house.begin(header(path="a/b", total=5000), (0, 5000)).close()

    swept(attic, room(5500))

    assert attic.names() == []
    assert attic.house.left(path="a/b") == [(0, 5000)]


def test_age_goes_before_size(attic: Attic) -> None:
    attic.put("id/expired", 500, age=40 * DAY)
    attic.put("id/old", 500, age=20 * DAY)
    attic.put("id/young", 500, age=10 * DAY)

    swept(attic, Policy(MONTH.ages, 1000))

    assert attic.told.removed == [("id/expired", "FileTTL")]


def test_more_than_is_remembered_at_a_time_goes_in_several_rounds(
    attic: Attic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oldest, "MOST_CHOSEN", 3)
    for number in range(20):
        attic.put(f"id/{number:02}", 1, age=2 * HOUR)  # all of one second

    swept(attic, room(9))

    assert attic.names() == [f"id/{number}" for number in range(11, 20)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5 * HOUR), st.none() | st.integers(-9, 9)), max_size=12),
    most=st.integers(0, 60),
    ttl=st.none() | st.integers(1, 4 * HOUR),
)
def test_what_stays_is_what_a_simple_model_says(
    tmp_path: Path, files: list[tuple[int, int, int | None]], most: int, ttl: int | None
) -> None:
    folder = tmp_path / f"store-{len(os.listdir(tmp_path))}"
    attic = Attic(folder)
    kept: list[tuple[int, str, int]] = []
    for number, (size, age, claim) in enumerate(files):
        name = f"f{number % 3}/{number:02}"
        place = attic.put(name, size, age)
        if claim is not None:
            os.setxattr(place, EXPIRES_ATTRIBUTE, b"%d" % (NOW + claim))
        if (ttl is None or age < ttl) and (claim is None or claim > 0):
            kept.append((-age, name, size))
    for entry in sorted(kept):
        if not most or sum(size for _, _, size in kept) <= most:
            break
        if -entry[0] >= HOUR:
            kept.remove(entry)

    swept(attic, Policy((AgeRule("FileTTL", ttl),) if ttl else (), most))

    assert attic.names() == sorted(name for _, name, _ in kept)
    attic.close()


# --- old versions ---


class OldVersions:
    """Versions as a list in memory; what is kept of them is not what is tested here."""

    def __init__(self, *held: Held) -> None:
        self.held = list(held)

    def batches(self) -> Iterator[Batch]:
        yield Batch(list(self.held))

    def remove(self, files: Sequence[Held]) -> Sequence[Held]:
        self.held = [held for held in self.held if held not in files]
        return files

    def tidy(self, files: Sequence[Held]) -> None:
        pass

    def remove_empty(self, folders: Sequence[bytes]) -> Sequence[bytes]:
        return folders


def version(number: int, size: int, age: float) -> Held:
    return Held(slot("id/file"), 100 + number, size, int((NOW - age) * 1e9), 0, number)


def test_old_versions_go_by_the_same_rules_and_leave_the_file_and_its_row(attic: Attic) -> None:
    attic.put("id/file", 100, age=DAY)
    versions = OldVersions(version(1, 100, 40 * DAY), version(2, 100, 20 * DAY), version(3, 100, 10 * DAY))
    means = attic.means(Policy(MONTH.ages, 250))
    means = replace(means, grounds=replace(means.grounds, versions=versions))

    report = Sweep(means, attic.now, at_once).run()

    assert [held.version for held in versions.held] == [3]
    assert attic.names() == ["id/file"]
    assert attic.told.removed == [("id/file", "FileTTL"), ("id/file", "MaxRetentionSize")]
    assert attic.ledger.gone == []
    assert not attic.graves.buried(slot("id/file"))
    assert (report.files, report.stored) == (2, 200)


# --- what else goes ---


def test_unfinished_uploads_that_are_over_go(attic: Attic) -> None:
    made = header(path="a/b")
    attic.house.begin(made, (0, 10)).close()
    attic.now = time.time() + TTL + 10

    swept(attic, Policy())

    assert (attic.told.uploads, attic.ledger.ended) == (["a/b"], [made.key])
    assert attic.house.names() == []


def test_empty_folders_go_after_an_hour(attic: Attic) -> None:
    for name, age in (("old/empty", 2 * HOUR), ("young/empty", HOUR - 10)):
        (attic.store / name).mkdir(parents=True)
        attic.touch(attic.store / name, age)

    report = swept(attic, Policy())

    assert attic.folders() == ["young", "young/empty"]
    assert (report.folders, attic.told.leftovers) == (1, [("folder", "old/empty")])


def test_sidecars_of_no_file_go(tmp_path: Path) -> None:
    attic = Attic(tmp_path / "store", use_attributes=False)
    for name in ("id/here", "id/lost"):
        attic.storage.store(slot(name), bytearray(b"x"), Metadata("text/plain"))
    for sidecar in (attic.store / ".hmacfs/meta").glob("??/*"):
        attic.touch(sidecar, 2 * DAY)
    (attic.store / "id/lost").unlink()

    report = swept(attic, Policy())

    assert report.sidecars == 1
    assert [kind for kind, _ in attic.told.leftovers] == ["sidecar"]
    assert attic.storage.open(slot("id/here"), with_content=False).metadata.content_type == "text/plain"
    attic.close()


def test_old_graves_go(attic: Attic) -> None:
    attic.graves.bury(slot("a"))
    attic.now += 32 * DAY

    swept(attic, Policy())

    assert list((attic.store / ".hmacfs/graves").glob("??/*")) == []


def test_what_is_not_ours_is_passed_over_and_stays(attic: Attic) -> None:
    attic.graves.bury(slot("a"))
    attic.house.begin(header(path="a/b"), (0, 10)).close()
    inside = attic.store / ".hmacfs"
    for folder in ("partials/junk", "partials/ee/junk", "graves/days/20200101-0", "graves/ee"):
        (inside / folder).mkdir(parents=True)
    strays = ["partials/.nfs1", "partials/ff", "partials/ee/.nfs2", "partials/ee/" + "e" * 32, "partials/tokens/.nfs3"]
    strays += ["graves/.nfs4", "graves/ff", "graves/ee/.nfs5", "graves/days/.nfs6"]
    for stray in strays:
        (inside / stray).write_text("not ours")
        attic.touch(inside / stray, 100 * DAY)
    attic.put("id/old", age=31 * DAY)
    attic.now += 32 * DAY

    swept(attic, MONTH)

    assert attic.names() == []
    assert not attic.graves.buried(slot("a"))
    assert [stray for stray in strays if not (inside / stray).exists()] == []


# --- how ---


def test_a_plan_says_the_same_as_the_sweep_and_changes_nothing(attic: Attic) -> None:
    for number in range(10):
        attic.put(f"id/{number}", 100, age=(40 - number) * DAY)
    (attic.store / "empty").mkdir()
    attic.touch(attic.store / "empty", DAY)
    policy = Policy((AgeRule("FileTTL", 38 * DAY),), 500)

    planned = swept(attic, policy, removes=False)
    assert len(attic.names()) == 10
    assert attic.folders() == ["empty", "id"]
    assert attic.ledger.gone == []
    said, attic.told.removed = attic.told.removed, []

    done = swept(attic, policy)

    assert (planned, said) == (done, attic.told.removed)
    assert len(attic.names()) == 5


def test_a_sweep_ends_with_the_batch_in_which_it_is_told_to(attic: Attic) -> None:
    for number in range(300):
        attic.put(f"id/{number}", age=40 * DAY)
    rests: list[float] = []

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return len(rests) == 6

    report = Sweep(attic.means(MONTH), attic.now, rest).run()

    assert not report.is_complete
    assert report.removed == 2 * module.STEP
    assert len(attic.folders()) == 1
    assert len(attic.names()) == 300 - report.removed


def test_it_rests_after_each_batch_and_longer_after_deletions(attic: Attic) -> None:
    for number in range(200):
        attic.put(f"id/{number}", age=40 * DAY)
    rests: list[float] = []
    means = attic.means(MONTH)

    Sweep(means, attic.now, lambda seconds: bool(rests.append(seconds))).run()

    assert len([seconds for seconds in rests if seconds >= module.LEAST_REST]) >= 200 // module.BATCH
    assert len(rests) >= 2 * (200 // module.BATCH)


def test_it_waits_for_shared_state_to_take_what_has_gone(attic: Attic) -> None:
    attic.put("id/old", age=40 * DAY)
    attic.ledger.queued = 10**6
    rests: list[float] = []

    Sweep(attic.means(MONTH), attic.now, lambda seconds: bool(rests.append(seconds))).run()

    assert rests.count(0.2) == 5


def test_a_store_that_does_not_resume_is_swept_too(attic: Attic) -> None:
    attic.put("id/old", age=40 * DAY)

    assert swept(attic, MONTH, resumable=False).removed == 1


def test_a_jump_of_the_clock_is_suspicious_only_where_most_would_go(attic: Attic) -> None:
    for number in range(120):
        attic.put(f"id/{number}", 1, age=40 * DAY if number < 60 else 0)
    assert not Sweep(attic.means(MONTH), attic.now, at_once).is_suspicious()
    attic.put("id/one-more", age=40 * DAY)
    attic.put("id/another", age=40 * DAY)

    assert Sweep(attic.means(MONTH), attic.now, at_once).is_suspicious()

    assert attic.told.doubts == [(62, 122)]
    assert len(attic.names()) == 122
