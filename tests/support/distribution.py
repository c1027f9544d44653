"""Which tests of ``pytest -n`` run in one process, and in which order: what takes long begins first."""

from collections.abc import Sequence

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/install/",)
"""Folders whose files share what takes longer than any test of them: the clone that is installed."""

FIRST = ("install", "live", "clients", "cli", "machine", "state", "", "storage")
"""Folders of tests that start processes; "" is tests/ itself. The rest is quick, and nobody is idle at the end."""


def place_of(nodeid: str) -> int:
    """What a test is sorted by; tests of one place stay in the order in which they were found."""
    folder = nodeid.split("/")[1] if nodeid.count("/") > 1 else ""
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    return sorted(items, key=lambda item: place_of(item.nodeid))


class Scheduling(LoadFileScheduling):
    """A file's tests stay together, and a folder's of ``TOGETHER``; the next to be run is the next in order."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False  # xdist puts what has most tests first: the long ones have few
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))
