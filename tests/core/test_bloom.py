"""A set that never denies what it was given."""

from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core.bloom import Seen

PAIRS = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**62), 2**62)), max_size=50)


@given(PAIRS, st.integers(0, 2**32 - 1))
def test_what_was_added_is_known(pairs: list[tuple[int, int]], seed: int) -> None:
    seen = Seen(seed)
    for pair in pairs:
        seen.add(*pair)

    assert all(seen.knows(*pair) for pair in pairs)


def test_of_a_hundred_thousand_hardly_an_unknown_file_is_taken_for_known() -> None:
    seen = Seen(5)
    for inode in range(100_000):
        seen.add(inode, 1_700_000_000_000_000_000 + inode)

    wrong = sum(seen.knows(inode, 1_700_000_000_000_000_000 + inode) for inode in range(100_000, 110_000))

    assert wrong < 20


def test_another_seed_takes_other_files_for_known() -> None:
    mistakes = []
    for seed in (1, 2):
        seen = Seen(seed)
        for inode in range(400_000):
            seen.add(inode, inode)
        mistakes.append({inode for inode in range(10**6, 10**6 + 20_000) if seen.knows(inode, inode)})

    assert mistakes[0] & mistakes[1] < mistakes[0]
