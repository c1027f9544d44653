"""Houses of uploads that go on, and gates at which nobody really waits."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hmacfs.services import gate
from tests.services.gates import ScriptedEvent
from tests.services.resuming import House, Make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds the use cases; whatever a test does, everything that was taken is given back at its end."""
    made: list[House] = []

    def build(store: Path = tmp_path / "store", **options: Any) -> House:
        made.append(House(store, **options))
        return made[-1]

    yield build
    for house in made:
        house.close()


@pytest.fixture
def house(make: Make) -> House:
    return make()


@pytest.fixture
def live(make: Make) -> House:
    """Time passes by itself, for requests in threads."""
    return make(is_live=True)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedEvent]:
    """What happens while the next ones wait: one deed each."""
    monkeypatch.setattr(gate, "threading", SimpleNamespace(Event=ScriptedEvent))
    monkeypatch.setattr(ScriptedEvent, "deeds", [])
    monkeypatch.setattr(ScriptedEvent, "waited", [])
    return ScriptedEvent
