"""Sharing equal content behind the answers, one file at a time in each process."""

import queue
import threading

from hmacfs.core.paths import SlotPath
from hmacfs.errors import RequestError
from hmacfs.services.observer import Observer
from hmacfs.storage.base import Entity, Metadata, SharedContent

MOST_WAITING = 1000
"""Files that wait; one more is left alone, as if nothing were equal to it."""

_LOOK_SECONDS = 1.0


class Deduplicator:
    """Shares published files from a thread of its own (under gevent: a greenlet); the disk pool does the work."""

    def __init__(self, content: SharedContent, observer: Observer) -> None:
        self._content = content
        self._observer = observer
        self._waiting: queue.Queue[tuple[SlotPath, Entity, Metadata]] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def published(self, path: SlotPath, entity: Entity, metadata: Metadata) -> None:
        """A file was published; never waits."""
        try:
            self._waiting.put_nowait((path, entity, metadata))
        except queue.Full:
            pass

    def start(self) -> None:
        """Begin. Twice is harmless."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deduplicator", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """What waits is left alone; what runs may be cut anywhere."""
        self._ending.set()

    def share_waiting(self) -> None:
        """Share every file that waits now."""
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._share(*item)

    def _share(self, path: SlotPath, entity: Entity, metadata: Metadata) -> None:
        try:
            saved = self._content.share(path, entity, metadata)
        except RequestError as error:  # a full or failing disk: the file stays as it is
            self._observer.sharing_failed(str(path), error)
            return
        if saved:
            self._observer.content_shared(str(path), saved)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                item = self._waiting.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            self._share(*item)
