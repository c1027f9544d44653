"""Unfinished uploads on disk: begun and found, and how many a slot may have (protocol, section 5)."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core.upload import State
from hmacfs.errors import StorageFull, TooManySessions, UploadExists
from hmacfs.storage.base import Standing
from tests.storage.partialstore import EXISTED, REFUSED, TOKEN, Open, Wall
from tests.support.resuming import TTL, TYPE, Shelf, header, slot, together, write

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


def test_what_a_killed_process_left_of_an_upload_is_told_with_what_its_slot_has_left(shelf: Shelf) -> None:
    told: list[tuple[int, list[Standing]]] = []
    shelf.partials.on_left = lambda gone, left: told.append((gone.total, list(left)))
    shelf.begin(header("another-of-client", total=70, uploader="juliet"), (0, 10)).close()
    killed = shelf.begin(header(), (0, 10))
    killed.journal.set_state(State.GONE)  # and it came no further
    killed.close()

    shelf.begin(header()).close()

    assert told == [(100, [Standing(70, "juliet")])]
