"""A GET that comes while this worker publishes the path looks again; any other 404 costs nothing (EnableGetRetries)."""

from collections.abc import Callable
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.preconditions import Conditions
from hmacfs.core.retry import Schedule
from hmacfs.errors import Gone, NotFound, RequestError, StorageBusy, StorageFailed
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.downloads import DownloadRequest, Downloads
from hmacfs.services.publishing import Publishing
from hmacfs.services.retrying import GET_FIRST_SECONDS, GET_SECONDS, Retries, may_pass
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage.base import Entity, Metadata, translated

PATH, OTHER = paths.parse(b"a/b"), paths.parse(b"a/c")


class File:
    entity = Entity(1, 3, 0)
    metadata = Metadata("text/plain")
    content = b"abc"

    def close(self) -> None:
        """Nothing is open."""


class House:
    """Downloads over a storage that fails as scripted, and then has the file."""

    def __init__(self, *errors: Exception, retries: int = 5) -> None:
        self.errors = list(errors)
        self.opened = 0
        self.time = 1000.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.publishing = Publishing()
        again = Retries(
            Schedule(retries, GET_FIRST_SECONDS),
            lambda: self.time,
            self.sleep,
            lambda: 0.0,
            longest=GET_SECONDS,
            repeats=may_pass,
        )
        admission = Admission(Limits(), Scoreboard(), lambda: 0, lambda: 0.0)
        storage: Any = self
        self.downloads = Downloads(storage, admission, again, publishing=self.publishing)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        self.meanwhile()

    def open(self, _path: object, *, with_content: bool) -> Any:
        self.opened += 1
        if self.errors:
            raise self.errors.pop(0)
        return File()

    def get(self) -> bytes:
        return self.downloads.open(DownloadRequest(PATH, Conditions())).content


def test_a_plain_404_is_told_at_once() -> None:
    house = House(NotFound())

    with pytest.raises(NotFound):
        house.get()

    assert (house.opened, house.slept) == (1, [])


def test_another_path_s_publishing_is_nothing_to_wait_for() -> None:
    house = House(NotFound())

    with house.publishing.of(OTHER), pytest.raises(NotFound):
        house.get()

    assert (house.opened, house.slept) == (1, [])


def test_a_path_that_is_being_published_is_looked_for_again_until_it_is_there() -> None:
    house = House(NotFound(), NotFound())

    with house.publishing.of(PATH):
        content = house.get()

    assert content == b"abc"
    assert house.slept == [0.05, 0.1]


def test_what_was_published_between_the_look_and_the_question_is_looked_for_again() -> None:
    house = House()
    underway = house.publishing.of(PATH)
    underway.__enter__()

    def ends_just_now(_path: object, *, with_content: bool) -> Any:
        if not house.opened:
            house.opened = 1
            underway.__exit__()
            raise NotFound
        return File()

    house.open = ends_just_now  # type: ignore[method-assign]

    assert house.get() == b"abc"


def test_one_second_is_the_most_in_all() -> None:
    house = House(*[NotFound()] * 1000, retries=100)

    with house.publishing.of(PATH), pytest.raises(NotFound) as caught:
        house.get()

    assert sum(house.slept) == pytest.approx(1.0)
    assert caught.value.code == "not-found"


def test_a_publishing_that_fails_leaves_a_404_that_waits_no_longer() -> None:
    house = House(NotFound(), NotFound(), NotFound())
    underway = house.publishing.of(PATH)
    underway.__enter__()
    house.meanwhile = underway.__exit__

    with pytest.raises(NotFound):
        house.get()

    assert house.slept == [0.05]
    assert PATH not in house.publishing


def test_two_who_publish_one_path_are_both_waited_for() -> None:
    publishing = Publishing()

    with publishing.of(PATH):
        with publishing.of(PATH):
            assert PATH in publishing
        assert PATH in publishing

    assert PATH not in publishing


@pytest.mark.parametrize("number", [5, 116, 110])  # EIO, ESTALE, ETIMEDOUT
def test_what_a_network_filesystem_says_in_passing_is_tried_again(number: int) -> None:
    house = House(translated(OSError(number, "?")))

    assert house.get() == b"abc"
    assert house.slept == [0.05]


@pytest.mark.parametrize("error", [StorageFailed("EACCES"), Gone(), translated(OSError(13, "?"))])
def test_what_will_not_pass_is_told_at_once(error: RequestError) -> None:
    house = House(error)

    with pytest.raises(type(error)):
        house.get()

    assert (house.opened, house.slept) == (1, [])


@pytest.mark.parametrize("error", [translated(OSError(116, "?")), StorageBusy("EMFILE")])
def test_without_get_retries_there_is_one_attempt(error: RequestError) -> None:
    house = House(error, retries=0)

    with pytest.raises(type(error)):
        house.get()

    assert (house.opened, house.slept) == (1, [])
