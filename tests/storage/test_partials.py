"""Unfinished uploads on disk: who writes, what is told, what a crash leaves, what goes when (protocol, section 5)."""

import errno
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core.upload import State
from hmacfs.errors import (
    FileExists,
    RequestError,
    StorageBusy,
    StorageFailed,
    StorageFull,
    TooManySessions,
    UploadExists,
    UploadGone,
)
from hmacfs.storage import fsutil
from hmacfs.storage.base import Metadata
from hmacfs.storage.journal import Journal
from hmacfs.storage.partial import LocalPartial
from hmacfs.storage.partialfolders import key_of
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.staging import StagingArea
from tests.support.resuming import (
    CHANGING,
    TTL,
    TYPE,
    Shelf,
    content_of,
    each_death,
    header,
    open_for_writing,
    slot,
    syncs,
    together,
    write,
)

TOKEN = "token-of-client-1"
DIGEST = sha256(TOKEN.encode()).hexdigest()
PUBLISHED = Metadata(TYPE, "", DIGEST)
EXISTED, REFUSED = 11, 12
Open = Callable[..., Shelf]


class Wall:
    """The clock on the wall. Files carry the machine's own time, so it begins there."""

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


@pytest.fixture
def opened(store: Path, wall: Wall) -> Iterator[Open]:
    """Opens the store; each call is as another process would. Nothing stays open for writing."""
    made: list[Shelf] = []

    def build(where: Path = store, **options: Any) -> Shelf:
        made.append(Shelf(where, wall=wall, **options))
        return made[-1]

    yield build
    for shelf in made:
        shelf.close()
    assert open_for_writing(store) == []


@pytest.fixture
def shelf(opened: Open) -> Shelf:
    return opened()


@pytest.fixture(params=["attributes", "sidecars"])
def each_keeper(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a shelf: where what a file remembers is kept."""
    return {"use_attributes": None if request.param == "attributes" else False}


def published(partial: LocalPartial) -> None:
    assert partial.take_over()
    digest = DIGEST if partial.header.face == "session" else ""
    partial.publish(Metadata(partial.header.content_type, "", digest))
    partial.close()


# --- creating and finding ---


def test_an_upload_is_found_by_its_token_in_its_slot_only(shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10), (20, 30)).close()

    assert shelf.left() == [(0, 10), (20, 30)]
    assert shelf.left("token-of-client-2") is None
    assert shelf.left(path="a/c.jpg") is None
    assert shelf.left(face="tus") is None
    assert shelf.partials.knows_token(TOKEN)
    assert not shelf.partials.knows_token("token-of-client-2")
    assert shelf.partials.count(slot("a/b.jpg")) == 1


def test_an_upload_id_leads_to_its_upload_and_a_token_never_does(shelf: Shelf) -> None:
    upload_id = shelf.partials.new_id(slot("a/b.jpg"))
    shelf.create(header(upload_id, face="tus")).close()
    shelf.create(header(upload_id, face="session")).close()

    found = shelf.partials.resolve(upload_id)

    assert found is not None
    assert (found.header.face, found.header.path) == ("tus", slot("a/b.jpg"))
    found.close()
    for wrong in ("", "x", upload_id[:-1], upload_id + "0", "../" * 8 + upload_id[24:], upload_id.upper(), TOKEN):
        assert shelf.partials.resolve(wrong) is None


def test_no_name_on_the_disk_shows_a_token_or_an_id(shelf: Shelf) -> None:
    upload_id = shelf.partials.new_id(slot("a/b.jpg"))
    shelf.create(header(upload_id, face="tus")).close()
    shelf.create(header()).close()

    names = " ".join(shelf.names())

    assert TOKEN not in names
    assert upload_id[:24] not in names
    assert all(path.stat().st_mode & 0o077 == 0 for path in (shelf.store / ".hmacfs").rglob("*.log"))


def test_the_furthest_session_of_the_same_total_and_type_is_found(shelf: Shelf) -> None:
    for number, end in enumerate((10, 40, 30)):
        shelf.begin(header(f"token-number-{number}-x"), (0, end)).close()
    opened_furthest = shelf.partials.furthest(slot("a/b.jpg"), 100, TYPE)

    assert opened_furthest is not None
    assert opened_furthest.header.secret == "token-number-1-x"
    opened_furthest.close()
    assert shelf.partials.furthest(slot("a/b.jpg"), 101, TYPE) is None
    assert shelf.partials.furthest(slot("a/b.jpg"), 100, "image/png") is None
    assert shelf.partials.furthest(slot("a/c.jpg"), 100, TYPE) is None


def test_bytes_behind_a_gap_make_no_session_the_furthest(shelf: Shelf) -> None:
    for number in range(8):  # a folder lists its files in any order
        path = f"a/{number}.jpg"
        shelf.begin(header(f"token-with-a-gap-{number}", path=path), (20, 100)).close()
        shelf.begin(header(f"token-with-prefix-{number}", path=path), (0, 1)).close()

        best = shelf.partials.furthest(slot(path), 100, TYPE)

        assert best is not None
        assert best.header.secret == f"token-with-prefix-{number}"
        best.close()


def test_of_four_processes_that_begin_with_one_token_one_creates_it(opened: Open, tmp_path: Path) -> None:
    for number in range(8):
        shelf = opened(tmp_path / f"race-{number}")

        def begin(_number: int, shelf: Shelf = shelf) -> int:
            try:
                shelf.begin(header(), (0, 10))
            except UploadExists:
                return EXISTED
            return 0

        assert sorted(together(4, begin)) == [0, EXISTED, EXISTED, EXISTED]
        assert shelf.left() == [(0, 10)]
        assert shelf.partials.count(slot("a/b.jpg")) == 1
        assert len(shelf.names()) == 3


def test_a_token_whose_upload_a_crash_took_is_free_again(shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10)).close()
    (journal,) = shelf.store.rglob("??/*/*.log")

    journal.unlink()

    assert not shelf.partials.knows_token(TOKEN)
    shelf.begin(header(path="a/c.jpg"), (0, 20)).close()
    assert shelf.partials.knows_token(TOKEN)
    assert shelf.left(path="a/c.jpg") == [(0, 20)]


def test_what_a_killed_removal_left_neither_keeps_a_token_nor_counts(shelf: Shelf) -> None:
    partial = shelf.begin(header(), (0, 10))
    partial.journal.set_state(State.GONE)
    partial.close()

    shelf.begin(header(), (0, 20)).close()

    assert shelf.left() == [(0, 20)]
    assert len(shelf.names()) == 3


def test_racing_creators_never_pass_the_limit_of_a_slot(opened: Open, tmp_path: Path) -> None:
    for number in range(8):
        shelf = opened(tmp_path / f"race-{number}", most=2)

        def begin(number: int, shelf: Shelf = shelf) -> int:
            try:
                shelf.create(header(f"token-of-client-{number}"))
            except TooManySessions:
                return REFUSED
            return 0

        assert sorted(together(4, begin)) == [0, 0, REFUSED, REFUSED]
        assert shelf.partials.count(slot("a/b.jpg")) == 2


# --- the limit of a slot ---


def test_bodies_on_their_way_count_beside_the_partials(shelf: Shelf) -> None:
    shelf.create(header("token-number-0-x")).close()

    with pytest.raises(TooManySessions):
        shelf.create(header("token-number-1-x"), others=2)
    shelf.create(header("token-number-2-x"), others=1).close()

    assert shelf.partials.count(slot("a/b.jpg")) == 2
    shelf.create(header(path="a/c.jpg"), others=2).close()  # the limit is each slot's own


def test_a_creation_that_may_drop_drops_the_least_advanced_idle_one(shelf: Shelf) -> None:
    for number, end in enumerate((50, 10, 30)):
        shelf.begin(header(f"token-number-{number}-x"), (0, end)).close()

    shelf.create(header(), drop_idle=True).close()

    assert [shelf.left(f"token-number-{number}-x") for number in range(3)] == [[(0, 50)], None, [(0, 30)]]
    assert shelf.left() == []


@pytest.mark.parametrize("others", [3, 4, 7])
def test_nothing_is_dropped_where_that_would_not_make_room(shelf: Shelf, others: int) -> None:
    shelf.begin(header("token-number-0-x"), (0, 10)).close()

    with pytest.raises(TooManySessions):
        shelf.create(header(), others=others, drop_idle=True)

    assert shelf.left("token-number-0-x") == [(0, 10)]
    assert shelf.partials.count(slot("a/b.jpg")) == 1


def test_one_that_is_being_written_is_neither_dropped_nor_disturbed(opened: Open, shelf: Shelf) -> None:
    claims = []
    for number in range(3):
        writer = opened().create(header(f"token-number-{number}-x"))
        claims.append((writer, writer.claim(0, 100)))

    for drop_idle in (False, True):
        with pytest.raises(TooManySessions):
            shelf.create(header(), drop_idle=drop_idle)

    assert all(claim is not None for _, claim in claims)
    assert [claim.is_wanted() for _, claim in claims if claim is not None] == [False, False, False]
    for writer, claim in claims:
        assert claim is not None
        claim.release()
        writer.close()


def test_a_plain_put_on_its_own_is_not_disturbed_by_a_creation_that_is_refused(opened: Open, shelf: Shelf) -> None:
    drafts = [opened().create(header(), is_draft=True) for _ in range(3)]
    claims = [draft.claim(0, 100) for draft in drafts]

    with pytest.raises(TooManySessions):
        shelf.create(header())

    assert [claim is not None and claim.is_wanted() for claim in claims] == [False, False, False]
    for draft, claim in zip(drafts, claims, strict=True):
        assert claim is not None
        claim.release()
        draft.close()


def test_a_plain_put_that_has_just_begun_is_not_taken_for_a_dead_one(opened: Open, shelf: Shelf) -> None:
    drafts = [opened().create(header(), is_draft=True) for _ in range(3)]

    with pytest.raises(TooManySessions):
        shelf.create(header())

    for draft in drafts:
        write(draft, 0, 10)
        draft.close()


def test_what_a_killed_plain_put_left_makes_room(shelf: Shelf) -> None:
    for _ in range(3):
        shelf.begin(header(), (0, 10), is_draft=True).close()

    shelf.create(header()).close()

    assert shelf.partials.count(slot("a/b.jpg")) == 1


def test_expired_ones_make_room_without_a_sweep(shelf: Shelf, wall: Wall) -> None:
    for number in range(3):
        shelf.begin(header(f"token-number-{number}-x"), (0, 10)).close()
    wall.time += TTL + 10

    shelf.create(header()).close()

    assert len(list(shelf.store.rglob("*.part"))) == 1


@pytest.mark.parametrize("call", ["fsync", "rename", "pwrite"])
def test_a_creation_that_fails_leaves_nothing_that_counts(
    opened: Open, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    shelf = opened(durability="full")

    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageFull):
            shelf.create(header())

    assert shelf.partials.count(slot("a/b.jpg")) == 0
    assert shelf.names() == []
    shelf.create(header()).close()


# --- writing ---


def test_a_claim_has_what_is_missing_and_writes_nothing_else(shelf: Shelf) -> None:
    partial = shelf.begin(header(total=40), (5, 10), (20, 25))

    claim = partial.claim(0, 30)
    assert claim is not None
    assert claim.missing == [(0, 5), (10, 20), (25, 30)]
    claim.write(memoryview(b"x" * 30), 0, record=True, watch=None)
    claim.release()

    (data,) = (path for path in shelf.store.rglob("*.part"))
    right = content_of(40)
    assert data.read_bytes() == b"x" * 5 + right[5:10] + b"x" * 10 + right[20:25] + b"x" * 5
    assert partial.look().extents.spans == [(0, 30)]
    partial.close()


@pytest.mark.parametrize("size", [1, 3, 10, 40])
def test_blocks_of_any_size_leave_what_is_there_alone(shelf: Shelf, size: int) -> None:
    there = [(5, 10), (20, 25), (26, 27)]
    partial = shelf.begin(header(total=40), *there)
    claim = partial.claim(0, 40)
    assert claim is not None

    for at in range(0, 40, size):
        claim.write(memoryview(b"x" * min(size, 40 - at)), at, record=True, watch=None)
    claim.release()

    published(partial)
    right = content_of(40)
    expected = bytearray(b"x" * 40)
    for first, end in there:
        expected[first:end] = right[first:end]
    assert shelf.read()[0] == expected


def test_a_claim_on_what_is_there_already_writes_nothing_and_waits_for_nobody(opened: Open, shelf: Shelf) -> None:
    partial = shelf.begin(header(), (0, 50))
    other = opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert other is not None
    claim = other.claim(0, 100)
    assert claim is not None

    repeated = partial.claim(10, 40)

    assert repeated is not None
    assert repeated.missing == []
    seen: list[bytes] = []

    assert not repeated.write(memoryview(b"y" * 30), 10, record=True, watch=lambda block: seen.append(bytes(block)))
    repeated.record(40)
    repeated.release()
    assert seen == [b"y" * 30]
    assert partial.look().extents.spans == [(0, 50)]
    claim.release()
    other.close()
    partial.close()


def test_two_claims_never_overlap_and_the_second_asks_the_first_to_give_way(opened: Open) -> None:
    ours = opened().create(header())
    theirs = opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert theirs is not None
    claim = ours.claim(0, 50)
    apart = theirs.claim(50, 100)
    assert claim is not None
    assert apart is not None

    assert theirs.claim(49, 50) is None

    assert claim.is_wanted()
    assert not apart.is_wanted()
    assert claim.write(memoryview(content_of(100)[:10]), 0, record=True, watch=None)
    claim.release()
    rest = theirs.claim(0, 50)
    assert rest is not None
    assert rest.missing == [(10, 50)]
    for each in (rest, apart):
        each.release()
    ours.close()
    theirs.close()


def test_what_somebody_wrote_while_a_claim_was_made_is_not_written_again(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = opened().create(header())
    faster = opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert faster is not None
    real = Journal.try_lock

    def meanwhile(journal: Journal, first: int, end: int) -> bool:
        monkeypatch.setattr(Journal, "try_lock", real)
        write(faster, 0, 50)
        return real(journal, first, end)

    monkeypatch.setattr(Journal, "try_lock", meanwhile)
    claim = ours.claim(0, 100)

    assert claim is not None
    assert claim.missing == [(50, 100)]
    claim.write(memoryview(b"x" * 100), 0, record=True, watch=None)
    claim.release()
    published(ours)
    faster.close()
    assert opened().read()[0] == content_of(100)[:50] + b"x" * 50


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_claim_of_what_has_ended_meanwhile_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    ours = opened().create(header())
    other = opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert other is not None
    halfway = functools.partial(other.journal.set_state, State.GONE)  # its files go a moment later
    ends = other.remove if is_whole else halfway
    real = Journal.try_lock

    def meanwhile(journal: Journal, first: int, end: int) -> bool:
        monkeypatch.setattr(Journal, "try_lock", real)
        ends()
        return real(journal, first, end)

    monkeypatch.setattr(Journal, "try_lock", meanwhile)
    with pytest.raises(UploadGone):
        ours.claim(0, 100)

    ours.close()
    other.close()


def test_a_block_that_is_not_recorded_counts_only_when_it_is(shelf: Shelf) -> None:
    partial = shelf.create(header())
    claim = partial.claim(0, 50)
    assert claim is not None

    claim.write(memoryview(bytes(50)), 0, record=False, watch=None)
    assert partial.look().extents.spans == []
    claim.record(50)
    assert partial.look().extents.spans == [(0, 50)]

    claim.release()
    claim.release()
    partial.close()


def test_a_claim_that_cannot_be_recorded_gives_its_range_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = opened().create(header())
    monkeypatch.setattr("hmacfs.storage.journal.MAX_RECORDS", 0)

    with pytest.raises(RequestError):
        partial.claim(0, 10)

    monkeypatch.undo()
    other = opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert other is not None
    write(other, 0, 10)
    other.close()
    partial.close()


# --- what is told has been synced ---


def kinds(seen: list[str]) -> list[str]:
    return [Path(name).suffix.removeprefix(".") or Path(name).name[:8] for name in seen]


@pytest.mark.parametrize("durability", ["full", "data"])
def test_an_offset_is_told_after_the_data_and_then_the_journal_were_synced(opened: Open, durability: str) -> None:
    partial = opened(durability=durability).begin(header(), (0, 10))

    with syncs() as seen:
        snapshot = partial.settle()

    assert snapshot.extents.prefix == 10
    assert kinds(seen) == ["part", "log"]
    with syncs() as again:
        assert partial.settle().extents.prefix == 10
    assert again == []
    partial.close()
    rebooted = opened(boot=7)
    assert rebooted.left() == [(0, 10)]


def test_telling_an_offset_leaves_one_record_of_what_is_one_range(opened: Open) -> None:
    shelf = opened(durability="full")
    upload = shelf.begin(header())
    half = upload.claim(0, 50)
    assert half is not None
    half.write(memoryview(content_of(100)[:20]), 0, record=True, watch=None)
    other = shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert other is not None
    write(other, 50, 100)
    assert other.settle().extents.spans == [(0, 20), (50, 100)]
    half.write(memoryview(content_of(100)[20:50]), 20, record=True, watch=None)
    half.release()

    upload.settle()

    assert [(record.first, record.durable) for record in upload.journal.records()] == [(0, 100)]
    upload.close()
    other.close()


def test_nothing_is_synced_without_durability(opened: Open) -> None:
    with syncs() as seen:
        partial = opened(durability="none").begin(header(), (0, 10))
        partial.settle()
        partial.close()

    assert seen == []
    assert opened(boot=7).left() == []


@pytest.mark.parametrize(
    ("durability", "expected"), [("full", ["new", "slot", "group", "partials"]), ("data", ["new"]), ("none", [])]
)
def test_a_new_upload_is_durable_as_configured(opened: Open, durability: str, expected: list[str]) -> None:
    shelf = opened(durability=durability)

    with syncs() as seen:
        shelf.create(header()).close()

    (folder,) = shelf.folders()
    names = {str(folder): "slot", str(folder.parent): "group", str(folder.parent.parent): "partials"}
    assert [names.get(name) or Path(name).suffix[1:] for name in seen] == expected


def test_bytes_that_arrive_while_an_offset_is_settled_are_not_told(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = opened(durability="full")
    writer, asker = shelf.create(header()), shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert asker is not None
    claim = writer.claim(0, 100)
    assert claim is not None
    claim.write(memoryview(content_of(100)[:10]), 0, record=True, watch=None)
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        claim.write(memoryview(content_of(100)[10:50]), 10, record=True, watch=None)

    monkeypatch.setattr(os, "fsync", fsync)
    told = asker.settle().extents.prefix
    monkeypatch.undo()

    assert opened(boot=7).left() == [(0, 10)]
    assert told == 10
    claim.release()
    writer.close()
    asker.close()


def test_an_upload_whose_data_cannot_be_synced_ends(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may drop the pages, and the next fsync would call that a success: nothing is told of them again."""
    partial = opened(durability="full").begin(header(), (0, 10))
    assert partial.settle().extents.prefix == 10
    write(partial, 10, 20)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageFailed):
            partial.settle()

    assert partial.settle().state is State.GONE
    partial.close()


def test_a_lock_that_never_comes_free_costs_seconds_and_not_a_thread(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsutil, "LOCK_SECONDS", 0.05)
    partial = opened(durability="full").begin(header(), (0, 10))
    holder = Journal(os.open(os.path.join(partial._folder, partial.name), os.O_RDWR), 7)

    with holder.guarded(), pytest.raises(StorageBusy):
        partial.settle()

    assert partial.settle().extents.prefix == 10
    os.close(holder.fd)
    partial.close()


# --- publishing ---


@pytest.mark.parametrize("face", ["session", "tus", "draft"])
def test_a_published_upload_is_one_whole_file_that_remembers(
    opened: Open, each_keeper: dict[str, Any], face: str
) -> None:
    shelf = opened(**each_keeper)
    secret = TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg"))
    partial = shelf.begin(header(secret, face=face), (50, 100), (0, 50))

    published(partial)

    digest = DIGEST if face == "session" else ""
    assert shelf.read() == (content_of(100), Metadata(TYPE, "", digest))
    assert (shelf.store / "a/b.jpg").stat().st_nlink == 1
    assert (shelf.store / "a/b.jpg").stat().st_mode & 0o777 == 0o640
    assert shelf.partials.count(slot("a/b.jpg")) == 0
    if face == "session":
        assert shelf.names() == []
        assert shelf.folders() == []
    else:
        known = shelf.partials.resolve(secret)
        assert known is not None
        assert known.look().state is State.PUBLISHED
        claim = known.claim(0, 100)
        assert claim is not None
        assert claim.missing == []  # nothing is opened for writing
        known.close()


def test_no_descriptor_open_for_writing_survives_publishing(opened: Open, store: Path) -> None:
    partial, late = opened().create(header()), opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert late is not None
    claim = partial.claim(0, 100)
    assert claim is not None
    claim.write(memoryview(content_of(100)), 0, record=True, watch=None)
    assert late.claim(0, 100) is not None  # all is there: it writes nothing
    assert not late.take_over()
    assert len(open_for_writing(store)) == 1
    claim.release()
    assert open_for_writing(store) == []
    assert partial.take_over()

    assert late.claim(0, 100) is not None
    entity = partial.publish(PUBLISHED)

    assert open_for_writing(store) == []
    assert entity.size == 100
    partial.close()
    assert late.take_over()
    assert late.publish(PUBLISHED) == entity  # it came second: the file is this one
    late.close()


def test_who_waited_for_a_range_finds_the_upload_ended_when_it_is_published(opened: Open, store: Path) -> None:
    partial, late = opened().create(header()), opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert late is not None
    claim = partial.claim(0, 100)
    assert claim is not None
    assert late.claim(10, 20) is None
    claim.write(memoryview(content_of(100)), 0, record=True, watch=None)
    claim.release()

    published(partial)

    waited = late.claim(10, 20)  # nothing is missing, so nothing is opened
    assert waited is not None
    assert waited.missing == []
    assert open_for_writing(store) == []
    late.close()


def test_an_upload_that_loses_the_path_goes(shelf: Shelf) -> None:
    partial = shelf.begin(header(), (0, 100))
    taken = shelf.storage.stage(slot("a/b.jpg"))
    taken.write(memoryview(b"faster"))
    shelf.storage.on_published = lambda path: None
    taken.publish(Metadata("text/plain"))
    taken.discard()

    assert partial.take_over()
    with pytest.raises(FileExists):
        partial.publish(PUBLISHED)

    partial.close()
    assert shelf.read() == (b"faster", Metadata("text/plain"))
    assert shelf.names() == []
    assert not shelf.partials.knows_token(TOKEN)


@pytest.mark.parametrize("call", ["fsync", "open", "link"])
def test_an_upload_whose_slot_is_published_while_it_is_about_to_get_its_name_is_gone(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    shelf.storage.syncs_files = True
    partial = shelf.begin(header(), (0, 100))
    assert partial.take_over()
    real, calls = getattr(os, call), count()
    turn = 1 if call == "open" else 0  # the first one opens the data, the second one its folder

    def meanwhile(*args: Any, **options: Any) -> Any:
        if next(calls) == turn:
            shelf.storage.store(slot("a/b.jpg"), bytearray(b"faster"), Metadata("text/plain"))
        return real(*args, **options)

    monkeypatch.setattr(os, call, meanwhile)
    with pytest.raises(UploadGone):
        partial.publish(PUBLISHED)
    monkeypatch.undo()

    partial.close()
    assert shelf.read() == (b"faster", Metadata("text/plain"))
    assert shelf.names() == []


@pytest.mark.parametrize("staging", ["anonymous", "named"])
@pytest.mark.parametrize("is_small", [True, False])
def test_a_plain_put_that_is_published_removes_the_slots_partials_even_under_a_writer(
    opened: Open, monkeypatch: pytest.MonkeyPatch, is_small: bool, staging: str
) -> None:
    if staging == "named":
        monkeypatch.setattr(StagingArea, "_can_link_anonymous", lambda self: False)
    shelf = opened()
    writer, other = shelf.create(header()), shelf.begin(header("token-of-client-2"), (0, 50))
    claim = writer.claim(0, 100)
    assert claim is not None
    claim.write(memoryview(bytes(10)), 0, record=True, watch=None)
    elsewhere = shelf.begin(header("token-of-client-3", path="a/c.jpg"), (0, 5))

    if is_small:
        opened().storage.store(slot("a/b.jpg"), bytearray(b"plain"), Metadata("text/plain"))
    else:
        staged = opened().storage.stage(slot("a/b.jpg"))
        staged.write(memoryview(b"plain"))
        staged.publish(Metadata("text/plain"))
        staged.discard()

    assert claim.write(memoryview(bytes(10)), 10, record=True, watch=None)
    claim.release()
    with pytest.raises(UploadGone):
        writer.claim(0, 100)
    for partial in (writer, other):
        assert partial.take_over()
        with pytest.raises(UploadGone):
            partial.publish(PUBLISHED)
        partial.close()
    elsewhere.close()
    assert shelf.read() == (b"plain", Metadata("text/plain"))
    assert shelf.left(path="a/b.jpg") is None
    assert shelf.left("token-of-client-3", path="a/c.jpg") == [(0, 5)]
    assert len(shelf.names()) == 3


# --- replacing ---


def test_what_a_broken_off_put_brought_becomes_what_its_token_stands_for(opened: Open) -> None:
    shelf = opened()
    known = shelf.begin(header(), (0, 10))
    draft = shelf.begin(header(), (0, 60), is_draft=True)
    assert draft.is_draft
    assert shelf.left() == [(0, 10)]

    assert known.take_over()
    assert draft.take_over()
    draft.replace(known)

    known.close()
    draft.close()
    assert opened().left() == [(0, 60)]
    assert shelf.partials.knows_token(TOKEN)
    assert shelf.partials.count(slot("a/b.jpg")) == 1
    assert len(shelf.names()) == 3


def test_a_crash_while_one_upload_replaces_another_never_lowers_the_offset(opened: Open, tmp_path: Path) -> None:
    def prepare(store: Path) -> Callable[[], object]:
        shelf = opened(store, durability="full")
        shelf.begin(header(), (0, 10)).close()
        shelf.begin(header(), (0, 60), is_draft=True).close()
        return lambda: shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)

    for calls, store in each_death(tmp_path, prepare):
        shelf = opened(store)
        assert shelf.left() == [(0, 60)], f"after {calls} calls"
        assert len(list(store.rglob("*.log"))) == 1
        found = shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)
        assert found is not None
        write(found, 0, 100)
        published(found)
        assert shelf.read() == (content_of(100), PUBLISHED), f"after {calls} calls"


# --- what killed plain PUTs left ---


FINDS: dict[str, Callable[[Shelf], object]] = {
    "by its token": lambda shelf: shelf.left(),
    "without a token": lambda shelf: close(shelf.partials.furthest(slot("a/b.jpg"), 100, TYPE)),
    "by a sweep": lambda shelf: shelf.partials.sweep(),
    "by a creation": lambda shelf: shelf.begin(header("token-of-client-2")).close(),
}


def close(partial: LocalPartial | None) -> None:
    assert partial is not None
    partial.close()


@pytest.mark.parametrize("find", FINDS.values(), ids=FINDS)
def test_what_a_killed_plain_put_left_is_what_its_token_stands_for_once_somebody_looks(
    opened: Open, find: Callable[[Shelf], object]
) -> None:
    shelf = opened(durability="full", most=9)
    shelf.begin(header(), (0, 10)).close()
    shelf.begin(header(), (0, 40), is_draft=True).close()
    shelf.begin(header(), (0, 60), is_draft=True).close()

    find(shelf)

    names = [name for name in shelf.names() if "unnamed" in name]
    assert names == []
    assert opened(boot=7).left() == [(0, 60)]
    assert shelf.partials.knows_token(TOKEN)


def test_what_a_killed_plain_put_left_goes_where_it_is_not_longer_and_its_checksums_stay(shelf: Shelf) -> None:
    shelf.begin(header(wanted=("md5:aa",)), (0, 60)).close()
    shelf.begin(header(wanted=("sha-256:bb",)), (0, 60), is_draft=True).close()
    shelf.begin(header("token-of-client-2"), (0, 60), is_draft=True).close()  # which stands for nothing

    found = shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)

    assert found is not None
    assert found.look().extents.spans == [(0, 60)]
    assert found.wanted() == ("md5:aa", "sha-256:bb")
    assert len(shelf.names()) == 3
    found.close()


def test_a_plain_put_on_its_own_that_lives_is_left_alone_by_who_looks(opened: Open, shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10)).close()
    draft = opened().begin(header(), (0, 60), is_draft=True)

    for find in (FINDS["by its token"], FINDS["without a token"], FINDS["by a sweep"]):
        find(shelf)

    assert shelf.left() == [(0, 10)]
    assert shelf.partials.count(slot("a/b.jpg")) == 2
    write(draft, 60, 100)
    draft.close()


def test_what_a_killed_plain_put_left_waits_while_its_tokens_upload_is_written(opened: Open, shelf: Shelf) -> None:
    known = opened().begin(header(), (0, 10))
    claim = known.claim(20, 30)
    assert claim is not None
    shelf.begin(header(), (0, 60), is_draft=True).close()

    assert shelf.left() == [(0, 10)]
    claim.write(memoryview(content_of(100)[20:30]), 20, record=True, watch=None)
    claim.release()
    known.close()

    assert shelf.left() == [(0, 60)]


@pytest.mark.parametrize("then", ["adopted", "published"])
def test_what_a_killed_plain_put_left_may_be_somebody_elses_once_it_is_ours(
    opened: Open, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    shelf, other = opened(), opened()
    shelf.begin(header(), (0, 10)).close()
    shelf.begin(header(), (0, 60), is_draft=True).close()
    real = LocalPartial.is_idle_now

    def meanwhile(partial: LocalPartial) -> bool:
        monkeypatch.undo()
        if then == "adopted":
            assert other.left() == [(0, 60)]
        else:
            other.storage.store(slot("a/b.jpg"), bytearray(b"plain"), Metadata(TYPE))
        return real(partial)

    monkeypatch.setattr(LocalPartial, "is_idle_now", meanwhile)

    assert shelf.left() == ([(0, 60)] if then == "adopted" else None)
    assert len(shelf.names()) == (3 if then == "adopted" else 0)


def test_what_killed_plain_puts_left_counts_for_nothing(shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10)).close()
    for _ in range(2):
        shelf.begin(header("token-of-client-2"), (0, 10), is_draft=True).close()

    assert shelf.partials.count(slot("a/b.jpg")) == 1


def test_who_still_holds_a_replaced_upload_can_neither_write_nor_remove_the_new_one(opened: Open) -> None:
    shelf = opened()
    known, stale = shelf.begin(header(), (0, 10)), opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert stale is not None
    draft = shelf.begin(header(), (0, 60), is_draft=True)
    assert known.take_over()
    draft.replace(known)
    known.close()
    draft.close()

    with pytest.raises(UploadGone):
        stale.claim(0, 100)
    stale.remove()

    stale.close()
    assert opened().left() == [(0, 60)]
    assert shelf.partials.knows_token(TOKEN)


# --- crashes while publishing ---


@pytest.mark.parametrize("durability", ["none", "full"])
@pytest.mark.parametrize("face", ["session", "tus"])
def test_after_a_crash_at_any_call_the_file_is_published_once_and_whole(
    opened: Open, wall: Wall, tmp_path: Path, each_keeper: dict[str, Any], face: str, durability: str
) -> None:
    secrets: list[str] = []

    def prepare(store: Path) -> Callable[[], object]:
        shelf = opened(store, durability=durability, **each_keeper)
        secrets.append(TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg")))
        shelf.begin(header(secrets[-1], face=face), (0, 100)).close()
        shelf.begin(header("token-of-client-2"), (0, 10)).close()

        def publish() -> None:
            found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
            assert found is not None
            published(found)

        return publish

    expected = content_of(100), PUBLISHED if face == "session" else Metadata(TYPE)
    for calls, store in each_death(tmp_path, prepare):
        shelf = opened(store, **each_keeper)
        is_there = (store / "a/b.jpg").exists()
        if is_there:
            assert shelf.read() == expected, f"after {calls} calls"
        found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
        assert found is not None or is_there
        if found is not None and found.look().state is State.OPEN:
            published(found)
        elif found is not None:
            found.close()
        assert shelf.read() == expected, f"after {calls} calls"
        wall.time = time.time() + TTL + 10
        shelf.partials.sweep()
        assert shelf.names() == [], f"after {calls} calls"
        assert (store / "a/b.jpg").stat().st_nlink == 1, f"after {calls} calls"
        wall.time = time.time()
    assert calls > 8


@contextmanager
def failing(nth: int) -> Iterator[list[str]]:
    """The n-th call that changes the disk fails; the names of those that were made."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == nth:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGING:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        yield made


@pytest.mark.parametrize("face", ["session", "tus"])
def test_after_an_error_of_any_call_the_file_is_published_once_and_whole_or_never(
    opened: Open, tmp_path: Path, each_keeper: dict[str, Any], face: str
) -> None:
    expected = content_of(100), PUBLISHED if face == "session" else Metadata(TYPE)
    for nth in count(1):
        shelf = opened(tmp_path / f"store-{nth}", durability="full", **each_keeper)
        secret = TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg"))
        partial = shelf.begin(header(secret, face=face), (0, 100))
        assert partial.take_over()

        with failing(nth) as made:
            try:
                entity = partial.publish(expected[1])
            except StorageFailed:
                entity = None
        partial.close()

        found = shelf.partials.find(slot("a/b.jpg"), face, secret)
        if entity is None and found is None:
            assert made[nth - 1].startswith("fsync"), (
                f"call {nth} was {made[nth - 1]}"
            )  # what a failed sync lost is not known
            assert not (shelf.store / "a/b.jpg").exists()
            assert not list(shelf.store.rglob("*.part"))
            continue
        if entity is None:
            assert found is not None
            published(found)
        elif found is not None:
            found.close()
        assert shelf.read() == expected, f"call {nth} was {made[-1]}"
        if len(made) < nth:
            break
    assert nth > 8


@pytest.mark.parametrize("face", ["session", "tus"])
def test_a_reboot_after_a_crash_while_publishing_opens_the_published_file_to_nobody(
    opened: Open, tmp_path: Path, face: str
) -> None:
    secrets: list[str] = []

    def prepare(store: Path) -> Callable[[], object]:
        shelf = opened(store, durability="full")
        secrets.append(TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg")))
        shelf.begin(header(secrets[-1], face=face), (0, 100)).close()

        def publish() -> None:
            found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
            assert found is not None
            published(found)

        return publish

    for calls, store in each_death(tmp_path, prepare):
        shelf = opened(store, durability="full", boot=7)
        if not (store / "a/b.jpg").exists():
            continue
        found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
        if found is not None:
            try:
                write(found, 0, 100, b"x" * 100)
            except RequestError:
                pass  # refused is right as well
            found.close()
        assert shelf.read()[0] == content_of(100), f"after {calls} calls"


# --- expiry and sweeping ---


def test_an_upload_is_there_for_session_ttl_after_its_last_byte_and_then_gone(shelf: Shelf, wall: Wall) -> None:
    shelf.begin(header(), (0, 10)).close()
    (journal,) = shelf.store.rglob("??/*/*.log")
    changed = journal.stat().st_mtime

    wall.time = changed + TTL - 1
    assert shelf.left() == [(0, 10)]
    wall.time = changed + TTL + 1

    assert not shelf.partials.knows_token(TOKEN)
    assert shelf.left() is None
    assert shelf.names() == []
    assert shelf.folders() == []


def test_an_expired_upload_that_is_still_written_is_removed_by_nobody(shelf: Shelf, wall: Wall) -> None:
    partial = shelf.create(header())
    claim = partial.claim(0, 100)
    assert claim is not None
    wall.time += TTL + 10

    assert shelf.partials.sweep() == []
    shelf.left()

    claim.write(memoryview(content_of(100)), 0, record=True, watch=None)
    claim.release()
    assert [len(list(shelf.store.rglob(f"??/*/*{suffix}"))) for suffix in (".part", ".log")] == [1, 1]
    published(partial)
    assert shelf.read()[0] == content_of(100)


def test_a_sweep_removes_what_expired_and_tells_whose_it_was(shelf: Shelf, wall: Wall) -> None:
    old = header()
    shelf.begin(old, (0, 10)).close()
    wall.time += TTL + 10
    shelf.begin(header("token-of-client-2", path="a/c.jpg"), (0, 20)).close()
    os.utime(next(iter(shelf.store.rglob(f"{key_of('session', 'token-of-client-2')}.log"))), (wall.time,) * 2)

    assert shelf.partials.sweep() == [("a/b.jpg", old.key, old.started_at)]

    assert shelf.left("token-of-client-2", path="a/c.jpg") == [(0, 20)]
    assert len(shelf.folders()) == 1
    assert len(shelf.names()) == 3
    assert shelf.partials.sweep() == []


def test_a_sweep_tells_of_no_draft_because_its_token_may_stand_for_another_upload(shelf: Shelf, wall: Wall) -> None:
    shelf.create(header(), is_draft=True).close()
    wall.time += TTL + 10

    assert shelf.partials.sweep() == []

    assert shelf.names() == []


def test_a_published_upload_is_forgotten_after_session_ttl_and_its_file_stays(shelf: Shelf, wall: Wall) -> None:
    upload_id = shelf.partials.new_id(slot("a/b.jpg"))
    published(shelf.begin(header(upload_id, face="tus"), (0, 100)))
    assert shelf.partials.sweep() == []
    known = shelf.partials.resolve(upload_id)
    assert known is not None
    known.close()
    wall.time += TTL + 10

    assert shelf.partials.sweep() == []  # nothing unfinished was removed

    assert shelf.partials.resolve(upload_id) is None
    assert shelf.names() == []
    assert shelf.read()[0] == content_of(100)


def aged(path: Path, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when))


def test_a_sweep_removes_old_orphans_and_half_made_files_and_leaves_young_ones(shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10)).close()
    (folder,) = shelf.folders()
    for age in (0.0, TTL + 100):
        for suffix in (".part", ".new", ".log", ""):
            leftover = folder / f"leftover-{age:.0f}{suffix}"
            leftover.write_bytes(b"x" * 50)
            aged(leftover, age)

    shelf.partials.sweep()

    assert sorted(path.name for path in folder.glob("leftover*")) == [
        "leftover-0", "leftover-0.log", "leftover-0.new", "leftover-0.part",
    ]  # fmt: skip
    assert shelf.left() == [(0, 10)]


def test_a_sweep_removes_empty_folders_and_tokens_without_an_upload(shelf: Shelf) -> None:
    folder = shelf.store / ".hmacfs/partials/ab" / ("ab" * 16)
    folder.mkdir(parents=True)
    token = shelf.store / ".hmacfs/partials/tokens/0123"
    token.write_bytes(b"left by a crash")
    shelf.begin(header(), (0, 10)).close()

    shelf.partials.sweep()

    assert not folder.exists()
    assert not token.exists()
    assert shelf.partials.knows_token(TOKEN)


def test_a_journal_that_cannot_be_read_harms_nothing_and_goes_when_it_is_old(shelf: Shelf) -> None:
    shelf.begin(header("token-of-client-2"), (0, 10)).close()
    shelf.create(header()).close()
    damaged = next(iter(shelf.store.rglob(f"??/*/{key_of('session', TOKEN)}.log")))
    content = damaged.read_bytes()
    for damage in (b"", b"\xff" * 5000, content[:16] + b"\x09" + content[17:]):
        damaged.write_bytes(damage)

        assert shelf.left() is None
        assert shelf.left("token-of-client-2") == [(0, 10)]
        assert not shelf.partials.knows_token(TOKEN)
        best = shelf.partials.furthest(slot("a/b.jpg"), 100, TYPE)
        assert best is not None
        best.close()
        shelf.partials.sweep()
        assert damaged.exists()

    aged(damaged, TTL + 100)
    shelf.partials.sweep()

    assert not damaged.exists()
    assert shelf.left("token-of-client-2") == [(0, 10)]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "header zeroed": lambda content: bytes(4096) + content[4096:],
    "state": lambda content: content[:16] + b"\x09" + content[17:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_token_whose_journal_is_damaged_begins_anew(shelf: Shelf, damage: Callable[[bytes], bytes]) -> None:
    shelf.begin(header(), (0, 10)).close()
    shelf.begin(header("token-of-client-2"), (0, 30)).close()
    damaged = next(iter(shelf.store.rglob(f"??/*/{key_of('session', TOKEN)}.log")))
    damaged.write_bytes(damage(damaged.read_bytes()))

    assert not shelf.partials.knows_token(TOKEN)
    shelf.begin(header(), (0, 20)).close()

    assert shelf.left() == [(0, 20)]
    assert shelf.left("token-of-client-2") == [(0, 30)]
    assert shelf.partials.knows_token(TOKEN)
    assert len(list(shelf.store.rglob("*.part"))) == 2


def test_a_damaged_journal_does_not_disturb_a_plain_put(shelf: Shelf) -> None:
    shelf.create(header()).close()
    damaged = next(iter(shelf.store.rglob("??/*/*.log")))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:16] + b"\x09" + content[17:])

    shelf.storage.store(slot("a/b.jpg"), bytearray(b"plain"), Metadata("text/plain"))

    assert shelf.read() == (b"plain", Metadata("text/plain"))


def test_an_expired_token_that_another_slot_has_taken_over_stays_that_slots(shelf: Shelf, wall: Wall) -> None:
    shelf.begin(header(), (0, 10)).close()
    wall.time += TTL + 10
    shelf.begin(header(path="a/c.jpg"), (0, 20)).close()
    for journal in shelf.store.rglob(f"{slot_name(slot('a/c.jpg'))}/*.log"):
        os.utime(journal, (wall.time, wall.time))

    shelf.partials.sweep()

    assert shelf.left(path="a/c.jpg") == [(0, 20)]
    assert shelf.partials.knows_token(TOKEN)


def test_who_finds_an_expired_upload_never_removes_the_one_that_followed_it(
    opened: Open, shelf: Shelf, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.begin(header(), (0, 10)).close()
    wall.time += TTL + 10
    faster = opened()
    real = LocalPartial.take_over_now

    def meanwhile(partial: LocalPartial) -> bool:
        monkeypatch.setattr(LocalPartial, "take_over_now", real)
        assert faster.left() is None  # it removes the expired one
        faster.begin(header(), (0, 20)).close()
        for journal in shelf.store.rglob("??/*/*.log"):
            os.utime(journal, (wall.time, wall.time))
        return partial.take_over_now()

    monkeypatch.setattr(LocalPartial, "take_over_now", meanwhile)
    shelf.partials.sweep()

    assert faster.left() == [(0, 20)]
    assert shelf.partials.knows_token(TOKEN)


def test_a_sweep_that_races_creators_and_enders_loses_none_of_theirs(opened: Open, store: Path) -> None:
    shelf = opened()
    rounds = 60

    def work(number: int) -> None:
        if number == 0:
            for _ in range(rounds):
                shelf.partials.sweep()
            return
        for turn in range(rounds):
            made = header(f"token-of-client-{number}", path=f"a/{turn % 3}.jpg", total=20)
            partial = shelf.begin(made, (0, 10))
            assert shelf.left(made.secret, path=str(made.path)) == [(0, 10)]
            partial.remove()
            partial.close()

    assert together(4, work) == [0, 0, 0, 0]
    assert shelf.names() == []
