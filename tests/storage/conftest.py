"""Stores, and unfinished uploads in them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.offload import InlinePool
from hmacfs.storage import beneath, storedir
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.metadata import Attributes
from hmacfs.storage.staging import StagingArea
from tests.storage import localstore
from tests.storage.localstore import Make, put_at_once
from tests.storage.partialstore import Open, Wall
from tests.support.resuming import Shelf, open_for_writing


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def make(store: Path) -> Iterator[Make]:
    """Makes storages on one store; their descriptors are closed at the end."""
    made: list[LocalStorage] = []

    def build(**options: Any) -> LocalStorage:
        storedir.prepare(str(store))
        given: dict[str, Any] = {"durability": "none", "file_mode": 0o640, "dir_mode": 0o750, **options}
        made.append(LocalStorage(str(store), InlinePool(), **given))
        return made[-1]

    yield build
    for storage in made:
        os.close(storage._root)
        os.close(storage.staging.fd)


@pytest.fixture(params=["openat2", "segments"])
def each_opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "segments":
        monkeypatch.setattr(beneath, "_opener", beneath._open_segments)
        monkeypatch.setattr(beneath, "_has_cached_lookup", False)
    elif beneath._opener is not beneath._openat2:
        pytest.skip("this kernel or sandbox has no openat2")


@pytest.fixture(params=["anonymous", "named"])
def each_staging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "named":
        monkeypatch.setattr(StagingArea, "_can_link_anonymous", lambda self: False)


@pytest.fixture(params=["in blocks", "at once"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``put`` goes either way: staged block by block, or stored in one job as small files are."""
    if request.param == "at once":
        monkeypatch.setattr(localstore, "_put", put_at_once)


@pytest.fixture(params=["attributes", "sidecars"])
def storage(
    request: pytest.FixtureRequest, make: Make, each_opener: None, each_staging: None, each_way: None
) -> LocalStorage:
    """A storage of every kind: both openers, both ways of staging and of writing, both places for metadata."""
    if request.param == "sidecars":
        return make(use_attributes=False)
    found = make()
    if not isinstance(found._keeper, Attributes):
        pytest.skip("this filesystem has no extended attributes")
    return found


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def opened(store: Path, wall: Wall) -> Iterator[Open]:
    """Opens the store; each call is as another process would. Nothing stays open for writing."""
    made: list[Shelf] = []

    def build(where: Path = store, **options: Any) -> Shelf:
        made.append(Shelf(where, wall=wall, **options))
        return made[-1]

    yield build
    for shelf in made:
        shelf.close()
    assert open_for_writing(store) == []


@pytest.fixture
def shelf(opened: Open) -> Shelf:
    return opened()


@pytest.fixture(params=["attributes", "sidecars"])
def each_keeper(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a shelf: where what a file remembers is kept."""
    return {"use_attributes": None if request.param == "attributes" else False}
