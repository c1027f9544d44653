"""Keys whose effect is what a worker asks of the kernel: how much at once, and what is to be on the disk."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.http import MIB, put
from tests.support.polling import until
from tests.support.running import begin_upload
from tests.support.server import Server
from tests.support.watching import watched

CHUNK, BUFFER = 16 * 1024, 8 * 1024
DEFAULT_BUFFER = 64 * 1024
_MARK = re.compile(r"SO_RCVLOWAT, \[(\d+)\]")
_SYNCED = re.compile(r"sync\(\d+<([^>]*)>")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("small")
    with Server(folder, ChunkSize=CHUNK, BufferSize=BUFFER, Durability="data") as running:
        yield running


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("careless"), Durability="none") as running:
        yield running


def writes_of(server: Server, folder: Path) -> list[int]:
    """Bytes of each write into the file of one upload of 4 MiB."""
    with watched(server.worker(), ["pwrite64"], folder) as calls:
        assert put(server, "written/file", bytes(4 * MIB)).status == 201
    ours = [line for line in calls() if f"<{server.store_dir}/.hmacfs/staging/" in line]
    return [int(line.rpartition(" = ")[2]) for line in ours]


def test_chunk_size_is_the_most_that_is_written_at_once(
    small: Server, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    in_chunks, by_default = (writes_of(each, tmp_path_factory.mktemp("calls")) for each in (small, server))

    assert sum(in_chunks) == sum(by_default) == 4 * MIB
    assert max(in_chunks) == CHUNK
    assert max(by_default) > CHUNK


def mark_of(server: Server, folder: Path) -> set[int]:
    """How many bytes of a body that pauses the kernel is to wait for before it wakes the worker."""
    with watched(server.worker(), ["setsockopt"], folder) as calls, ExitStack() as stack:
        begin_upload(server, stack, "awaited/file", 2 * MIB)

        def marks() -> set[int]:
            found = (_MARK.search(line) for line in calls())
            return {int(match[1]) for match in found if match} - {1}  # 1 is for the head of the next request

        return until(marks, "the worker waits for more of the body")


def test_buffer_size_is_the_least_that_wakes_a_worker(
    small: Server, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    marks = [mark_of(each, tmp_path_factory.mktemp("calls")) for each in (small, server)]

    assert marks == [{BUFFER}, {DEFAULT_BUFFER}]


def synced_by(server: Server, folder: Path) -> set[str]:
    """What is synced for one upload: "file", and folders of the store."""
    with watched(server.worker(), ["fsync", "fdatasync"], folder) as calls:
        assert put(server, "synced/file", b"content").status == 201
    paths = [match[1] for line in calls() if (match := _SYNCED.search(line))]
    found = {os.path.relpath(path, server.store_dir) for path in paths}
    return {"file" if name.startswith(".hmacfs/staging/") else name for name in found if not name.startswith("..")}


def test_durability_is_what_is_synced(
    server: Server, small: Server, careless: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    full, data, none = (synced_by(each, tmp_path_factory.mktemp("calls")) for each in (server, small, careless))

    assert full == {"file", "synced", "."}
    assert data == {"file"}
    assert none == set()
