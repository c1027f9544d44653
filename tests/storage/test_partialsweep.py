"""What goes of unfinished uploads when their time is over, and what a crash left of them."""

import os
import time
from pathlib import Path

import pytest

from hmacfs.storage.base import Metadata
from hmacfs.storage.partial import LocalPartial
from hmacfs.storage.partialfolders import key_of
from hmacfs.storage.slotlocks import slot_name
from tests.storage.partialstore import TOKEN, Open, Wall, published
from tests.support.resuming import TTL, TYPE, Shelf, content_of, header, slot, together


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
    token = shelf.store / ".hmacfs/partials/tokens" / ("ab" * 20)
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
