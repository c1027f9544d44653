"""One range is honoured, several or malformed are ignored, a range behind the end is refused (protocol, section 4)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmacfs.core import ranges
from hmacfs.errors import RangeNotSatisfiable

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 500)),
        ("bytes=500-", (500, 500)),
        ("bytes=999-", (999, 1)),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-1000", (0, 1000)),
        ("bytes=900-99999", (900, 100)),
        ("bytes=900-99999999999999999999999999", (900, 100)),
        ("bytes=-1", (999, 1)),
        ("bytes=-1000", (0, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=-99999999999999999999999999", (0, 1000)),
        ("bytes=00000000000000000000000005-6", (5, 2)),
        ("Bytes=1-2", (1, 2)),
        ("bytes= 1-2 ", (1, 2)),
    ],
)
def test_one_range_is_honoured(header: str, expected: tuple[int, int]) -> None:
    assert ranges.plan(header, SIZE) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=999999-5",
        "bytes=--5",
        "bytes=0-1,2-3",
        "bytes=0-0,0-0,0-0,0-0",
        "bytes=1-2-3",
        "bytes=1 - 2",
        "bytes=0x1-2",
        "bytes=+1-2",
        "items=0-5",
        "0-5",
        "bytes 0-5/1000",
        "bytes=1.5-2",
    ],
)
def test_several_and_malformed_ranges_are_ignored(header: str) -> None:
    assert ranges.plan(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1000", "bytes=99999999999999999999999-", "bytes=-0"])
def test_a_range_that_no_byte_satisfies_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        ranges.plan(header, SIZE)

    assert caught.value.status == 416
    assert caught.value.size == SIZE


def test_no_first_byte_lies_in_an_empty_file() -> None:
    with pytest.raises(RangeNotSatisfiable):
        ranges.plan("bytes=0-", 0)


def test_a_suffix_of_an_empty_file_is_the_whole_file() -> None:
    assert ranges.plan("bytes=-5", 0) is None


numbers = st.one_of(st.just(""), st.integers(0, 2**70).map(str), st.integers(0, 3000).map(str))


@given(st.one_of(st.text(max_size=30), st.builds("bytes={}-{}".format, numbers, numbers)), st.integers(0, 2000))
@example("bytes=1999-1999", 2000)
@example("bytes=-1", 1)
def test_a_plan_always_lies_within_the_file(header: str, size: int) -> None:
    try:
        planned = ranges.plan(header, size)
    except RangeNotSatisfiable:
        return

    if planned is not None:
        first, length = planned
        assert 0 <= first < size
        assert 1 <= length <= size - first


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 2000))
def test_a_plan_is_exactly_what_was_asked_and_exists(first: int, last: int, size: int) -> None:
    whole = bytes(n % 251 for n in range(size))
    if first >= size and first <= last:
        with pytest.raises(RangeNotSatisfiable):
            ranges.plan(f"bytes={first}-{last}", size)
        return

    planned = ranges.plan(f"bytes={first}-{last}", size)

    if last < first:
        assert planned is None
    else:
        assert planned is not None
        start, length = planned
        assert whole[start : start + length] == whole[first : last + 1]
