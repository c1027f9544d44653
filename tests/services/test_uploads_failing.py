"""Receiving a file that does not come well: bodies that fail or are slow, a server that stops or lacks something."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.errors import (
    BadBody,
    BodyTimeout,
    Draining,
    FileExists,
    PathConflict,
    RequestError,
    StorageBusy,
    StorageFull,
    Truncated,
)
from hmacfs.services import uploads
from hmacfs.storage import fsutil
from hmacfs.storage.local import LocalStorage
from tests.services.uploading import BLOCK, MAX, House, ScriptedBody, Silence, Step, WatchedBuffers, opened, request


@pytest.fixture(params=["small", "large"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file goes the way of small ones, or the way of large ones."""
    with opened(tmp_path / "store", monkeypatch, is_small=request.param == "small") as built:
        yield built


@pytest.fixture
def large_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file goes the way of large ones."""
    built = House(tmp_path / "store")
    monkeypatch.setattr(uploads, "SMALL", -1)
    yield built
    monkeypatch.undo()
    built.close()


# --- bodies that fail ---


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([], Truncated),
        ([b"hell"], Truncated),
        ([b"h", b"e"], Truncated),
        ([b"hel", Truncated("reset")], Truncated),
        ([b"hel", BodyTimeout()], BodyTimeout),
        ([b"hel", BadBody("chunk")], BadBody),
        ([BodyTimeout()], BodyTimeout),
    ],
)
def test_a_body_that_fails_leaves_nothing_and_the_retry_works(
    house: House, script: list[bytes | Exception], error: type[RequestError]
) -> None:
    with pytest.raises(error):
        house.uploads().receive(request(5), ScriptedBody(*script))

    assert house.files() == {}
    assert house.told.completed == []
    house.uploads().receive(request(5), ScriptedBody(b"hello"))
    assert house.files() == {"a/b.txt": b"hello"}


def test_a_large_body_that_fails_after_some_blocks_leaves_nothing(house: House) -> None:
    with pytest.raises(Truncated) as caught:
        house.uploads().receive(request(MAX), ScriptedBody(bytes(3 * BLOCK + 5)))

    assert caught.value.detail == f"{3 * BLOCK + 5} of {MAX} bytes arrived"
    assert house.files() == {}


def test_a_full_disk_leaves_nothing_and_the_retry_works(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fsutil, "write_all", full)
        with pytest.raises(StorageFull):
            house.uploads().receive(request(5), ScriptedBody(b"hello"))

    assert house.files() == {}
    house.uploads().receive(request(5), ScriptedBody(b"hello"))


def test_a_rival_that_publishes_first_wins(house: House) -> None:
    body = ScriptedBody(b"hel", lambda: house.put("a/b.txt", b"rival"), b"lo")

    with pytest.raises(FileExists):
        house.uploads().receive(request(5), body)

    assert house.files() == {"a/b.txt": b"rival"}
    assert house.told.completed == []


def test_a_file_that_takes_the_folder_s_name_meanwhile_is_a_conflict(house: House) -> None:
    body = ScriptedBody(b"hel", lambda: house.put("a", b"rival"), b"lo")

    with pytest.raises(PathConflict):
        house.uploads().receive(request(5), body)

    assert house.files() == {"a": b"rival"}


def test_no_descriptor_is_left_open_whatever_happens(house: House) -> None:
    before = len(os.listdir("/proc/self/fd"))

    house.uploads().receive(request(5), ScriptedBody(b"hello"))
    for script in ([b"hel"], [b"hel", BodyTimeout()]):
        with pytest.raises(RequestError):
            house.uploads().receive(request(5, path="x/y"), ScriptedBody(*script))

    assert len(os.listdir("/proc/self/fd")) == before


# --- time ---


def test_a_body_that_is_silent_for_too_long_is_cut(house: House) -> None:
    for script in ([Silence(60.5), b"hello"], [b"hel", Silence(60.5), b"lo"]):
        with pytest.raises(BodyTimeout) as caught:
            house.uploads(silence=60.0).receive(request(5), house.body(*script))
        assert (caught.value.status, caught.value.detail) == (408, "ReadTimeout")

    assert house.files() == {}


@pytest.mark.parametrize("min_rate", [0, 1])
def test_the_time_limit_is_for_silence_and_not_for_the_whole_body(house: House, min_rate: int) -> None:
    script: list[Step] = []
    for _ in range(10):
        script += [Silence(25.0), bytes(MAX // 10)]

    house.uploads(silence=26.0, min_rate=min_rate).receive(request(MAX), house.body(*script))

    assert house.files() == {"a/b.txt": bytes(MAX)}


@pytest.mark.parametrize("silence", [2.0, 7.0, 29.0])
def test_silence_is_cut_in_time_beside_a_least_rate_too(house: House, silence: float) -> None:
    begun = house.clock.time

    with pytest.raises(BodyTimeout):
        house.uploads(silence=silence, min_rate=1).receive(request(5), house.body(b"hel", Silence(1000.0)))

    assert silence <= house.clock.time - begun <= silence + 5.0


def test_a_body_below_the_least_rate_is_cut_after_its_window(house: House) -> None:
    script: list[Step] = []
    for _ in range(200):
        script += [b"x" * 5, Silence(1.0)]
    begun = house.clock.time

    with pytest.raises(BodyTimeout) as caught:
        house.uploads(min_rate=10).receive(request(MAX), house.body(*script))

    assert (caught.value.status, caught.value.detail) == (408, "MinBytesPerSecond")
    assert 30.0 <= house.clock.time - begun <= 36.0
    assert house.files() == {}


def test_a_body_that_stops_altogether_is_below_the_least_rate(house: House) -> None:
    begun = house.clock.time

    with pytest.raises(BodyTimeout) as caught:
        house.uploads(min_rate=10).receive(request(MAX), house.body(bytes(500), Silence(800.0), bytes(500)))

    assert caught.value.detail == "MinBytesPerSecond"
    assert 30.0 <= house.clock.time - begun <= 66.0


def test_a_body_above_the_least_rate_may_take_as_long_as_it_needs(house: House) -> None:
    script: list[Step] = []
    for _ in range(100):
        script += [Silence(1.0), b"x" * 10]

    house.uploads(min_rate=9).receive(request(MAX), house.body(*script))

    assert house.files() == {"a/b.txt": b"x" * MAX}


@pytest.mark.parametrize("rate", [16384, 20000, 100_000])
def test_an_upload_is_held_to_the_largest_rate(tmp_path: Path, rate: int) -> None:
    house = House(tmp_path / "store")
    house.buffers = WatchedBuffers(65536)
    total = 10 * rate
    begun = house.clock.time

    house.uploads(max_size=0, max_rate=rate).receive(request(total), house.body(bytes(total)))

    assert house.clock.time - begun == pytest.approx(10.0, rel=0.05)
    assert max(house.clock.slept) <= 1.0
    house.close()


def test_nobody_waits_behind_the_last_byte(house: House) -> None:
    house.uploads(max_rate=1000).receive(request(5), house.body(b"hello"))

    assert house.clock.slept == []


def test_no_buffer_is_lent_while_the_body_pauses_or_is_slowed_down(house: House) -> None:
    lent: list[int] = []

    class Slow(ScriptedBody):
        def wait(self, seconds: float) -> bool:
            lent.append(house.buffers.lent)
            return super().wait(seconds)

    def sleep(seconds: float) -> None:
        lent.append(house.buffers.lent)
        house.clock.time += seconds

    house.clock.sleep = sleep  # type: ignore[method-assign]
    body = Slow(Silence(1.0), bytes(300), Silence(20.0), bytes(MAX - 300), clock=house.clock)
    house.uploads(max_rate=100, min_rate=1).receive(request(MAX), body)

    assert len(lent) > 10
    assert set(lent) == {0}


# --- a server that stops ---


def test_a_body_that_the_stopping_server_cut_off_may_be_tried_again(house: House) -> None:
    def stop() -> None:
        house.admission.draining = True

    with pytest.raises(Draining) as caught:
        house.uploads().receive(request(5), house.body(b"hel", stop))

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "draining", 5)
    assert house.files() == {}


def test_an_upload_that_runs_when_the_server_stops_is_finished(house: House) -> None:
    def stop() -> None:
        house.admission.draining = True

    house.uploads().receive(request(5), house.body(b"hel", stop, b"lo"))

    assert house.files() == {"a/b.txt": b"hello"}


# --- want of resources ---


def failing_often(house: House, monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
    """Making a staged file fails with these errors of the operating system first."""
    left = list(errors)
    create = house.storage.staging.create

    def scripted() -> Any:
        if left:
            code = left.pop(0)
            raise OSError(code, os.strerror(code))
        return create()

    monkeypatch.setattr(house.storage.staging, "create", scripted)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_staging_is_tried_again_for_want_of_resources_before_the_body(
    code: int, large_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_often(large_house, monkeypatch, code)
    body = ScriptedBody(lambda: asked_at.append(large_house.clock.time), b"hello", clock=large_house.clock)
    asked_at: list[float] = []

    large_house.uploads().receive(request(5), body)

    assert large_house.clock.slept == [2]
    assert asked_at == [1002]
    assert large_house.files() == {"a/b.txt": b"hello"}


def test_staging_is_given_up_after_five_seconds_without_the_body(
    large_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_often(large_house, monkeypatch, *[errno.EMFILE] * 100)
    body = ScriptedBody(b"hello")

    with pytest.raises(StorageBusy):
        large_house.uploads().receive(request(5), body)

    assert sum(large_house.clock.slept) == 5
    assert body.asked == 0


def test_staging_on_a_full_disk_is_not_tried_again(large_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_often(large_house, monkeypatch, errno.ENOSPC)

    with pytest.raises(StorageFull):
        large_house.uploads().receive(request(5), ScriptedBody(b"hello"))

    assert large_house.clock.slept == []


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path / "store")
    house.storage = LocalStorage(str(house.store), house.pool, durability="full", file_mode=0o640, dir_mode=0o750)
    monkeypatch.setattr(uploads, "SMALL", -1)
    synced = []

    def fail(fd: int) -> None:
        synced.append(fd)
        raise OSError(errno.EAGAIN, "fsync")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageBusy):
        house.uploads().receive(request(5), ScriptedBody(b"hello"))
    monkeypatch.undo()

    assert (len(synced), house.clock.slept) == (1, [])
    assert house.recorder.queued == 0
    house.close()
