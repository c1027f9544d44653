"""Uploads through cuts: where to cut, and what must hold behind every one."""

import hashlib
import itertools
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.fleet import Fleet, Variant
from tests.clients.jobs import Job
from tests.support.cutting import CuttingProxy, Kind
from tests.support.http import MIB, Connection, head_of, query_of, url_of
from tests.support.polling import until
from tests.support.server import Server

CHUNK = 256 * 1024
SIZE = 20 * MIB
NAME = "Köln 1+1.bin"
TYPE = "application/x-cut; charset=utf-8"

_numbers = itertools.count()


@dataclass(frozen=True)
class Cut:
    """Where and how one upload is cut. ``places`` are counts of body bytes over all its requests, ascending."""

    places: tuple[int, ...]
    kind: Kind
    title: str

    def __str__(self) -> str:
        return f"{self.title}-{self.kind.value}"


@dataclass(frozen=True)
class Source:
    """A file to upload."""

    path: Path
    size: int
    digest: bytes


@dataclass(frozen=True)
class Measured:
    """Of an upload whose file is right.

    Attributes:
        resumed: how often the client asked where to go on.
        again: bytes that were sent more than once.
    """

    resumed: int
    again: int


def make_source(folder: Path, size: int) -> Source:
    """A file of ``size`` bytes that look random and are the same each time."""
    path = folder / NAME
    content = random.Random(size).randbytes(size)
    path.write_bytes(content)
    return Source(path, size, hashlib.sha256(content).digest())


def boundaries(size: int, chunk: int) -> dict[str, int]:
    """The boundaries of chunks that are of interest; the last one is the end of the file."""
    count = size // chunk
    return {"first": chunk, "second": 2 * chunk, "middle": count // 2 * chunk, "last": (count - 1) * chunk, "end": size}


def around(size: int, chunk: int, names: Sequence[str], steps: Sequence[int] = (-1, 0, 1)) -> list[tuple[str, int]]:
    """Title and place of the bytes at and beside boundaries, as far as the file has them."""
    found = boundaries(size, chunk)
    return [
        (f"{name}{step:+d}" if step else name, found[name] + step)
        for name in names
        for step in steps
        if found[name] + step <= size
    ]


def anywhere(size: int, count: int, seed: int) -> list[tuple[str, int]]:
    """Random places, the same for the same seed."""
    chosen = random.Random(seed)
    return [(f"byte-{place}", place) for place in (chosen.randrange(1, size) for _ in range(count))]


def many_at_once(kind: Kind, size: int, seed: int) -> Cut:
    """One upload through many cuts: beside boundaries, behind the last byte, and anywhere."""
    places = around(size, CHUNK, ["first", "middle", "end"]) + anywhere(size, 5, seed)
    return Cut(tuple(sorted(place for _, place in places)), kind, "many")


def upload_through(
    server: Server, fleet: Fleet, variant: Variant, source: Source, cut: Cut, chunk: int = CHUNK
) -> Measured:
    """Upload through a proxy that cuts; AssertionError unless the right file, and it alone, is there afterwards."""
    client = fleet[variant.program]
    path = f"{variant}/{next(_numbers)}/{NAME}"
    target = f"{url_of(server, path)}?{query_of(server, path, source.size, TYPE, variant.protocol)}"
    memory = source.path.parent / f"{path.replace('/', '-')}.memory"
    before = set(data_files(server))  # of an upload that failed, and may still be resumed

    with CuttingProxy(server.address, cut.places, cut.kind) as proxy:
        url = "http://{}:{}{}".format(*proxy.address, target)
        job = Job(url, str(source.path), TYPE, chunk, str(memory), variant.restart, variant.checksum)
        outcome = client.run(job)
        memory.unlink(missing_ok=True)

        assert not proxy.pending, f"never came to {list(proxy.pending)}"
        assert outcome.bytes == source.size
        check_stored(server, path, source)
        check_nothing_left(server, before)
    (server.store_dir / path).unlink()
    return Measured(outcome.resumed, proxy.forwarded - source.size)


def check_stored(server: Server, path: str, source: Source) -> None:
    """The slot serves the file, byte for byte and with the type that was signed."""
    digest = hashlib.sha256()
    with Connection(server.address) as connection:
        connection.send(head_of("GET", url_of(server, path)))
        answer = connection.read_head()
        assert answer.status == 200
        for block in connection.blocks(int(answer["Content-Length"])):
            digest.update(block)
    assert (int(answer["Content-Length"]), digest.digest()) == (source.size, source.digest)
    assert answer["Content-Type"] == TYPE


def check_nothing_left(server: Server, before: set[str]) -> None:
    """The upload's data is soon gone from the private folder, and no file of the store is open any more.

    Args:
        before: what was there before the upload.
    """
    try:
        until(lambda: before.issuperset(data_files(server)), "nothing is left of the upload")
    except AssertionError as error:
        raise AssertionError(f"left behind: {set(data_files(server)) - before}") from error


def data_files(server: Server) -> list[str]:
    """Data files in the store's private folder, and files open anywhere in the store.

    Journals (.log) and their second names in ``tokens`` stay until SessionTTL: they let HEAD and Ask answer after
    publication. Locks are empty, and what a sweep notes (sweep.json) belongs to no upload.
    """
    found = server.open_store_files()
    for parent, _, files in os.walk(server.store_dir / ".hmacfs"):
        if not parent.endswith("/tokens"):
            found += [os.path.join(parent, name) for name in files if not name.endswith((".log", "lock", "sweep.json"))]
    return found
