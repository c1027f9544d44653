"""The oldest files go until the store is small enough: the same ones as a plain sorted list says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import oldest, paths
from hmacfs.core.oldest import Bands, Choice, Cut
from hmacfs.core.retention import Held

SECOND = 1_000_000_000


def held(number: int, size: int, modified_ns: int) -> Held:
    return Held(paths.parse(b"f/%d" % number), number, size, modified_ns)


def by_age(files: list[Held]) -> list[Held]:
    return sorted(files, key=lambda each: (each.modified_ns, each.path.raw))


def model(files: list[Held], excess: int) -> list[Held]:
    """Oldest first until ``excess`` bytes are freed."""
    gone: list[Held] = []
    for each in by_age(files):
        if sum(one.size for one in gone) >= excess:
            break
        gone.append(each)
    return gone


def chosen(files: list[Held], excess: int) -> list[Held]:
    """What the rule takes, in as many rounds as it needs."""
    left, gone = list(files), []
    while True:
        bands = Bands()
        for each in left:
            bands.add(each)
        cut = bands.cut(excess - sum(each.size for each in gone))
        if cut is None:
            return gone
        choice = Choice(cut)
        round_ = [each for each in left if choice.goes(each)]
        round_ += choice.rest()
        gone += round_
        left = [each for each in left if each not in round_]
        if not choice.is_cut_short:
            return gone


FILES = st.lists(
    st.tuples(
        st.integers(0, 50), st.integers(-5 * SECOND, 5000 * SECOND) | st.integers(0, 3).map(lambda s: s * SECOND)
    ),
    max_size=60,
).map(lambda pairs: [held(number, size, when) for number, (size, when) in enumerate(pairs)])


@given(FILES, st.integers(-10, 2000), st.randoms(use_true_random=False))
def test_the_same_files_go_as_a_sorted_list_says(files: list[Held], excess: int, order: random.Random) -> None:
    order.shuffle(files)

    gone = chosen(files, excess)

    assert by_age(gone) == model(files, excess)


@given(FILES, st.integers(-10, 2000))
def test_with_room_for_four_bands_the_same_files_go(files: list[Held], excess: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oldest, "MOST_BANDS", 4)
        gone = chosen(files, excess)

    assert by_age(gone) == model(files, excess)


@given(FILES, st.integers(-10, 2000))
def test_with_room_for_three_files_the_same_files_go_in_more_rounds(files: list[Held], excess: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oldest, "MOST_CHOSEN", 3)
        patch.setattr(oldest, "MOST_BANDS", 2)
        gone = chosen(files, excess)

    assert by_age(gone) == model(files, excess)


def test_the_rest_comes_oldest_first() -> None:
    files = [held(number, 10, number) for number in range(20)]
    choice = Choice(Cut(0, 1, 95))
    random.Random(7).shuffle(files)

    assert not any(choice.goes(each) for each in files)

    assert [each.inode for each in choice.rest()] == list(range(10))


def test_of_files_of_the_same_moment_the_first_by_path_go() -> None:
    files = [held(number, 1, 5) for number in (3, 1, 2)]
    choice = Choice(Cut(0, 1, 2))
    for each in files:
        choice.goes(each)

    assert [each.path.raw for each in choice.rest()] == [b"f/1", b"f/2"]


def test_memory_is_bounded_for_a_million_files() -> None:
    bands = Bands()
    moments = random.Random(3)

    for number in range(20_000):
        bands.add(held(1, 1, number * 100 * SECOND))
        bands.add(held(1, 1, moments.randrange(10**9) * SECOND))

    assert len(bands._bytes) <= oldest.MOST_BANDS
    assert sum(bands._bytes.values()) == 40_000


def test_where_all_do_not_suffice_all_go() -> None:
    files = [held(number, 1, number * SECOND) for number in range(5)]
    bands = Bands()
    for each in files:
        bands.add(each)
    cut = bands.cut(100)
    assert cut is not None

    assert all(Choice(cut).goes(each) for each in files)


def test_nothing_goes_from_a_store_that_is_small_enough() -> None:
    bands = Bands()
    assert bands.cut(1) is None
    bands.add(held(1, 10, 0))

    assert (bands.cut(0), bands.cut(-1)) == (None, None)
