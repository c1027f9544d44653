"""Every client through every cut: 20 MiB in pieces of 256 KiB, and 100 MiB once."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.cuts import CHUNK, SIZE, Cut, Measured, Source, anywhere, around, make_source, upload_through
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


def large_cut(seed: int) -> Cut:
    places = around(LARGE, CHUNK, ["first", "middle", "end"], [0]) + anywhere(LARGE, 7, seed)
    return Cut(tuple(sorted(place for _, place in places)), Kind.SILENT, "large")


def sweep(server: Server, fleet: Fleet, variant: Variant, small: Source, large: Source, seed: int) -> Tally:
    tally = Tally()
    uploads = [(small, cut) for cut in one_cut_each(seed)] + [(large, large_cut(seed))]
    for source, cut in uploads:
        try:
            tally.good.append(upload_through(server, fleet, variant, source, cut))
        except AssertionError as error:  # the others are worth knowing too
            tally.bad.append(f"{variant} {source.size} {cut}: {error}")
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
    columns = ("client", "uploads", "wrong", "asked where to go on, at most", "bytes sent again, at most")
    rows = [tally.row(name) for name, tally in tallies.items()]
    write_table("client-cuts", "Uploads through cuts: 20 MiB in requests of 256 KiB, and 100 MiB", columns, rows)

    assert [line for tally in tallies.values() for line in tally.bad] == []
