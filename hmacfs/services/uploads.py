"""Receiving a file in one piece: check the signature, collect the body where nobody sees it, publish it whole.

The order of the checks is normative (protocol, section 3): what an unsigned request may learn depends on it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from hmacfs.core import checksum
from hmacfs.core.checksum import Hasher
from hmacfs.core.paths import SlotPath
from hmacfs.errors import PreconditionFailed, RequestError, TooManySessions
from hmacfs.services.admission import Admission, Admitted
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.deduplicator import Deduplicator
from hmacfs.services.intake import Body, Clocks, Intake, Write, both
from hmacfs.services.observer import Observer
from hmacfs.services.publishing import Publishing
from hmacfs.services.quotas import Quotas
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import Retries
from hmacfs.state.base import FileRow
from hmacfs.storage.base import Entity, Metadata, Storage, Versions

SMALL = 64 * 1024
"""Up to this many bytes a file is collected in memory and stored in one job of the disk pool: a hop costs as much as
the whole work on a small file."""


class Uploads:
    """The use case of a plain PUT.

    Args:
        partials_of: how many unfinished uploads a slot has; None where uploads cannot be resumed.
        most_sessions: MaxSessionsPerSlot.
        versions: None where a file that exists is never replaced.
        deduplicator: None where equal content is not looked for.
        quotas: none unless told.
    """

    def __init__(
        self,
        storage: Storage,
        authority: Authority,
        admission: Admission,
        intake: Intake,
        observer: Observer,
        clocks: Clocks,
        recorder: Recorder,
        retries: Retries,
        partials_of: Callable[[SlotPath], int] | None = None,
        most_sessions: int = 0,
        versions: Versions | None = None,
        deduplicator: Deduplicator | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._admission = admission
        self._intake = intake
        self._observer = observer
        self._clocks = clocks
        self._recorder = recorder
        self._retries = retries
        self._partials_of = partials_of
        self._most_sessions = most_sessions
        self._versions = versions
        self._deduplicator = deduplicator
        self._quotas = quotas or Quotas()
        self.publishing = Publishing()

    @property
    def replaces(self) -> bool:
        """Whether a file that exists may be replaced (EnableVersioning)."""
        return self._versions is not None

    def receive(self, request: UploadRequest, body: Body) -> Entity:
        """Store the body under its path. When this returns, the file is durable (as configured) and GET works.

        Raises:
            RequestError: the refusal; nothing is left on disk then.
        """
        started = self._clocks.now()
        request = self._authority.proven(request)
        is_small = request.total <= SMALL and not request.must_match and not request.awaits_continue
        if not is_small:
            self.check_place(request)
        hasher = hasher_for(request, always=self._deduplicator is not None)
        try:
            with (
                self._admission.upload(request.client, request.total) as progress,
                self._quotas.held(request.path, request.total, request.uploader),
            ):
                receive = self._receive_small if is_small else self._receive_large
                entity, metadata = receive(request, body, hasher, progress)
        except RequestError as error:
            if is_small and error.status in (400, 403, 408, 429, 503, 507):
                self.check_place(request)  # "exists" comes before these; a small file asks only when it matters
            raise
        self.tell(request.path, entity, metadata, self._clocks.now() - started, request.client)
        return entity

    def tell(self, path: SlotPath, entity: Entity, metadata: Metadata, seconds: float, client: str) -> None:
        """A file was published. Its catalogue row is left to the recorder: no tier is asked on the way of an answer."""
        total = entity.size
        row = FileRow(
            path.raw.decode(),
            total,
            metadata.content_type or "",
            metadata.sha256,
            self._quotas.uploader(path, metadata.uploader),
            entity.stored_us,
            metadata.expires_at,
        )
        self._recorder.file_stored(row)
        self._quotas.settle(path, total, metadata.uploader)
        self._observer.upload_completed(str(path), total, seconds, row.uploader, client)
        if self._versions is not None:
            for gone in self._versions.pruned():
                self._observer.version_removed(str(gone.path), gone.number, gone.size, gone.freed, gone.reason)
            for size in self._versions.absorbed():
                self._observer.file_absorbed(size)
        if self._deduplicator is not None:
            self._deduplicator.published(path, entity, metadata)

    @contextmanager
    def counted(self, path: SlotPath) -> Iterator[None]:
        """A ``with`` block for a body that is large, or slow, beside the slot's partials.

        Raises:
            TooManySessions: the slot has as many of both together as it may (protocol, section 5, "Bounds").
        """
        if self._partials_of is None:
            yield
            return
        running = self._admission.enter_slot(path)
        try:
            if running + self._partials_of(path) > self._most_sessions:
                raise TooManySessions
            yield
        finally:
            self._admission.leave_slot(path)

    def check_place(self, request: UploadRequest) -> None:
        """Whether the file could be published now.

        Raises:
            FileExists, PathConflict, PreconditionFailed, TooManyVersions.
        """
        if self._versions is not None:
            self._versions.check(request.path, request.total, request.conditions)
            return
        self._storage.check_vacant(request.path)
        if request.must_match:
            raise PreconditionFailed  # RFC 9110 section 13.1.1: there is no current representation

    def check_free(self, path: SlotPath) -> None:
        """Whether an upload that is under way could still be published.

        Raises:
            FileExists, PathConflict, Gone.
        """
        if self._versions is None:
            self._storage.check_vacant(path)

    def _receive_small(
        self, request: UploadRequest, body: Body, hasher: Hasher | None, progress: Admitted
    ) -> tuple[Entity, Metadata]:
        content = bytearray()
        slow = _SlowBody(self, request.path)
        try:
            self._intake.collect(body, request.total, content.extend, slow.tick)
        finally:
            slow.leave()
        if hasher is not None:
            hasher.update(content)
        metadata = metadata_of(request, verified(hasher, request))
        watch = self._first_block(request)
        with self.publishing.of(request.path):
            entity = self._storage.store(request.path, content, metadata, request.conditions, watch=watch)
        progress.wrote(request.total)
        return entity, metadata

    def _receive_large(
        self, request: UploadRequest, body: Body, hasher: Hasher | None, progress: Admitted
    ) -> tuple[Entity, Metadata]:
        watch = both(hasher.update if hasher is not None else None, self._first_block(request))
        with self.counted(request.path):
            staged = self._retries.run(self._storage.stage, request.path)

            def write(block: memoryview) -> None:
                staged.write(block, watch)
                progress.wrote(len(block))

            try:
                self._intake.collect(body, request.total, write)
                metadata = metadata_of(request, verified(hasher, request))
                with self.publishing.of(request.path):
                    return staged.publish(metadata, request.conditions), metadata
            finally:
                staged.discard()

    def _first_block(self, request: UploadRequest) -> Write | None:
        """What judges the content, in the job that writes it."""
        judge = self._authority.policy.first_block(request.total)
        return None if judge is None else judge.update


class _SlowBody:
    """Counts a small body among those of its slot, once it has kept us waiting: one that is here already is over before
    it could be counted. A class and not a ``with`` block: it stands on the way of every small upload."""

    __slots__ = ("_counted", "_path", "_uploads")

    def __init__(self, uploads: Uploads, path: SlotPath) -> None:
        self._uploads = uploads
        self._path = path
        self._counted: AbstractContextManager[None] | None = None

    def tick(self) -> None:
        """Raises TooManySessions."""
        if self._counted is None:
            counted = self._uploads.counted(self._path)
            counted.__enter__()
            self._counted = counted

    def leave(self) -> None:
        if self._counted is not None:
            self._counted.__exit__(None, None, None)


def hasher_for(request: UploadRequest, *, always: bool) -> Hasher | None:
    """Hashing costs more than moving the bytes, so it is done only for a request that carries a checksum.

    Args:
        always: have the SHA-256 whatever the request carries (DeduplicationEnabled).
    """
    wanted = request.wanted
    if wanted is checksum.NOTHING:
        return Hasher(("sha-256",)) if always else None
    algorithms = checksum.algorithms((*wanted.whole, *wanted.piece))
    return Hasher(sorted({*algorithms, "sha-256"}) if always else algorithms)


def metadata_of(request: UploadRequest, sha256: str) -> Metadata:
    """What travels with the file of a proven request that was all of it."""
    return Metadata(request.content_type, sha256, uploader=request.uploader, expires_at=request.expires_at)


def verified(hasher: Hasher | None, request: UploadRequest) -> str:
    """The SHA-256 of a body that was the whole file, as hex digits; empty where it was not computed.

    Raises:
        ChecksumMismatch: the bytes do not have a digest that the request carries.
    """
    if hasher is None:
        return ""
    hasher.verify((*request.wanted.whole, *request.wanted.piece))
    return hasher.sha256_hex() or ""
