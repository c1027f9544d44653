"""Taking a body in: lent buffers, silence, rates, the tick that lets others take over, and bodies without a length."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.errors import BadBody, BodyTimeout, BodyTooLong, Draining, TakenOver, Truncated
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.intake import TICK_SECONDS, Clocks, Intake, Pace, drop
from hmacfs.state.scoreboard import Scoreboard
from tests.services.uploading import Clock, ScriptedBody, Silence, Step, WatchedBuffers

BLOCK = 64


class Desk:
    """An intake whose time passes where somebody waits."""

    def __init__(self, **pace: Any) -> None:
        self.clock = Clock()
        self.buffers = WatchedBuffers(BLOCK)
        self.admission = Admission(Limits(), Scoreboard(), lambda: 1 << 40, self.clock.now)
        clocks = Clocks(self.clock.now, self.clock.sleep, lambda: 0.0)
        self.intake = Intake(Pace(**pace), self.buffers, self.admission, clocks)
        self.taken = bytearray()
        self.ticks: list[float] = []

    def body(self, *script: Step) -> ScriptedBody:
        return ScriptedBody(*script, clock=self.clock)

    def tick(self) -> None:
        self.ticks.append(self.clock.time)

    def collect(self, total: int, *script: Step, tick: Callable[[], None] | None = None) -> None:
        self.intake.collect(self.body(*script), total, self.taken.extend, tick)

    def collect_open(self, most: int, *script: Step, tick: Callable[[], None] | None = None) -> int:
        return self.intake.collect_open(self.body(*script), most, self.taken.extend, tick)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Every buffer that was lent is given back."""
    built = Desk()
    yield built
    assert built.buffers.lent == 0


# --- bodies with a length ---


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.integers(0, 3))
def test_a_body_is_handed_on_whole_and_in_its_order(pieces: list[bytes], silences: int) -> None:
    desk = Desk()
    script: list[Step] = [*pieces]
    script[len(pieces) // 2 : len(pieces) // 2] = [Silence(1.0)] * silences

    desk.collect(sum(map(len, pieces)), *script)

    assert desk.taken == b"".join(pieces)
    assert desk.buffers.lent == 0


def test_a_body_of_no_bytes_is_not_asked_for_any(desk: Desk) -> None:
    body = desk.body(b"not of this body")

    desk.intake.collect(body, 0, drop)

    assert body.asked == 0


def test_more_than_the_total_is_never_read(desk: Desk) -> None:
    body = desk.body(b"x" * 100)

    desk.intake.collect(body, 70, desk.taken.extend)

    assert len(desk.taken) == 70
    assert body.script == [b"x" * 30]


def test_a_body_that_ends_early_is_truncated_and_what_came_was_handed_on(desk: Desk) -> None:
    with pytest.raises(Truncated):
        desk.collect(100, b"x" * 70)

    assert len(desk.taken) == 70


def test_a_body_that_ends_early_while_the_server_stops_says_that(desk: Desk) -> None:
    desk.admission.draining = True

    with pytest.raises(Draining):
        desk.collect(100, b"x" * 70)
    desk.collect(10, b"y" * 10)  # one that is whole is none of these

    assert desk.taken == b"x" * 70 + b"y" * 10


@pytest.mark.parametrize("error", [BadBody("chunk"), Truncated("reset"), ZeroDivisionError()])
def test_what_breaks_the_body_comes_out_as_it_is(desk: Desk, error: Exception) -> None:
    with pytest.raises(type(error)):
        desk.collect(100, b"x" * 10, error)

    assert desk.taken == b"x" * 10


def test_what_writing_raises_ends_the_body_at_once(desk: Desk) -> None:
    body = desk.body(b"x" * 10, b"y" * 10)

    def write(_block: memoryview) -> None:
        raise TakenOver

    with pytest.raises(TakenOver):
        desk.intake.collect(body, 20, write)

    assert body.script == [b"y" * 10]


# --- silence, ticks, rates ---


def test_a_silent_body_is_ended_after_its_patience_and_not_before() -> None:
    desk = Desk(silence=30.0)

    desk.collect(20, b"x" * 10, Silence(29.5), b"x" * 10)
    begun = desk.clock.time
    with pytest.raises(BodyTimeout) as caught:
        desk.collect(20, b"x" * 10, Silence(10_000.0))

    assert caught.value.detail == "ReadTimeout"
    assert desk.clock.time - begun == pytest.approx(30.0)


def test_every_arrival_gives_new_patience() -> None:
    desk = Desk(silence=30.0)

    desk.collect(4, b"x", Silence(29.0), b"x", Silence(29.0), b"x", Silence(29.0), b"x")

    assert desk.taken == b"xxxx"


def test_a_silent_body_looks_now_and_then_whether_somebody_else_wants_to_go_on() -> None:
    desk = Desk(silence=30.0)

    desk.collect(2, b"x", Silence(10.0), b"x", tick=desk.tick)

    gaps = [later - earlier for earlier, later in zip(desk.ticks, desk.ticks[1:], strict=False)]
    assert len(desk.ticks) >= 10 / TICK_SECONDS - 1
    assert max(gaps) <= TICK_SECONDS <= 1.0  # the protocol's five seconds leave room for several


def test_ticks_lend_nobody_more_patience() -> None:
    desk = Desk(silence=30.0)
    begun = desk.clock.time

    with pytest.raises(BodyTimeout):
        desk.collect(2, b"x", Silence(10_000.0), tick=desk.tick)

    assert desk.clock.time - begun == pytest.approx(30.0, abs=TICK_SECONDS)


def test_what_a_tick_raises_ends_a_silent_body(desk: Desk) -> None:
    def tick() -> None:
        raise TakenOver

    with pytest.raises(TakenOver):
        desk.collect(2, b"x", Silence(10.0), tick=tick)

    assert desk.clock.time - 1000.0 <= 2 * TICK_SECONDS
    assert desk.taken == b"x"


def test_a_silent_body_holds_no_buffer(desk: Desk) -> None:
    lent: list[int] = []

    desk.collect(2, b"x", Silence(2.0), b"x", tick=lambda: lent.append(desk.buffers.lent))

    assert lent
    assert set(lent) == {0}


def test_a_body_slower_than_the_least_rate_is_ended_and_one_at_it_is_not() -> None:
    desk = Desk(min_rate=10)
    slow: list[Step] = [step for _ in range(100) for step in (b"x" * 5, Silence(1.0))]
    right: list[Step] = [step for _ in range(100) for step in (b"x" * 11, Silence(1.0))]

    desk.collect(1100, *right)
    begun = desk.clock.time
    with pytest.raises(BodyTimeout) as caught:
        desk.collect(500, *slow)

    assert caught.value.detail == "MinBytesPerSecond"
    assert 29 < desk.clock.time - begun < 40


def test_a_body_is_held_to_the_largest_rate() -> None:
    desk = Desk(max_rate=100)
    begun = desk.clock.time

    desk.collect(1000, b"x" * 1000)

    assert desk.clock.time - begun == pytest.approx(10.0, rel=0.2)
    assert max(desk.clock.slept) <= 1.0  # who is held back still notices that somebody takes over


def test_short_pieces_one_after_the_other_are_held_to_the_rate_of_their_upload() -> None:
    desk = Desk(max_rate=160)
    begun = desk.clock.time

    for _ in range(50):
        desk.intake.collect(desk.body(b"x" * 16), 16, desk.taken.extend, piece_of="upload")

    assert desk.clock.time - begun == pytest.approx(50 * 16 / 160, rel=0.05)


def test_pieces_side_by_side_share_the_rate_of_their_upload() -> None:
    desk = Desk(max_rate=160)
    begun = desk.clock.time

    with desk.admission.sharing("upload"), desk.admission.sharing("upload"), desk.admission.sharing("another"):
        desk.intake.collect(desk.body(b"x" * 160), 160, desk.taken.extend, piece_of="upload")

    assert desk.clock.time - begun == pytest.approx(3.0, rel=0.05)  # a third of it, which the two others have as well


def test_a_piece_that_pauses_for_its_rate_can_be_taken_over() -> None:
    desk = Desk(max_rate=16)

    with ExitStack() as others:
        for _ in range(20):
            others.enter_context(desk.admission.sharing("upload"))
        desk.intake.collect(desk.body(b"x" * 64), 64, desk.taken.extend, desk.tick, piece_of="upload")

    gaps = [later - earlier for earlier, later in zip(desk.ticks, desk.ticks[1:], strict=False)]
    assert max(gaps) <= 2 * TICK_SECONDS


# --- bodies without a length ---


@given(st.lists(st.binary(min_size=1, max_size=90), max_size=6), st.integers(0, 50))
def test_a_body_without_a_length_is_taken_to_its_end(pieces: list[bytes], room: int) -> None:
    desk = Desk()
    length = sum(map(len, pieces))

    assert desk.collect_open(length + room, *pieces) == length

    assert desk.taken == b"".join(pieces)


@pytest.mark.parametrize("most", [0, 10, 99])
def test_a_body_without_a_length_that_goes_beyond_what_may_come_is_refused(desk: Desk, most: int) -> None:
    with pytest.raises(BodyTooLong):
        desk.collect_open(most, b"x" * 100)

    assert desk.taken == b"x" * most  # what came before was written


def test_a_body_of_exactly_what_may_come_is_no_more_than_that(desk: Desk) -> None:
    assert desk.collect_open(100, b"x" * 100, Silence(5.0)) == 100


def test_the_end_of_a_body_without_a_length_while_the_server_stops_is_not_taken_for_its_own(desk: Desk) -> None:
    desk.admission.draining = True

    with pytest.raises(Draining):
        desk.collect_open(100, b"x" * 50)

    assert desk.taken == b"x" * 50


def test_waiting_for_the_end_of_a_full_body_can_be_taken_over_too(desk: Desk) -> None:
    def tick() -> None:
        raise TakenOver

    with pytest.raises(TakenOver):
        desk.collect_open(10, b"x" * 10, Silence(100.0), tick=tick)
