"""What the rules draw. All of it is small and means something: a place relative to where an upload stands, a share of
what is missing, one of the tokens that there are. So a failing example shrinks to requests that a person can read."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.machine.checksums import SPELLINGS, Checksums
from tests.machine.model import TTL

TOTALS = (0, 1, 7, 4096 + 1, 70_000)
TYPES = ("application/x-first", "image/png")

Which = tuple[int, int, int]
"""Of a slot: path, total and type."""

slots: st.SearchStrategy[Which] = st.tuples(
    st.sampled_from((0, 0, 0, 1, 1, 2)), st.sampled_from((0, 0, 0, 1)), st.sampled_from((0,) * 6 + (1,))
)
picks = st.integers(0, 9)
flags = st.booleans()
kills = st.integers(0, 9).flatmap(lambda luck: st.integers(0, 40) if luck > 7 else st.none())
"""The step before which the worker is killed; mostly none."""

places = st.sampled_from((0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3.0, -1.0))
"""Where a piece begins: so many bytes from where the upload stands, or at such a share of what is missing."""

TOO_MUCH = 4.5
"""More than is missing."""

shares = st.sampled_from((1.0, 1.0, 1.0, 0.0, 1 / 3, 1 / 2, 1 / 2, 2.0, 3.0, TOO_MUCH))
"""How much of what is missing a body brings; 2 and 3: so many bytes."""

shifts = st.sampled_from((0,) * 7 + (1, -1, 7))
"""Of the offset of a PATCH from where the upload stands."""

cuts = st.sampled_from((None,) * 9 + (0.0, 1.0, 0.5, 0.5, 0.99))
"""Where a body breaks off: not at all, after so many bytes, after such a share."""

breaks = st.sampled_from((0.25, 0.5, 0.75, 0.99, 1.0))
lengths = st.sampled_from((True, True, True, False))
"""Whether Content-Length tells the length of a body."""

declared = st.sampled_from((None,) * 8 + (True, True, False))
checksums = st.builds(Checksums, piece=declared, whole=declared, spelling=st.sampled_from(SPELLINGS))
jumps = st.sampled_from((1, TTL * 2 // 5, TTL * 2 // 5, TTL * 7 // 10, TTL * 3 // 2))


@dataclass(frozen=True)
class Sending:
    """A body as it is drawn."""

    share: float
    cut: float | None
    has_length: bool
    checks: Checksums
    kill: int | None


EVERYTHING = Sending(1.0, None, True, Checksums(), None)

sendings = st.builds(Sending, share=shares, cut=cuts, has_length=lengths, checks=checksums, kill=kills)


def first_byte(place: float, offset: int, total: int) -> int:
    """Of a piece of a file that has at least one byte."""
    at = offset + (int(place) if place >= 1 or place < 0 else int((total - offset) * place))
    return at % total


def length(share: float, missing: int) -> int:
    """Of a body."""
    if share == TOO_MUCH:
        return missing + 2
    return min(missing, int(share)) if share > 1 else int(missing * share)


def cut_at(cut: float | None, size: int) -> int | None:
    """The byte of a body at which it breaks off; None for none."""
    if cut is None:
        return None
    at = int(cut) if cut >= 1 or not cut else int(size * cut)
    return at if at < size else None
