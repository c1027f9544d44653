"""What a partial keeps beside its bytes: whatever a crash cuts, no recorded byte and no offset that was told is lost,
and no byte is there that was not written."""

import errno
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import paths
from hmacfs.core.upload import Extents, State
from hmacfs.errors import BadHeader, StorageFailed, TooManyGaps
from hmacfs.storage import journal as module
from hmacfs.storage.base import UploadHeader
from hmacfs.storage.journal import META, RECORD_BYTES, RECORDS_AT, Journal, Record
from tests.support.heard import said
from tests.support.polling import until

BOOT, NEXT_BOOT = 0x1111, 0x2223
PAGE = 4096
RECORDS_OF_A_PAGE = PAGE // RECORD_BYTES
HEADER = UploadHeader(
    path=paths.parse("a/Grüße.jpg".encode()),
    total=60,
    content_type="image/jpeg; q=1",
    face="session",
    secret="token-of-the-client",
    started_at=1_700_000_000.25,
    note="filename d29ybGQ=,empty",
    wanted=("sha-256:" + "ab" * 32, "md5:" + "cd" * 16),
)
Make = Callable[..., Journal]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Opens a journal; each call is an open description of its own. All are closed at the end."""
    opened: list[Journal] = []

    def build(name: str = "a.log", boot: int = BOOT, begun: bool = True) -> Journal:
        is_new = not (tmp_path / name).exists()
        made = Journal(os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), boot)
        opened.append(made)
        if is_new and begun:
            made.begin(HEADER, "data.part")
        return made

    yield build
    for journal in opened:
        os.close(journal.fd)


@contextmanager
def in_memory() -> Iterator[Journal]:
    """A journal on a file without a name, for the many of a sweep."""
    fd = os.memfd_create("journal", os.MFD_CLOEXEC)
    try:
        yield Journal(fd, BOOT)
    finally:
        os.close(fd)


def whole(journal: Journal) -> bytes:
    return os.pread(journal.fd, 1 << 22, 0)


def reopened(content: bytes, boot: int) -> Extents:
    """What a process finds in a journal of this content."""
    with in_memory() as journal:
        os.pwrite(journal.fd, content, 0)
        return Journal(journal.fd, boot).extents()


@contextmanager
def each_write(journal: Journal) -> Iterator[list[bytes]]:
    """The content of the journal after each of its writes: where a crash may cut."""
    real = os.pwrite
    contents: list[bytes] = []

    def pwrite(fd: int, data: Any, offset: int) -> int:
        count = real(fd, data, offset)
        if fd == journal.fd:
            contents.append(whole(journal))
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        yield contents


def bytes_of(extents: Extents) -> set[int]:
    return {byte for first, end in extents.spans for byte in range(first, end)}


def write(journal: Journal, first: int, end: int, *, limit: int | None = None, durable: bool = False) -> int:
    """A writer brings the bytes from ``first`` to ``end`` and is still at it; the index of its record."""
    index = journal.add(first, end if limit is None else limit)
    journal.set_end(index, end)
    if durable:
        journal.make_durable([record for record in journal.records() if record.index == index])
    return index


# --- the header and the layout ---


def test_a_header_comes_back_as_it_was_written(make: Make) -> None:
    make()

    assert make().header() == (HEADER, "data.part")


def test_the_secret_is_not_in_a_repr(make: Make) -> None:
    journal = make()

    assert HEADER.secret not in repr(journal.header())


@pytest.mark.parametrize("state", State)
def test_a_state_comes_back_and_changes_nothing_else(make: Make, state: State) -> None:
    journal = make()
    assert journal.state is State.OPEN

    journal.set_state(state)

    assert make().state is state
    assert make().header() == (HEADER, "data.part")


def test_the_longest_header_that_a_request_can_make_fits(make: Make) -> None:
    long = UploadHeader(
        paths.parse("/".join(["ü" * 60] * 8).encode()),
        10**18,
        "a/" + "b" * 250,
        "tus",
        "x" * 128,
        1e10,
        "k " + "A" * 8192,
        tuple("sha-512:" + "f" * 128 for _ in range(7)),
    )
    journal = make(begun=False)

    journal.begin(long, "d" * 64)

    assert make(begun=False).header() == (long, "d" * 64)
    assert whole(journal)[RECORDS_AT:] == b""


def test_a_header_that_does_not_fit_is_refused_before_anything_is_written(make: Make) -> None:
    journal = make(begun=False)
    long = UploadHeader(HEADER.path, 1, "a/b", "tus", "s", 0.0, "x" * RECORDS_AT)

    with pytest.raises(BadHeader):
        journal.begin(long, "d")

    assert whole(journal) == b""


def broken(content: bytes, **changed: Any) -> bytes:
    """A journal with other values in its header, or without some (None)."""
    (length,) = struct.unpack_from("<Q", content, 32)
    values = json.loads(content[40 : 40 + length]) | changed
    text = json.dumps({key: value for key, value in values.items() if value != "absent"}).encode()
    return content[:32] + struct.pack("<Q", len(text)) + text


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "cut in the length": lambda content: content[:39],
    "cut in the text": lambda content: content[:100],
    "zeros": lambda content: bytes(len(content)),
    "a foreign file": lambda content: b"\xff\xd8\xff\xe0" * 1000,
    "another version": lambda content: content.replace(b"upload-1", b"upload-2"),
    "length 0": lambda content: content[:32] + bytes(8) + content[40:],
    "length too large": lambda content: content[:32] + b"\xff" * 8 + content[40:] + bytes(9),
    "no UTF-8": lambda content: content.replace("ü".encode(), b"\xff\xfe"),
    "no JSON": lambda content: content.replace(b"{", b"(", 1),
    "a list": lambda content: content[:32] + struct.pack("<Q", 2) + b"[]",
    "a number": lambda content: content[:32] + struct.pack("<Q", 1) + b"7",
    "nested for ever": lambda content: content[:32] + struct.pack("<Q", 9000) + b"[" * 9000,
    "no path": lambda content: broken(content, path="absent"),
    "a path that leaves the store": lambda content: broken(content, path="../../etc/passwd"),
    "an empty path": lambda content: broken(content, path=""),
    "a path that is a number": lambda content: broken(content, path=5),
    "no data file": lambda content: broken(content, data="absent"),
    "no list of checksums": lambda content: broken(content, wanted=None),
}


@pytest.mark.parametrize("damage", list(DAMAGES.values()), ids=list(DAMAGES))
def test_a_file_that_is_no_journal_cannot_be_read_and_that_is_our_error(
    make: Make, damage: Callable[[bytes], bytes]
) -> None:
    journal = make()
    content = damage(whole(journal))
    os.ftruncate(journal.fd, 0)
    os.pwrite(journal.fd, content, 0)

    with pytest.raises(StorageFailed):
        journal.header()


def test_a_state_that_nobody_wrote_is_our_error(make: Make) -> None:
    journal = make()
    os.pwrite(journal.fd, b"\x07", 16)

    with pytest.raises(StorageFailed):
        _ = journal.state


@pytest.mark.parametrize("cut", [1, 7, 8, 63, 64, 65, 127])
def test_a_cut_journal_has_the_whole_records_before_the_cut(make: Make, cut: int) -> None:
    journal = make()
    write(journal, 0, 10)
    write(journal, 20, 30)

    os.ftruncate(journal.fd, RECORDS_AT + 2 * RECORD_BYTES - cut)

    assert journal.extents().spans == ([(0, 10)] if cut <= RECORD_BYTES else [])


def test_a_record_that_ends_before_it_begins_holds_nothing(make: Make) -> None:
    journal = make()
    index = write(journal, 10, 20)

    journal.set_end(index, 5)

    assert journal.extents().spans == []


def test_a_journal_without_records_has_nothing(make: Make) -> None:
    assert make().extents() == Extents()
    assert make().records() == []


# --- records ---


def test_what_a_writer_records_is_there_for_every_other_process_at_once(make: Make) -> None:
    journal, other = make(), make()
    index = journal.add(10, 40)

    assert other.extents().spans == []
    journal.set_end(index, 25)

    assert other.extents().spans == [(10, 25)]
    assert other.records() == [Record(index, 10, 25, 10, 40, BOOT, is_closed=False)]


def test_a_block_costs_one_write_of_eight_bytes(make: Make) -> None:
    journal = make()
    index = journal.add(0, 40)
    before = whole(journal)

    with each_write(journal) as contents:
        journal.set_end(index, 7)

    (after,) = contents
    differing = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert differing == [RECORDS_AT + 4 * 8]


def test_a_writer_that_brought_nothing_leaves_no_record(make: Make) -> None:
    journal = make()

    journal.close_record(journal.add(10, 40))

    assert journal.records() == []
    assert journal.add(0, 5) == 0  # the place is used again


def test_a_record_of_a_killed_writer_counts_and_never_blocks_another(make: Make) -> None:
    journal = make()
    write(journal, 0, 10, limit=40)

    late = write(journal, 10, 20, limit=40)
    journal.close_record(late)

    assert journal.extents().spans == [(0, 20)]
    assert [record.is_closed for record in journal.records()] == [False, True]


def test_what_a_killed_writer_left_is_joined_by_the_next_one_that_ends(make: Make) -> None:
    write(make(), 0, 10, limit=40)
    write(make(), 60, 60, limit=80)
    journal = make()

    journal.close_record(write(journal, 10, 20, limit=40))

    assert [(record.first, record.end, record.is_closed) for record in journal.records()] == [(0, 20, True)]


def test_a_writer_that_lives_keeps_its_record_whoever_ends_beside_it(make: Make) -> None:
    living, journal = make(), make()
    assert living.try_lock(0, 40)
    index = write(living, 0, 10, limit=40)

    journal.close_record(write(journal, 40, 50))
    journal.tidy()
    living.set_end(index, 40)

    assert journal.extents().spans == [(0, 50)]
    living.close_record(index)
    assert [(record.first, record.end) for record in journal.records()] == [(0, 50)]


def test_pieces_of_which_each_was_told_while_its_neighbour_was_half_there_become_one_record(make: Make) -> None:
    """A client that sends two pieces at a time: the second one is whole, and synced, while the first one is not."""
    journal = make()
    for number in range(200):
        at = 20 * number
        half = write(journal, at, at + 5, limit=at + 10)
        journal.close_record(write(journal, at + 10, at + 20))
        journal.make_durable(journal.records())
        journal.tidy()
        journal.set_end(half, at + 10)
        journal.close_record(half)
        journal.make_durable(journal.records())
        journal.tidy()

    (record,) = journal.records()
    assert (record.first, record.end, record.durable) == (0, 4000, 4000)
    assert os.fstat(journal.fd).st_size <= RECORDS_AT + 3 * RECORD_BYTES


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_neighbours_become_one_record_in_whatever_order_they_end(make: Make, order: tuple[int, ...]) -> None:
    journal = make()
    indexes = [write(journal, 10 * number, 10 * number + 10) for number in range(4)]

    for number in order:
        journal.close_record(indexes[number])
        assert journal.extents().spans == [(0, 40)]

    (record,) = journal.records()
    assert (record.first, record.end, record.is_closed) == (0, 40, True)


def test_records_that_do_not_touch_stay_apart(make: Make) -> None:
    journal = make()
    for first in (0, 20, 40):
        journal.close_record(write(journal, first, first + 10))

    assert sorted((record.first, record.end) for record in journal.records()) == [(0, 10), (20, 30), (40, 50)]


def test_a_record_that_grew_over_others_takes_them_all_in(make: Make) -> None:
    journal = make()
    for first in (10, 20, 30):
        journal.close_record(write(journal, first, first + 5))

    journal.close_record(write(journal, 0, 40))

    assert [(record.first, record.end) for record in journal.records()] == [(0, 40)]


def test_records_are_not_joined_where_that_would_take_back_what_is_durable(make: Make) -> None:
    journal = make()
    first = write(journal, 0, 10, durable=True)
    second = write(journal, 10, 20)
    third = write(journal, 20, 30, durable=True)

    for index in (first, second, third):
        journal.close_record(index)

    assert journal.extents().spans == [(0, 30)]
    assert [(record.first, record.end, record.durable) for record in journal.records()] == [(0, 20, 10), (20, 30, 30)]
    assert Journal(os.dup(journal.fd), NEXT_BOOT).extents().spans == [(0, 10), (20, 30)]


@pytest.mark.parametrize(
    ("left", "right", "durable"),
    [
        ((0, 10, 10), (10, 20, 20), 20),
        ((0, 10, 10), (10, 20, 10), 10),
        ((0, 10, 0), (10, 20, 20), 0),
        ((0, 10, 9), (10, 20, 20), 9),
        ((0, 30, 30), (10, 20, 10), 30),
        ((0, 30, 5), (5, 20, 20), 20),
        ((0, 30, 5), (6, 20, 20), 5),
    ],
)
def test_joining_is_the_same_from_either_side(
    left: tuple[int, int, int], right: tuple[int, int, int], durable: int
) -> None:
    one = Record(0, left[0], left[1], left[2], 99, BOOT, is_closed=True)
    two = Record(1, right[0], right[1], right[2], 99, BOOT, is_closed=True)

    for joined in (one.joined(two), two.joined(one)):
        assert (joined.first, joined.end, joined.durable) == (0, max(left[1], right[1]), durable)
        assert joined.is_closed


def test_so_many_records_and_not_one_more(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 20)
    journal = make()
    for number in range(20):
        write(journal, 100 * number, 100 * number + 10, limit=100 * number + 10)

    with pytest.raises(TooManyGaps) as caught:
        journal.add(5000, 5001)

    assert caught.value.offset == 10
    assert len(journal.records()) == 20


def test_the_last_record_is_found_again(make: Make) -> None:
    journal = make()
    assert module.MAX_RECORDS == 4096
    record = struct.pack("<8Q", 2, 0, BOOT, 5, 9, 5, 9, 0)

    os.pwrite(journal.fd, record, RECORDS_AT + 4095 * RECORD_BYTES)
    os.pwrite(journal.fd, record, RECORDS_AT + 4096 * RECORD_BYTES)

    assert [found.index for found in make().records()] == [4095]


# --- another boot ---


def test_after_another_boot_only_what_was_durable_counts(make: Make) -> None:
    journal = make()
    write(journal, 0, 10, durable=True)
    index = write(journal, 20, 30, durable=True)
    journal.set_end(index, 40)
    write(journal, 50, 60)

    rebooted = make(boot=NEXT_BOOT)

    assert journal.extents().spans == [(0, 10), (20, 40), (50, 60)]
    assert rebooted.extents().spans == [(0, 10), (20, 30)]


def test_records_of_an_earlier_boot_stay_right_over_a_third(make: Make) -> None:
    index = write(make(), 0, 10, durable=True)
    make().set_end(index, 20)

    second = make(boot=NEXT_BOOT)
    second.make_durable(second.records())
    write(second, 10, 15)

    assert second.extents().spans == [(0, 15)]
    assert make(boot=7).extents().spans == [(0, 10)]
    assert make().extents().spans == [(0, 10)]


def test_a_record_of_an_earlier_boot_is_not_joined_before_it_was_settled(make: Make) -> None:
    old = make()
    index = write(old, 0, 20)
    old.make_durable(old.records())
    old.set_end(index, 30)
    old.close_record(index)

    second = make(boot=NEXT_BOOT)
    second.close_record(write(second, 20, 25))

    assert second.extents().spans == [(0, 25)]
    assert make(boot=7).extents().spans == [(0, 20)]


def test_settling_writes_nothing_where_nothing_changed(make: Make) -> None:
    journal = make()
    write(journal, 0, 10, durable=True)
    records = journal.records()
    assert all(journal.is_settled(record) for record in records)

    with each_write(journal) as contents:
        journal.make_durable(records)

    assert contents == []


def test_what_came_after_a_look_is_not_called_durable(make: Make) -> None:
    journal = make()
    index = write(journal, 0, 10)
    looked = journal.records()

    journal.set_end(index, 20)
    journal.make_durable(looked)

    assert journal.extents().spans == [(0, 20)]
    assert make(boot=NEXT_BOOT).extents().spans == [(0, 10)]


def test_a_record_that_another_host_writes_is_left_to_it(make: Make) -> None:
    """Hosts that share a store have boots of their own; the lock tells that the writer is alive."""
    there, here = make(), make(boot=NEXT_BOOT, begun=False)
    assert there.try_lock(0, 100)
    index = there.add(0, 100)
    there.set_end(index, 10)

    here.make_durable(here.records())
    here.tidy()
    assert here.add(100, 200) != index
    there.set_end(index, 60)

    assert there.extents().spans == [(0, 60)]
    assert here.extents().spans == []


# --- crashes ---


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What a few writers do, each on a range of its own: begin, write, sync, end, in any order between them. Then their
    process may be killed, or the machine booted."""
    borders = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=7)))
    plans = []
    for first, limit in pairwise(borders):
        ends = sorted(draw(st.lists(st.integers(first, limit), max_size=2)))
        plans.append([("add", first, limit), *(("write", first, end) for end in ends), ("close", first, limit)])
    history = []
    while plans:
        plan = draw(st.sampled_from(plans))
        history.append(plan.pop(0))
        if not plan:
            plans.remove(plan)
        history += [("sync", 0, 0)] if draw(st.booleans()) else []
    for end in draw(st.lists(st.sampled_from(("kill", "reboot")), max_size=2)):
        history.insert(draw(st.integers(0, len(history))), (end, 0, 0))
    return history


class Story:
    """A journal under a history, and the model of what must and what may be found in it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.indexes: dict[int, int] = {}
        self.boots = 0
        self.recorded: set[int] = set()
        self.durable: set[int] = set()
        self.told = 0

    def play(self, event: str, first: int, end: int) -> None:
        """Carry one event out; writers that began before a reboot, or in a killed process, do nothing more."""
        if event in ("reboot", "kill"):
            self.boots += event == "reboot"
            self.journal = Journal(self.journal.fd, BOOT + 2 * self.boots)
            self.indexes.clear()
            self.recorded &= self.durable if event == "reboot" else self.recorded
        elif event == "sync":
            self.journal.make_durable(self.journal.records())
            self.journal.tidy()
            self.durable |= self.recorded
            self.told = self.journal.extents().prefix
        elif event == "add":
            self.indexes[first] = self.journal.add(first, end)
        elif first in self.indexes and event == "write":
            self.journal.set_end(self.indexes[first], end)
            self.recorded |= set(range(first, end))
        elif first in self.indexes:
            self.journal.close_record(self.indexes.pop(first))


@given(histories())
def test_a_crash_after_any_write_loses_nothing_and_invents_nothing(history: list[tuple[str, int, int]]) -> None:
    with in_memory() as journal:
        journal.begin(HEADER, "data.part")
        story = Story(journal)
        for event in history:
            recorded, told, boot = set(story.recorded), story.told, story.boots
            with each_write(journal) as contents:
                story.play(*event)

            for content in contents:
                now = bytes_of(reopened(content, BOOT + 2 * boot))
                assert recorded & story.recorded <= now <= recorded | story.recorded, f"{event}: the process died"
                later = reopened(content, 7)
                assert later.prefix >= told, f"{event}: the power was cut"
                assert bytes_of(later) <= story.durable, f"{event}: the power was cut"
            assert bytes_of(story.journal.extents()) == story.recorded
            if event[0] == "sync":
                spans = len(story.journal.extents().spans)
                assert len(story.journal.records()) <= spans + 2 * len(story.indexes), "bounded by spans and writers"


@contextmanager
def each_cut(journal: Journal) -> Iterator[list[tuple[bytes, bytes]]]:
    """After each write what is surely on disk, and what the system holds of it."""
    real = os.fsync
    on_disk = whole(journal)
    cuts: list[tuple[bytes, bytes]] = []

    def fsync(fd: int) -> None:
        nonlocal on_disk
        real(fd)
        on_disk = whole(journal)

    with each_write(journal) as contents, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        wrapped = os.pwrite

        def pwrite(fd: int, data: Any, offset: int) -> int:
            count = wrapped(fd, data, offset)
            cuts.append((on_disk, contents[-1]))
            return count

        patch.setattr(os, "pwrite", pwrite)
        yield cuts


def blended(most: bytes, one: bytes, page: int) -> bytes:
    """One page of the one content, the others of the other: the kernel writes pages back in any order."""
    block = bytearray(most)
    block[page * PAGE : (page + 1) * PAGE] = one[page * PAGE : (page + 1) * PAGE]
    return bytes(block)


def test_a_power_cut_between_the_pages_of_a_long_journal_never_lowers_an_offset_that_was_told(make: Make) -> None:
    journal = make()
    late = [write(journal, 10_000 + 20 * number, 10_010 + 20 * number, limit=20_000) for number in range(63)]
    second = write(journal, 10, 20)
    first = write(journal, 0, 10)
    assert (second // RECORDS_OF_A_PAGE, first // RECORDS_OF_A_PAGE) == (0, 1)
    journal.make_durable(journal.records())

    with each_cut(journal) as cuts:
        for index in (*late, second, first):
            journal.close_record(index)

    assert journal.extents().prefix == 20
    for on_disk, cached in cuts:
        for page in range(RECORDS_AT // PAGE, len(cached) // PAGE + 1):
            assert reopened(blended(on_disk, cached, page), 7).prefix >= 20
            assert reopened(blended(cached, on_disk, page), 7).prefix >= 20


# --- locks ---


def test_of_two_openings_in_one_process_one_has_a_range(make: Make) -> None:
    ours, theirs = make(), make()

    assert ours.try_lock(10, 20)
    assert ours.try_lock(10, 20)  # it is ours already
    for first, end in ((10, 20), (0, 11), (19, 30), (12, 13), (0, META)):
        assert not theirs.try_lock(first, end)
    assert theirs.try_lock(0, 10)
    assert theirs.try_lock(20, 30)

    ours.unlock(10, 20)
    assert theirs.try_lock(10, 20)


def test_a_lock_goes_with_its_descriptor_and_not_with_another_of_the_same_file(make: Make, tmp_path: Path) -> None:
    ours, theirs = make(), make()
    assert ours.try_lock(0, META)
    bystander = os.open(tmp_path / "a.log", os.O_RDWR)

    os.close(bystander)  # a lock of the old kind (POSIX) would go with any descriptor of the file
    assert not theirs.try_lock(0, 1)

    os.close(ours.fd)
    ours.fd = os.open(os.devnull, os.O_RDONLY)
    assert theirs.try_lock(0, 1)


def test_the_lock_of_the_whole_file_leaves_the_records_guard_free(make: Make) -> None:
    ours, theirs = make(), make()
    assert ours.try_lock(0, META)

    with theirs.guarded():
        assert not ours.try_lock(META, META + 1)

    assert ours.try_lock(META, META + 1)


def test_the_guard_is_given_back_after_an_error(make: Make) -> None:
    ours, theirs = make(), make()

    with pytest.raises(ZeroDivisionError), ours.guarded():
        raise ZeroDivisionError

    assert theirs.try_lock(META, META + 1)


def test_another_error_of_locking_is_not_taken_for_a_lock_of_somebody_else(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", fail)

    with pytest.raises(OSError, match="No locks"):
        make().try_lock(0, 1)


HOLDER = """
import os, sys
from hmacfs.storage.journal import Journal
journal = Journal(os.open(sys.argv[1], os.O_RDWR), 1)
assert journal.try_lock(10, 20)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has the bytes 10 to 20 of the journal locked."""
    command = (sys.executable, "-c", HOLDER, str(path))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            said(process, "stdout", line)
            assert line == b"held\n"
            yield process
        finally:
            process.kill()


def test_a_range_that_another_process_holds_is_not_ours_until_it_dies(make: Make, tmp_path: Path) -> None:
    journal = make()

    with holder(tmp_path / "a.log") as process:
        assert not journal.try_lock(19, 25)
        assert journal.try_lock(20, 25)
        process.send_signal(signal.SIGSTOP)
        assert not journal.try_lock(10, 11)
        process.kill()

        assert until(lambda: journal.try_lock(10, 20), "the kernel gives the range back")


# --- giving way ---


def test_who_writes_in_a_wanted_range_is_told_and_nobody_else(make: Make) -> None:
    journal, other = make(), make()
    indexes = [write(journal, first, first + 1, limit=first + 10) for first in (0, 10, 20, 30)]

    other.want(10, 30)

    assert [journal.is_wanted(index) for index in indexes] == [False, True, True, False]


def test_who_has_ended_is_not_told_and_who_comes_next_neither(make: Make) -> None:
    journal = make()
    ended = write(journal, 0, 1, limit=10)
    journal.close_record(ended)
    gone = journal.add(20, 30)
    journal.want(0, META)
    journal.close_record(gone)

    again = journal.add(20, 30)

    assert (again, journal.is_wanted(again)) == (gone, False)
    assert not journal.is_wanted(ended)


def test_telling_a_writer_changes_no_extent(make: Make) -> None:
    journal = make()
    write(journal, 0, 10, limit=40)

    journal.want(0, META)

    assert journal.extents().spans == [(0, 10)]
