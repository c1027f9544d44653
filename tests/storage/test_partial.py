"""An unfinished upload: what is told of it has been synced, and it may take the place of another one."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hmacfs.core.upload import State
from hmacfs.errors import StorageBusy, StorageFailed, UploadGone
from hmacfs.storage import fsutil
from hmacfs.storage.journal import Journal
from tests.storage.partialstore import PUBLISHED, TOKEN, Open, published
from tests.support.resuming import content_of, each_death, header, slot, syncs, write

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
