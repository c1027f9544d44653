"""Taking a body in: block by block into lent buffers, within the limits on silence and rate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core.body import BlockSize, BodyMeter
from hmacfs.core.throttle import WINDOW_SECONDS, RateWatch, TokenBucket
from hmacfs.errors import BodyTimeout, BodyTooLong, Draining
from hmacfs.services.admission import Admission
from hmacfs.services.buffers import BufferPool

TICK_SECONDS = 0.5
"""How often a resumable body that is silent looks whether somebody else wants to continue it."""

Write = Callable[[memoryview], None]


class Body(Protocol):
    """A request body as it arrives.

    Attributes:
        kept: how many of its bytes stay in an upload that goes on, told by who writes them.
    """

    kept: int

    def read_into(self, buffer: memoryview) -> int | None:
        """Fill ``buffer`` from its start until it is full or the sender pauses.

        The bytes read; 0 at the end of the body; None when nothing has arrived yet. Raises BadBody, BodyTimeout or
        Truncated, nothing else.
        """

    def wait(self, seconds: float) -> bool:
        """Until more has arrived or the body is over; False when neither happened in time."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time as the services see it: ``now`` in monotonic seconds, ``sleep`` that lets other requests run, ``wall`` in
    Unix seconds."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    wall: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pace:
    """Attributes:
    silence: seconds that a body may pause (ReadTimeout).
    max_rate, min_rate: bytes per second of an upload, 0 for none.
    least_block: bytes of a slow sender's block (BufferSize).
    """

    silence: float = 900.0
    max_rate: int = 0
    min_rate: int = 0
    least_block: int = 65536


class Intake:
    """Collects bodies. While nothing of one arrives, it holds no buffer."""

    def __init__(self, pace: Pace, buffers: BufferPool, admission: Admission, clocks: Clocks) -> None:
        self._pace = pace
        self._buffers = buffers
        self._admission = admission
        self._clocks = clocks

    def collect(
        self, body: Body, total: int, write: Write, tick: Callable[[], None] | None = None, piece_of: str = ""
    ) -> None:
        """Hand a body of ``total`` bytes to ``write`` block by block.

        Args:
            tick: called now and then while nothing arrives; what it raises ends the body.
            piece_of: the key of an upload that other requests bring pieces of: MaxBytesPerSecond is for all of them.

        Raises:
            Truncated, BadBody, BodyTimeout, Draining, and what ``write`` and ``tick`` raise.
        """
        meter = BodyMeter(total)
        self._take(body, total, meter, write, tick, piece_of)
        if meter.missing and self._admission.draining:
            raise Draining
        meter.finish()

    def collect_open(
        self, body: Body, most: int, write: Write, tick: Callable[[], None] | None = None, piece_of: str = ""
    ) -> int:
        """The same for a body that does not say its length; how many bytes it had.

        Raises:
            BodyTooLong: it has more than ``most``; what came before was written.
        """
        meter = BodyMeter(most)
        self._take(body, most, meter, write, tick, piece_of)
        if not meter.missing:
            extra = BodyMeter(1)
            self._take(body, 1, extra, drop, tick, "")
            if not extra.missing:
                raise BodyTooLong
        elif self._admission.draining:
            raise Draining
        return meter.received

    def _take(
        self,
        body: Body,
        total: int,
        meter: BodyMeter,
        write: Write,
        tick: Callable[[], None] | None,
        piece_of: str,
    ) -> None:
        rate, throttle = self._pace.max_rate, None
        if rate and piece_of:
            with self._admission.sharing(piece_of) as sharers:
                throttle = _Throttle(rate, self._clocks, sharers, tick)
                return self._take_blocks(body, total, meter, write, tick, throttle)
        if rate:
            throttle = _Throttle(rate, self._clocks, None, tick)
        return self._take_blocks(body, total, meter, write, tick, throttle)

    def _take_blocks(
        self,
        body: Body,
        total: int,
        meter: BodyMeter,
        write: Write,
        tick: Callable[[], None] | None,
        throttle: "_Throttle | None",
    ) -> None:
        now, pace = self._clocks.now, self._pace
        size = BlockSize(pace.least_block, self._buffers.size)
        watch = RateWatch(pace.min_rate, now()) if pace.min_rate else None
        while meter.missing:
            wanted = min(meter.missing, size.bytes, throttle.piece if throttle else total)
            filled = self._take_block(body, size, wanted, write)
            if filled is None:
                self._wait(body, watch, tick)
                continue
            if not filled:
                break
            meter.take(filled)
            if watch:
                watch.take(filled, now())
            if throttle:
                throttle.spend(filled, is_last=not meter.missing)

    def _take_block(self, body: Body, size: BlockSize, wanted: int, write: Write) -> int | None:
        """One read and its write. A function of its own: when it returns nothing refers to the buffer any more."""
        begun = self._clocks.now()
        with self._buffers.lend(wanted) as buffer:
            filled = body.read_into(buffer[:wanted])
            size.learn(filled, wanted, self._clocks.now() - begun)
            if filled:
                write(buffer[:filled])
        return filled

    def _wait(self, body: Body, watch: RateWatch | None, tick: Callable[[], None] | None) -> None:
        """Until more of the body is there. Raises BodyTimeout for silence and for a body that is too slow."""
        if watch and watch.is_too_slow(self._clocks.now()):  # all that has arrived is counted now
            raise BodyTimeout("MinBytesPerSecond")
        patience = self._pace.silence
        step = min(patience, WINDOW_SECONDS / 6 if watch else patience, TICK_SECONDS if tick else patience)
        while not body.wait(min(step, patience)):
            patience -= step
            if tick is not None:
                tick()
            if patience <= 0:
                raise BodyTimeout("ReadTimeout")
            if watch and watch.is_too_slow(self._clocks.now()):
                raise BodyTimeout("MinBytesPerSecond")


class _Throttle:
    """Holds a body to its part of an upload's rate.

    Args:
        sharers: how many bodies of the upload run now, each of which has an equal part; None for a body that is the
            whole upload.
    """

    def __init__(
        self, rate: int, clocks: Clocks, sharers: Callable[[], int] | None, tick: Callable[[], None] | None
    ) -> None:
        self._clocks = clocks
        self._sharers = sharers
        self._tick = tick
        self._bucket = TokenBucket(rate, clocks.now())

    @property
    def piece(self) -> int:
        """Bytes of the largest block that keeps the flow even."""
        return self._bucket.piece

    def spend(self, count: int, *, is_last: bool) -> None:
        """Pause for what ``count`` bytes are worth. A piece pauses after its last block too, or many short ones, each
        on its own, would be as fast as they like."""
        sharers = self._sharers() if self._sharers else 1
        pause = self._bucket.spend(count * sharers, self._clocks.now())
        if is_last and self._sharers is None:
            return
        while pause > 0:
            step = min(pause, TICK_SECONDS)
            self._clocks.sleep(step)
            pause -= step
            if pause > 0 and self._tick is not None:
                self._tick()


def drop(_block: memoryview) -> None:
    """A ``write`` for bytes that nobody wants."""


def both(first: Write | None, second: Write | None) -> Write | None:
    """One ``write`` that shows a block to two; None for none."""
    if first is None or second is None:
        return first or second

    def show(block: memoryview) -> None:
        first(block)
        second(block)

    return show
