"""A body is complete when every declared byte arrived, and only then."""

import pytest

from hmacfs.core.body import BodyMeter
from hmacfs.errors import Truncated


def test_a_complete_body_finishes() -> None:
    meter = BodyMeter(10)
    meter.take(4)
    meter.take(6)

    meter.finish()

    assert (meter.received, meter.missing) == (10, 0)


def test_an_empty_body_is_complete_at_once() -> None:
    BodyMeter(0).finish()


@pytest.mark.parametrize("received", [0, 1, 9])
def test_a_short_body_is_truncated_and_the_log_learns_how_far(received: int) -> None:
    meter = BodyMeter(10)
    meter.take(received)

    with pytest.raises(Truncated) as caught:
        meter.finish()

    assert caught.value.status == 400
    assert caught.value.detail == f"{received} of 10 bytes arrived"


def test_what_is_missing_shrinks_with_every_block() -> None:
    meter = BodyMeter(10)

    meter.take(3)

    assert meter.missing == 7
