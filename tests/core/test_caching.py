"""Cache-Control of a download."""

import pytest

from hmacfs.core.caching import cache_control

YEAR = 31536000


@pytest.mark.parametrize(
    ("may_change", "life", "signed", "said"),
    [
        (False, None, None, f"public, max-age={YEAR}, immutable"),
        (True, None, None, "no-cache"),
        (False, 60.9, None, "public, max-age=60, immutable"),
        (False, 10.0 * YEAR, None, f"public, max-age={YEAR}, immutable"),
        (True, 60, None, "no-cache"),
        (True, None, 30, "private, max-age=30"),
        (False, None, 30, "private, max-age=30"),
        (True, 20.5, 30, "private, max-age=20"),
        (True, 40, 30, "private, max-age=30"),
        (False, -5, None, "public, max-age=0, immutable"),
        (False, None, 2.0 * YEAR, f"private, max-age={YEAR}"),
    ],
)
def test_a_copy_lives_no_longer_than_the_file_and_its_signature(
    may_change: bool, life: float | None, signed: float | None, said: str
) -> None:
    assert cache_control(may_change=may_change, life=life, signed=signed) == said
