"""Numbers of a store for people."""

from pathlib import Path

from hmacfs.core.wallclock import Moment, Stock, Swept
from hmacfs.storage import figures
from hmacfs.storage.storedir import prepare
from hmacfs.storage.sweepfile import SweepFile


def test_they_say_what_is_free_what_goes_on_and_what_the_last_sweep_noted(tmp_path: Path) -> None:
    prepare(str(tmp_path))
    slot = tmp_path / ".hmacfs" / "partials" / "ab" / "abcdef"
    slot.mkdir(parents=True)
    for name in ("one.part", "one.log", "two.part", "over.log"):
        (slot / name).touch()
    (tmp_path / ".hmacfs" / "partials" / "tokens").mkdir()
    (tmp_path / ".hmacfs" / "partials" / "tokens" / "x.part").touch()
    stock = Stock(files=7, stored=700, versions=2, counted_ms=5)
    SweepFile(str(tmp_path)).save(Swept(Moment(1.0, 2.0, 3), stock=stock))

    found = figures.of_store(str(tmp_path))

    assert found.sessions == 2
    assert found.stock == stock
    assert found.free > 0


def test_a_store_that_was_never_swept_and_knows_no_sessions_has_none(tmp_path: Path) -> None:
    prepare(str(tmp_path))

    found = figures.of_store(str(tmp_path))

    assert (found.sessions, found.stock) == (0, Stock())
