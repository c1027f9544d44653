"""An unfinished upload becomes a file, whatever is cut on the way."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core.upload import State
from hmacfs.errors import FileExists, RequestError, StorageFailed, UploadGone
from hmacfs.storage.base import Metadata
from hmacfs.storage.staging import StagingArea
from tests.storage.partialstore import DIGEST, PUBLISHED, TOKEN, Open, Wall, published
from tests.support.resuming import (
    CHANGING,
    TTL,
    TYPE,
    Shelf,
    content_of,
    each_death,
    header,
    open_for_writing,
    slot,
    write,
)

# --- publishing ---


@pytest.mark.parametrize("face", ["session", "tus", "draft"])
def test_a_published_upload_is_one_whole_file_that_remembers(
    opened: Open, each_keeper: dict[str, Any], face: str
) -> None:
    shelf = opened(**each_keeper)
    secret = TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg"))
    partial = shelf.begin(header(secret, face=face), (50, 100), (0, 50))

    published(partial)

    digest = DIGEST if face == "session" else ""
    assert shelf.read() == (content_of(100), Metadata(TYPE, "", digest))
    assert (shelf.store / "a/b.jpg").stat().st_nlink == 1
    assert (shelf.store / "a/b.jpg").stat().st_mode & 0o777 == 0o640
    assert shelf.partials.count(slot("a/b.jpg")) == 0
    if face == "session":
        assert shelf.names() == []
        assert shelf.folders() == []
    else:
        known = shelf.partials.resolve(secret)
        assert known is not None
        assert known.look().state is State.PUBLISHED
        claim = known.claim(0, 100)
        assert claim is not None
        assert claim.missing == []  # nothing is opened for writing
        known.close()


def test_no_descriptor_open_for_writing_survives_publishing(opened: Open, store: Path) -> None:
    partial, late = opened().create(header()), opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert late is not None
    claim = partial.claim(0, 100)
    assert claim is not None
    claim.write(memoryview(content_of(100)), 0, record=True, watch=None)
    assert late.claim(0, 100) is not None  # all is there: it writes nothing
    assert not late.take_over()
    assert len(open_for_writing(store)) == 1
    claim.release()
    assert open_for_writing(store) == []
    assert partial.take_over()

    assert late.claim(0, 100) is not None
    entity = partial.publish(PUBLISHED)

    assert open_for_writing(store) == []
    assert entity.size == 100
    partial.close()
    assert late.take_over()
    assert late.publish(PUBLISHED) == entity  # it came second: the file is this one
    late.close()


def test_who_waited_for_a_range_finds_the_upload_ended_when_it_is_published(opened: Open, store: Path) -> None:
    partial, late = opened().create(header()), opened().partials.find(slot("a/b.jpg"), "session", TOKEN)
    assert late is not None
    claim = partial.claim(0, 100)
    assert claim is not None
    assert late.claim(10, 20) is None
    claim.write(memoryview(content_of(100)), 0, record=True, watch=None)
    claim.release()

    published(partial)

    waited = late.claim(10, 20)  # nothing is missing, so nothing is opened
    assert waited is not None
    assert waited.missing == []
    assert open_for_writing(store) == []
    late.close()


def test_an_upload_that_loses_the_path_goes(shelf: Shelf) -> None:
    partial = shelf.begin(header(), (0, 100))
    taken = shelf.storage.stage(slot("a/b.jpg"))
    taken.write(memoryview(b"faster"))
    shelf.storage.on_published = lambda path: None
    taken.publish(Metadata("text/plain"))
    taken.discard()

    assert partial.take_over()
    with pytest.raises(FileExists):
        partial.publish(PUBLISHED)

    partial.close()
    assert shelf.read() == (b"faster", Metadata("text/plain"))
    assert shelf.names() == []
    assert not shelf.partials.knows_token(TOKEN)


@pytest.mark.parametrize("staging", ["anonymous", "named"])
@pytest.mark.parametrize("is_small", [True, False])
def test_a_plain_put_that_is_published_removes_the_slots_partials_even_under_a_writer(
    opened: Open, monkeypatch: pytest.MonkeyPatch, is_small: bool, staging: str
) -> None:
    if staging == "named":
        monkeypatch.setattr(StagingArea, "_can_link_anonymous", lambda self: False)
    shelf = opened()
    writer, other = shelf.create(header()), shelf.begin(header("token-of-client-2"), (0, 50))
    claim = writer.claim(0, 100)
    assert claim is not None
    claim.write(memoryview(bytes(10)), 0, record=True, watch=None)
    elsewhere = shelf.begin(header("token-of-client-3", path="a/c.jpg"), (0, 5))

    if is_small:
        opened().storage.store(slot("a/b.jpg"), bytearray(b"plain"), Metadata("text/plain"))
    else:
        staged = opened().storage.stage(slot("a/b.jpg"))
        staged.write(memoryview(b"plain"))
        staged.publish(Metadata("text/plain"))
        staged.discard()

    assert claim.write(memoryview(bytes(10)), 10, record=True, watch=None)
    claim.release()
    with pytest.raises(UploadGone):
        writer.claim(0, 100)
    for partial in (writer, other):
        assert partial.take_over()
        with pytest.raises(UploadGone):
            partial.publish(PUBLISHED)
        partial.close()
    elsewhere.close()
    assert shelf.read() == (b"plain", Metadata("text/plain"))
    assert shelf.left(path="a/b.jpg") is None
    assert shelf.left("token-of-client-3", path="a/c.jpg") == [(0, 5)]
    assert len(shelf.names()) == 3


# --- crashes while publishing ---


@pytest.mark.parametrize("durability", ["none", "full"])
@pytest.mark.parametrize("face", ["session", "tus"])
def test_after_a_crash_at_any_call_the_file_is_published_once_and_whole(
    opened: Open, wall: Wall, tmp_path: Path, each_keeper: dict[str, Any], face: str, durability: str
) -> None:
    secrets: list[str] = []

    def prepare(store: Path) -> Callable[[], object]:
        shelf = opened(store, durability=durability, **each_keeper)
        secrets.append(TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg")))
        shelf.begin(header(secrets[-1], face=face), (0, 100)).close()
        shelf.begin(header("token-of-client-2"), (0, 10)).close()

        def publish() -> None:
            found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
            assert found is not None
            published(found)

        return publish

    expected = content_of(100), PUBLISHED if face == "session" else Metadata(TYPE)
    for calls, store in each_death(tmp_path, prepare):
        shelf = opened(store, **each_keeper)
        is_there = (store / "a/b.jpg").exists()
        if is_there:
            assert shelf.read() == expected, f"after {calls} calls"
        found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
        assert found is not None or is_there
        if found is not None and found.look().state is State.OPEN:
            published(found)
        elif found is not None:
            found.close()
        assert shelf.read() == expected, f"after {calls} calls"
        wall.time = time.time() + TTL + 10
        shelf.partials.sweep()
        assert shelf.names() == [], f"after {calls} calls"
        assert (store / "a/b.jpg").stat().st_nlink == 1, f"after {calls} calls"
        wall.time = time.time()
    assert calls > 8


@contextmanager
def failing(nth: int) -> Iterator[list[str]]:
    """The n-th call that changes the disk fails; the names of those that were made."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == nth:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGING:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        yield made


@pytest.mark.parametrize("face", ["session", "tus"])
def test_after_an_error_of_any_call_the_file_is_published_once_and_whole_or_never(
    opened: Open, tmp_path: Path, each_keeper: dict[str, Any], face: str
) -> None:
    expected = content_of(100), PUBLISHED if face == "session" else Metadata(TYPE)
    for nth in count(1):
        shelf = opened(tmp_path / f"store-{nth}", durability="full", **each_keeper)
        secret = TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg"))
        partial = shelf.begin(header(secret, face=face), (0, 100))
        assert partial.take_over()

        with failing(nth) as made:
            try:
                entity = partial.publish(expected[1])
            except StorageFailed:
                entity = None
        partial.close()

        found = shelf.partials.find(slot("a/b.jpg"), face, secret)
        if entity is None and found is None:
            assert made[nth - 1].startswith("fsync"), (
                f"call {nth} was {made[nth - 1]}"
            )  # what a failed sync lost is not known
            assert not (shelf.store / "a/b.jpg").exists()
            assert not list(shelf.store.rglob("*.part"))
            continue
        if entity is None:
            assert found is not None
            published(found)
        elif found is not None:
            found.close()
        assert shelf.read() == expected, f"call {nth} was {made[-1]}"
        if len(made) < nth:
            break
    assert nth > 8


@pytest.mark.parametrize("face", ["session", "tus"])
def test_a_reboot_after_a_crash_while_publishing_opens_the_published_file_to_nobody(
    opened: Open, tmp_path: Path, face: str
) -> None:
    secrets: list[str] = []

    def prepare(store: Path) -> Callable[[], object]:
        shelf = opened(store, durability="full")
        secrets.append(TOKEN if face == "session" else shelf.partials.new_id(slot("a/b.jpg")))
        shelf.begin(header(secrets[-1], face=face), (0, 100)).close()

        def publish() -> None:
            found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
            assert found is not None
            published(found)

        return publish

    for calls, store in each_death(tmp_path, prepare):
        shelf = opened(store, durability="full", boot=7)
        if not (store / "a/b.jpg").exists():
            continue
        found = shelf.partials.find(slot("a/b.jpg"), face, secrets[-1])
        if found is not None:
            try:
                write(found, 0, 100, b"x" * 100)
            except RequestError:
                pass  # refused is right as well
            found.close()
        assert shelf.read()[0] == content_of(100), f"after {calls} calls"


@pytest.mark.parametrize("call", ["fsync", "open", "link"])
def test_an_upload_whose_slot_is_published_while_it_is_about_to_get_its_name_is_gone(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    shelf.storage.syncs_files = True
    partial = shelf.begin(header(), (0, 100))
    assert partial.take_over()
    real, calls = getattr(os, call), count()
    turn = 1 if call == "open" else 0  # the first one opens the data, the second one its folder

    def meanwhile(*args: Any, **options: Any) -> Any:
        if next(calls) == turn:
            shelf.storage.store(slot("a/b.jpg"), bytearray(b"faster"), Metadata("text/plain"))
        return real(*args, **options)

    monkeypatch.setattr(os, call, meanwhile)
    with pytest.raises(UploadGone):
        partial.publish(PUBLISHED)
    monkeypatch.undo()

    partial.close()
    assert shelf.read() == (b"faster", Metadata("text/plain"))
    assert shelf.names() == []
