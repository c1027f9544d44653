"""Who writes which bytes of an unfinished upload, and who gives way."""

import functools

import pytest

from hmacfs.core.upload import State
from hmacfs.errors import RequestError, UploadGone
from hmacfs.storage.journal import Journal
from tests.storage.partialstore import TOKEN, Open, published
from tests.support.resuming import Shelf, content_of, header, slot, write


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
