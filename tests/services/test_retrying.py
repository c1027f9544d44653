"""Trying again for want of resources: how often, how long, and never anything but StorageBusy."""

import pytest

from hmacfs.core.retry import Schedule
from hmacfs.errors import NotFound, RequestError, StorageBusy, StorageFailed, StorageFull
from hmacfs.services.retrying import LONGEST_SECONDS, MOST_WAITING, Retries


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class Attempts:
    """Fails as scripted, then answers with what it was given."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self, *args: int, **options: int) -> tuple[tuple[int, ...], dict[str, int]]:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return args, options


def retries(clock: Clock, schedule: Schedule, chance: float = 0.0) -> Retries:
    return Retries(schedule, clock.now, clock.sleep, lambda: chance)


def test_what_works_at_once_is_neither_repeated_nor_delayed() -> None:
    clock, attempts = Clock(), Attempts()

    answer = retries(clock, Schedule(5, 2)).run(attempts, 1, 2, three=3)

    assert answer == ((1, 2), {"three": 3})
    assert (attempts.count, clock.slept) == (1, [])


def test_want_of_resources_is_tried_again_with_the_same_arguments() -> None:
    clock, attempts = Clock(), Attempts(StorageBusy(), StorageBusy())

    answer = retries(clock, Schedule(5, 1)).run(attempts, 1, three=3)

    assert answer == ((1,), {"three": 3})
    assert clock.slept == [1, 2]


def test_the_last_error_is_told_when_no_retry_is_left() -> None:
    clock, attempts = Clock(), Attempts(*(StorageBusy(str(number)) for number in range(4)))

    with pytest.raises(StorageBusy) as caught:
        retries(clock, Schedule(3, 0.1)).run(attempts)

    assert (caught.value.detail, attempts.count) == ("3", 4)


def test_five_seconds_are_the_most_and_the_last_attempt_is_at_their_end() -> None:
    clock, attempts = Clock(), Attempts(*[StorageBusy()] * 100)

    with pytest.raises(StorageBusy):
        retries(clock, Schedule(100, 2)).run(attempts)

    assert LONGEST_SECONDS == 5
    assert clock.slept == [2, 3]
    assert attempts.count == 3


def test_time_that_the_attempts_took_counts() -> None:
    clock = Clock()

    def slow() -> None:
        clock.time += 4
        raise StorageBusy

    with pytest.raises(StorageBusy):
        retries(clock, Schedule(100, 2)).run(slow)

    assert clock.slept == [2]


@pytest.mark.parametrize("schedule", [Schedule(0, 2), Schedule(0, 0)])
def test_no_retries_means_one_attempt(schedule: Schedule) -> None:
    clock, attempts = Clock(), Attempts(StorageBusy())

    with pytest.raises(StorageBusy):
        retries(clock, schedule).run(attempts)

    assert (attempts.count, clock.slept) == (1, [])


@pytest.mark.parametrize("error", [StorageFailed("EIO"), StorageFull(), NotFound(), OSError(5, "fsync")])
def test_no_other_error_is_tried_again(error: Exception) -> None:
    clock, attempts = Clock(), Attempts(error)

    with pytest.raises((RequestError, OSError)) as caught:
        retries(clock, Schedule(5, 2)).run(attempts)

    assert caught.value is error
    assert attempts.count == 1


def test_another_error_of_a_repetition_ends_it() -> None:
    clock, attempts = Clock(), Attempts(StorageBusy(), NotFound())

    with pytest.raises(NotFound):
        retries(clock, Schedule(5, 2)).run(attempts)

    assert attempts.count == 2


def test_only_so_many_wait_at_once() -> None:
    clock = Clock()
    waiting = 0

    def sleep(_seconds: float) -> None:
        nonlocal waiting
        waiting += 1
        with pytest.raises(StorageBusy):
            again.run(busy)  # one more request while this one waits

    def busy() -> None:
        raise StorageBusy

    again = Retries(Schedule(1, 1), clock.now, sleep, lambda: 0.0)
    with pytest.raises(StorageBusy):
        again.run(busy)

    assert waiting == MOST_WAITING


def test_who_is_killed_while_waiting_counts_no_longer() -> None:
    clock = Clock()

    def killed(_seconds: float) -> None:
        raise KeyboardInterrupt

    again = Retries(Schedule(1, 1), clock.now, killed, lambda: 0.0)
    for _ in range(MOST_WAITING + 1):
        with pytest.raises(KeyboardInterrupt):
            again.run(Attempts(StorageBusy()))
