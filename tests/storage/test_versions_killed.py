"""A PUT over an existing path is killed, with -9, as it enters each of its system calls: everything stays whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hmacfs.storage import storedir
from tests.support.tracing import killed_at_each_call
from tests.support.versioned import Archive, content_of, opened

BEFORE = ("n0", "n1", "n2")


def over_an_existing_path(in_blocks: bool, **options: Any) -> Callable[[Path], Callable[[], object]]:
    """The last of three files of a path is replaced by one more; two versions are kept."""
    before: list[Archive] = []

    def prepare(store: Path) -> Callable[[], object]:
        while before:
            before.pop().close()
        archive = Archive(store, most=2, **options)
        before.append(archive)
        for name in BEFORE:
            archive.put(content_of(name, 70_000 if in_blocks else 100), in_blocks=in_blocks)
        content = content_of("cut", 70_000 if in_blocks else 100)

        def job() -> object:
            return archive.put(content, in_blocks=in_blocks)

        return job

    return prepare


def check_one_store(store: Path, **options: Any) -> str:
    """Everything is whole, a restart repairs, and the next PUT has its due; which file was current."""
    storedir.sweep_leftovers(str(store))
    with opened(store, most=2, **options) as archive:
        old, current = archive.names()
        assert archive.staged() == []
        assert [*old, current] in (["n0", "n1", "n2"], ["n0", "n1", "n2", "cut"], ["n1", "n2", "cut"])

        archive.put(content_of("next"))

        assert archive.names() == ((["n1", "n2"] if current == "n2" else ["n2", "cut"]), "next")
        assert len(archive.version_files()) == 2
    return current


def check_each(tmp_path: Path, *, in_blocks: bool, **options: Any) -> None:
    outcomes = []
    for _, store in killed_at_each_call(tmp_path / "stores", over_an_existing_path(in_blocks, **options)):
        outcomes.append(check_one_store(store, **options))

    assert len(outcomes) > 60
    assert set(outcomes) == {"n2", "cut"}


def test_a_put_killed_at_any_system_call_leaves_everything_whole(tmp_path: Path) -> None:
    check_each(tmp_path, in_blocks=False, durability="full")


@pytest.mark.parametrize("calls", [frozenset(("linkat", "renameat", "rename", "unlinkat", "fsync"))])
def test_the_calls_that_change_the_store_are_among_those_that_were_cut(tmp_path: Path, calls: frozenset[str]) -> None:
    """A large file, in blocks: only where it may matter. All of its calls are cut by make prove."""
    seen = set()
    prepare = over_an_existing_path(True, durability="full")

    for call, store in killed_at_each_call(tmp_path / "stores", prepare, calls):
        seen.add(call)
        check_one_store(store, durability="full")

    assert seen == {"", *calls}
