"""Clients that others wrote, and our two examples: whatever breaks on the way, the file comes out right."""

import itertools

import pytest

from tests.clients.cuts import CHUNK, SIZE, Cut, Source, anywhere, around, many_at_once, upload_through
from tests.clients.fleet import VARIANTS, Fleet, Variant
from tests.support.cutting import Kind
from tests.support.server import Server

_PLACES = [
    *around(SIZE, CHUNK, ["first"]),
    *around(SIZE, CHUNK, ["middle", "end"], [0]),
    *anywhere(SIZE, 3, seed=1),
]
CUTS = [Cut((place,), kind, title) for (title, place), kind in zip(_PLACES, itertools.cycle(Kind), strict=False)]


def _one_of_each_kind(number: int) -> list[Cut]:
    """For one client; all clients together meet every place. Every client at every place is make prove."""
    kinds = [[cut for cut in CUTS if cut.kind is kind] for kind in Kind]
    return [cuts[number % len(cuts)] for cuts in kinds]


MEETINGS = [(variant, cut) for number, variant in enumerate(VARIANTS) for cut in _one_of_each_kind(number)]


@pytest.mark.parametrize(("variant", "cut"), MEETINGS, ids=str)
def test_an_upload_goes_on_behind_a_cut(
    server: Server, fleet: Fleet, source: Source, variant: Variant, cut: Cut
) -> None:
    measured = upload_through(server, fleet, variant, source, cut)

    assert measured.again <= 2 * CHUNK  # a browser sends a request again on its own account before Uppy hears of it


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_an_upload_in_one_request_goes_on_behind_many_cuts(
    server: Server, fleet: Fleet, source: Source, variant: Variant
) -> None:
    cut = many_at_once(Kind.SILENT, SIZE, seed=2)  # the hardest kind: the server does not know that the client is gone

    measured = upload_through(server, fleet, variant, source, cut, chunk=SIZE)

    assert measured.resumed > 0
