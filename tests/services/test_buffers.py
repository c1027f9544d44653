"""Buffers are lent to one transfer at a time and used again."""

import pytest

from hmacfs.services.buffers import BufferPool

SIZE = 1024


def test_a_lent_buffer_is_writable_and_never_larger_than_the_pool_s_size() -> None:
    pool = BufferPool(SIZE)

    for wanted in (0, 1, 100, 256, 257, 1024, 10**9):
        with pool.lend(wanted) as buffer:
            assert not buffer.readonly
            assert min(wanted, SIZE) <= len(buffer) <= SIZE
            assert len(buffer) >= 1


def test_a_small_buffer_is_not_taken_from_the_pool() -> None:
    pool = BufferPool(SIZE)

    with pool.lend(10) as buffer:
        assert len(buffer) == 10


def test_a_buffer_is_used_again() -> None:
    pool = BufferPool(SIZE)

    with pool.lend(SIZE) as first:
        pass
    with pool.lend(SIZE) as second:
        assert second.obj is first.obj


def test_two_transfers_never_share_a_buffer() -> None:
    pool = BufferPool(SIZE)

    with pool.lend(SIZE) as first, pool.lend(SIZE) as second:
        first[0], second[0] = 1, 2
        assert (first[0], second[0]) == (1, 2)


def test_a_failed_transfer_gives_its_buffer_back() -> None:
    pool = BufferPool(SIZE)

    with pytest.raises(RuntimeError), pool.lend(SIZE) as first:
        raise RuntimeError
    with pool.lend(SIZE) as second:
        assert second.obj is first.obj


def test_only_a_few_idle_buffers_are_kept() -> None:
    pool = BufferPool(SIZE, spare=1)

    with pool.lend(SIZE) as first, pool.lend(SIZE) as second:
        pass
    with pool.lend(SIZE) as third, pool.lend(SIZE) as fourth:
        known = (first.obj, second.obj)
        assert sum(any(lent.obj is old for old in known) for lent in (third, fourth)) == 1
