"""Any sequence of requests, cuts, kills and restarts, in this process: the model and the server agree on all of it."""

import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from hmacfs.core import upload
from tests.machine.house import House
from tests.machine.machine import MOST_GAPS, SlotMachine
from tests.machine.model import MOST_SESSIONS, TTL

EXAMPLES, STEPS = int(__import__("os").environ.get("EX", "120")), 40


class HouseMachine(SlotMachine):
    """Against the application in this process."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._gaps = mock.patch.object(upload, "MAX_GAPS", MOST_GAPS)
        self._gaps.start()

    def driver_for(self, *, in_any_order: bool) -> House:
        self.house = House(
            Path(self._folder.name),
            chunking_enabled=in_any_order,
            chunk_size=4096,
            buffer_size=4096,
            session_ttl=TTL,
            max_sessions_per_slot=MOST_SESSIONS,
        )
        return self.house

    @rule(power_cut=st.booleans())
    def restart(self, power_cut: bool) -> None:
        self.house.restart(power_cut=power_cut)
        if power_cut:
            for each in self.model.uploads:
                each.content.doubt()

    @rule()
    def sweep(self) -> None:
        self.house.sweep()

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.close()
        self._gaps.stop()
        self._folder.cleanup()


class TestInThisProcess(HouseMachine.TestCase):
    settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
