"""Deleting a file for somebody who has signed for it (protocol, section 3, DELETE)."""

from collections.abc import Callable

from hmacfs.core.paths import SlotPath
from hmacfs.errors import Gone, NotFound, RequestError
from hmacfs.services.authority import Authority, DeletionRequest
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import Retries
from hmacfs.storage.base import Entity, Graves, Storage

REASON = "DELETE"
"""What the log says of a file that went for who signed for it."""


class Deletions:
    """The use case of DELETE.

    Args:
        graves: remember that the path is gone, so that a replayed PUT does not bring the file back.
        check_rate: raises TooManyRequests for an address that came too often; None while that is off.
        observer: told of what was deleted.
    """

    def __init__(
        self,
        storage: Storage,
        authority: Authority,
        recorder: Recorder,
        graves: Graves,
        retries: Retries,
        check_rate: Callable[[str], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._recorder = recorder
        self._graves = graves
        self._retries = retries
        self._check_rate = check_rate
        self._observer = observer or Observer()

    @property
    def are_possible(self) -> bool:
        """Whether anybody could sign one: EnableV3 or DeleteSecret."""
        return bool(self._authority.accepts_deleting)

    def delete(self, request: DeletionRequest) -> None:
        """Remove the file; who reads it goes on. When this returns, that is durable (as configured).

        Raises:
            BadSignature, TooManyRequests.
            NotFound: there is no such file.
            StorageFailed, StorageBusy: the file could not be removed; its path is as it was.
        """
        self._authority.check_deletion(request)
        if self._check_rate is not None:
            self._check_rate(request.client)
        path = request.path
        try:
            stored = self._retries.run(self._storage.open, path, with_content=False)
            stored.close()
        except Gone:
            raise NotFound from None  # 410 is for GET and PUT alone (protocol, section 3)
        is_new = self._graves.bury(path)  # first: a crash in between must not leave the way open for a replay
        try:
            deleted = self._storage.delete(path)
        except RequestError:
            if is_new:
                self._take_back(path, stored.entity)
            raise
        if not is_new:
            self._graves.bury(path)  # whoever made the grave may have taken it back
        if deleted is None:
            raise NotFound
        self._recorder.file_deleted(path.raw.decode())
        for version in deleted.versions:
            self._observer.file_removed(str(path), version.size, REASON, version.number, request.client)
        self._observer.file_removed(str(path), deleted.size, REASON, 0, request.client)

    def _take_back(self, path: SlotPath, entity: Entity) -> None:
        """Our grave goes where the file has stayed. Nothing is raised: why it has stayed is what is told."""
        try:
            if self._is_there(path, entity):
                self._graves.exhume(path)
                if not self._is_there(path, entity):  # somebody else has removed it meanwhile
                    self._graves.bury(path)
        except RequestError:
            pass

    def _is_there(self, path: SlotPath, entity: Entity) -> bool:
        try:
            stored = self._storage.open(path, with_content=False)
        except (Gone, NotFound):
            return False
        stored.close()
        return stored.entity == entity
