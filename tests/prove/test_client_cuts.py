"""Every client through every cut: 20 MiB in requests of 256 KiB, the same in one request, and 100 MiB once."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.cuts import (
    CHUNK,
    SIZE,
    Cut,
    Measured,
    Source,
    anywhere,
    around,
    make_source,
    many_at_once,
    upload_through,
)
from tests.clients.fleet import VARIANTS, Fleet, Variant
from tests.prove.tables import write_table
from tests.support.cutting import Kind
from tests.support.http import MIB
from tests.support.server import Server

LARGE = 100 * MIB
RANDOM = 50


@dataclass
class Tally:
    """What became of the uploads of one client."""

    good: list[Measured] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def row(self, name: str) -> tuple[object, ...]:
        resumed = max((each.resumed for each in self.good), default=0)
        again = max((each.again for each in self.good), default=0)
        return name, len(self.good) + len(self.bad), len(self.bad), resumed, again


def one_cut_each(seed: int) -> Iterator[Cut]:
    """Every boundary of interest and random bytes between them, the kinds of cuts in turn."""
    places = around(SIZE, CHUNK, ["first", "second", "middle", "last", "end"]) + anywhere(SIZE, RANDOM, seed)
    kinds = itertools.islice(itertools.cycle(Kind), seed, None)
    return (Cut((place,), kind, title) for (title, place), kind in zip(places, kinds, strict=False))


def sweep(server: Server, fleet: Fleet, variant: Variant, small: Source, large: Source, seed: int) -> Tally:
    tally = Tally()
    uploads = [(small, cut, CHUNK) for cut in one_cut_each(seed)]
    uploads += [(small, many_at_once(kind, SIZE, seed), SIZE) for kind in Kind]
    uploads += [(large, many_at_once(Kind.SILENT, LARGE, seed), CHUNK)]
    for source, cut, chunk in uploads:
        try:
            tally.good.append(upload_through(server, fleet, variant, source, cut, chunk))
        except AssertionError as error:  # the others are worth knowing too
            tally.bad.append(f"{variant} {source.size} bytes, {cut} at {cut.places}: {error}")
    return tally


def test_every_client_uploads_the_right_file_through_every_cut(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("small", "large", "server", "fleet")}
    for folder in folders.values():
        folder.mkdir()
    small, large = make_source(folders["small"], SIZE), make_source(folders["large"], LARGE)

    with Server(folders["server"], ChunkSize=CHUNK) as server, Fleet(folders["fleet"]) as fleet:
        tallies = {
            variant.name: sweep(server, fleet, variant, small, large, seed) for seed, variant in enumerate(VARIANTS)
        }
    columns = ("client", "uploads", "failed", "asked where to go on, at most", "bytes sent again, at most")
    rows = [tally.row(name) for name, tally in tallies.items()]
    write_table("client-cuts", "Uploads through cuts", columns, rows)

    assert [line for tally in tallies.values() for line in tally.bad] == []
