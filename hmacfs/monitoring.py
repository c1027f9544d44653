"""Settings to what is told of this server beside its answers: audit log, status line, garbage collections."""

import time

from hmacfs.services.collector import Collector
from hmacfs.services.observer import Observer
from hmacfs.services.observers import Observers
from hmacfs.settings import Settings
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.telemetry.audit import AuditObserver
from hmacfs.telemetry.monitor import Monitor


class Watch:
    """This worker's part in it.

    Args:
        observer: told of everything; ``observer`` of the new object is to be told from then on.
        board: shared with the other workers.
    """

    def __init__(self, settings: Settings, observer: Observer, board: Scoreboard) -> None:
        self._monitor = Monitor(settings.monitor_interval, board, time.monotonic)
        audit = (AuditObserver(),) if settings.audit_log else ()
        self.observer: Observer = Observers((observer, self._monitor, *audit))
        self._collector = Collector(settings.gc_interval, self.observer, time.monotonic)

    def start(self) -> None:
        """The application is made, and serves from now on."""
        self._collector.freeze()

    def tick(self) -> None:
        """Call it once a second in the worker's loop."""
        self._monitor.tick()
        self._collector.tick(self._monitor.requests)
