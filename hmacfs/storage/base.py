"""The storage port: what the services need of a place that keeps bytes, and the facts about a stored file.

An adapter stages bytes where no reader sees them and publishes them whole, or not at all, without replacing anything.
Foreign errors are translated here, once: an adapter lets OSError out of no method.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.core.upload import Extents, Span, State
from hmacfs.errors import BadPath, RequestError, StorageBusy, StorageFailed, StorageFull


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels with a file.

    Attributes:
        content_type: None for files that were there before us.
        sha256: of the content as 64 hex digits; empty where it was not computed.
        token_digest: SHA-256 of the session token that the file was uploaded with, as 64 hex digits; else empty.
        uploader: who sent it, as far as the signature told; else empty.
        expires_at: Unix seconds at which the file expires by a claim of its signature; 0 for never by claim.
    """

    content_type: str | None = None
    sha256: str = ""
    token_digest: str = ""
    uploader: str = ""
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Entity:
    """Identity of one stored file: it changes whenever the bytes may have changed.

    Attributes:
        replaced_ns: Unix nanoseconds at which it took the place of another file, as far as that is known; else 0.
    """

    inode: int
    size: int
    modified_ns: int
    replaced_ns: int = field(default=0, compare=False)

    @property
    def etag(self) -> str:
        """A strong entity tag, quoted (RFC 9110 section 8.8.3). Never from a hash: that would read the file."""
        return f'"{self.inode:x}-{self.size:x}-{self.modified_ns:x}"'

    @property
    def modified(self) -> int:
        """Whole Unix seconds, for Last-Modified."""
        return self.modified_ns // 1_000_000_000

    @property
    def stored_us(self) -> int:
        """Unix microseconds: of two files that followed each other under a path, the later one says the later moment.
        A path that is free takes a body that was complete before, and a file is replaced only when it is there."""
        return max(self.modified_ns, self.replaced_ns) // 1000


class Stored(Protocol):
    """An open file. It stays readable when the path is deleted or replaced meanwhile."""

    @property
    def entity(self) -> Entity: ...

    @property
    def metadata(self) -> Metadata: ...

    @property
    def content(self) -> bytes | None:
        """The whole file, where it is small and was read together with opening it; it is closed already then."""

    def descriptor(self) -> int:
        """The open file, for a server that can send it without us."""

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``; fewer only at the end of the file."""

    def close(self) -> None: ...


class Staged(Protocol):
    """Bytes on their way, invisible to readers."""

    def write(self, block: memoryview, watch: Callable[[memoryview], None] | None = None) -> None:
        """Append all of ``block``. Raises StorageFull, StorageBusy or StorageFailed.

        Args:
            watch: gets the block in the same job, off the loop; for hashing.
        """

    def publish(self, metadata: Metadata, conditions: WriteConditions = ALWAYS) -> Entity:
        """Make the file visible under its path, durable as configured. Once this returns nothing undoes it.

        With versioning a file that is there becomes a version, unless it has the same content: then it stays, and is
        the answer.

        Raises FileExists when the path was taken meanwhile (without versioning), PathConflict when it cannot be a file,
        Gone when its file has gone, or its time is over; TooManyVersions, PreconditionFailed.
        """

    def discard(self) -> None:
        """Forget everything that was not published and release what is held. Safe to call at any time, twice too."""


class Storage(Protocol):
    def check_vacant(self, path: SlotPath) -> None:
        """Raises FileExists, PathConflict or Gone when ``path`` could not be published now."""

    def stage(self, path: SlotPath) -> Staged: ...

    def store(
        self,
        path: SlotPath,
        content: bytearray,
        metadata: Metadata,
        conditions: WriteConditions = ALWAYS,
        *,
        watch: Callable[[memoryview], None] | None = None,
    ) -> Entity:
        """Stage, write and publish a small file in one job. Raises what these raise.

        Args:
            watch: gets the content first, in the same job; what it raises ends the job.
        """

    def delete(self, path: SlotPath) -> "Deleted | None":
        """Remove the file, what is kept of it, the slot's partials, and folders that are empty then; durable as
        configured. Who reads it goes on. Returns None where there was none.
        """

    def free_bytes(self) -> int:
        """Free space for us on the store's filesystem."""

    def open(self, path: SlotPath, *, with_content: bool) -> Stored:
        """The regular file at ``path``.

        Args:
            with_content: have a small file read at once.

        Raises:
            NotFound: for anything else: missing, a directory, behind a symlink.
            Gone: missing, and known to have been there.
        """


class Graves(Protocol):
    """Which paths are gone and known to be, for 30 days (protocol, section 3, 410)."""

    def bury(self, path: SlotPath) -> bool:
        """``path`` counts as gone from now on. Call it before the file goes: a crash in between does no harm.

        Returns whether it did not before. Where it did, somebody else may be about to take his grave back: call it once
        more when the file has gone.
        """

    def exhume(self, path: SlotPath) -> None:
        """``path`` does not count as gone any more; for who has just buried it, and whose file stays."""

    def buried(self, path: SlotPath) -> bool:
        """Whether ``path`` was deleted, or has expired, in that time."""


@dataclass(frozen=True, slots=True)
class OldVersion:
    """A file that was replaced.

    Attributes:
        number: from 1, the newest highest.
        entity: its time is that of the newest name of the same content, where that is shared.
        stored: Unix seconds at which it had been stored, not replaced.
    """

    number: int
    entity: Entity
    metadata: Metadata
    stored: int


@dataclass(frozen=True, slots=True)
class GoneVersion:
    """A version that went. Attributes: size: bytes it had, shared with others or not."""

    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file that was deleted. Attributes: versions: what went along."""

    size: int
    versions: Sequence[GoneVersion] = ()


@dataclass(frozen=True, slots=True)
class RemovedVersion:
    """A version that an upload has pushed out.

    Attributes:
        size: bytes it had, shared with others or not.
        freed: bytes that this freed on the disk: none where its content has other names.
        reason: "MaxVersions".
    """

    path: SlotPath
    number: int
    size: int
    freed: int
    reason: str


class Versions(Protocol):
    """What is kept of replaced files, and whether a file may be replaced now."""

    def check(self, path: SlotPath, total: int, conditions: WriteConditions) -> None:
        """Judge a file that is to come, before its body.

        Args:
            total: its bytes. One that may prove equal to the current file is not refused for VersionsPerDay yet.

        Raises:
            PathConflict, PreconditionFailed, TooManyVersions.
        """

    def of(self, path: SlotPath) -> Sequence[OldVersion]:
        """What is kept of the path, the newest last. Raises NotFound when there is neither a file nor a version."""

    def open(self, path: SlotPath, number: int, *, with_content: bool) -> Stored:
        """As Storage.open, for one version. Raises NotFound."""

    def pruned(self) -> Sequence[RemovedVersion]:
        """What uploads have pushed out since the last call, for the log."""

    def absorbed(self) -> Sequence[int]:
        """Bytes of each file that the store does not hold since the last call, although it was published: the current
        one has the same content and stays, or the one that it replaced is not kept."""


class SharedContent(Protocol):
    """Equal content of several files takes the space of one."""

    def share(self, path: SlotPath, entity: Entity, metadata: Metadata) -> int:
        """Let a published file share its bytes with an earlier one that has the same; the bytes saved.

        Nothing changes when ``path`` is not that ``entity`` any more. Whatever happens, readers find the same content.
        """


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """What is fixed when a resumable upload begins.

    Attributes:
        total: bytes of the whole file.
        face: "session", "tus" or "draft".
        secret: the session token or the upload id: whoever knows it may continue the upload. Never in a repr.
        started_at: Unix seconds.
        note: Upload-Metadata as the client wrote it (tus).
        wanted: checksums that the whole file must have, as ``algorithm:hex`` words.
        uploader, expires_at: as in Metadata, for the file that will be published.
        proof: ``Claim.proof`` of the signature that it was admitted with; empty where it is not known.
    """

    path: SlotPath
    total: int
    content_type: str
    face: str
    secret: str
    started_at: float
    note: str = ""
    wanted: tuple[str, ...] = ()
    uploader: str = ""
    expires_at: int = 0
    proof: str = ""

    @property
    def key(self) -> str:
        """What names the upload where its secret must not be: a SHA-256 of it, as 64 hex digits."""
        return sha256(self.secret.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"UploadHeader({self.face}, {self.path}, {self.total})"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An upload at one moment.

    Attributes:
        changed_at: Unix seconds of its last byte.
    """

    state: State
    extents: Extents
    changed_at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What a slot has of a file, whole or not. Attributes: total: bytes of all of it. uploader: as in Metadata."""

    total: int
    uploader: str


class UploadClaim(Protocol):
    """The right to write one range of an upload, which nobody else has at the same time.

    Attributes:
        missing: what was not there when the claim was made; everything else is dropped, not written.
    """

    missing: list[Span]

    def write(
        self,
        block: memoryview,
        at: int,
        *,
        record: bool,
        watch: Callable[[memoryview], None] | None,
    ) -> bool:
        """Bring the bytes from ``at`` on; those that were there already are left alone.

        Args:
            record: make them count at once. A piece with a checksum counts only when that was verified.
            watch: gets the block in the same job; for hashing.

        Returns whether somebody else wants the range. Raises StorageFull, StorageBusy, StorageFailed.
        """

    def is_wanted(self) -> bool:
        """Whether somebody else wants the range, or the upload has ended."""

    def record(self, end: int) -> None:
        """Everything up to ``end`` counts from now on."""

    def touch(self) -> None:
        """The upload is alive, although nothing was recorded for a while."""

    def release(self) -> None:
        """Let others have the range. What was recorded stays. Safe to call twice."""


class PartialUpload(Protocol):
    """An upload that is open in this process; close it."""

    header: UploadHeader

    @property
    def is_draft(self) -> bool:
        """Whether it is not known under its token (yet): a plain PUT of its own, beside what the token stands for."""

    def look(self) -> Snapshot:
        """As it is recorded, synced or not."""

    def settle(self) -> Snapshot:
        """What a client may be told: all that is recorded now has been synced, as Durability says."""

    def wanted(self) -> tuple[str, ...]:
        """Checksums that the whole file must have, as in UploadHeader, those of later requests included."""

    def want(self, words: Sequence[str]) -> None:
        """The whole file must have these checksums too. Raises BadChecksum when there are too many."""

    def is_idle(self) -> bool:
        """Whether nobody else writes; the upload is ours until ``close`` then. Disturbs nobody."""

    def claim(self, first: int, end: int) -> UploadClaim | None:
        """The right to write what is missing between ``first`` and ``end``; None while somebody else has a part of it,
        who is told to give way if that request came before this one.

        Raises UploadGone or UploadComplete when the upload has ended meanwhile.
        """

    def read(self, offset: int, count: int, watch: Callable[[memoryview], None]) -> int:
        """Show at most ``count`` bytes from ``offset`` to ``watch``, off the loop; how many there were."""

    def take_over(self) -> bool:
        """Whether nobody else writes (any more): the whole upload is ours until ``close``. Who writes is told to give
        way, if that request came before this one."""

    def publish(self, metadata: Metadata, conditions: WriteConditions = ALWAYS) -> Entity:
        """Make the file visible under its path and forget the partial. Call it after ``take_over`` only.

        Raises FileExists, PathConflict or PreconditionFailed when the path was taken meanwhile, Gone when its file has
        gone: the partial is removed then. TooManyVersions, StorageBusy: it stays.
        """

    def remove(self) -> None:
        """Forget the upload and its bytes. Whoever writes is told to give way. A published file is not touched."""

    def replace(self, other: "PartialUpload") -> None:
        """Become the partial of ``other``'s token in its stead. Call it after ``take_over`` of both."""

    def close(self) -> None:
        """Give up what is held. Safe to call twice."""


class Partials(Protocol):
    """Unfinished uploads on the disk of the store. The truth about every offset is here, and nowhere else."""

    def create(
        self, header: UploadHeader, *, others: Callable[[], int], drop_idle: bool, is_draft: bool
    ) -> PartialUpload:
        """A new upload without a byte, durable as configured.

        Args:
            others: how many bodies of the same slot are on their way beside the partials; called in the disk pool.
            drop_idle: remove the least advanced one that nobody writes, instead of refusing. The new one is ours alone
                until ``close``.
            is_draft: not known under its token until ``replace``.

        Raises:
            TooManySessions: MaxSessionsPerSlot.
            UploadExists: there is one with this secret.
        """

    def find(self, path: SlotPath, face: str, secret: str) -> PartialUpload | None:
        """The upload of this slot with this secret."""

    def resolve(self, upload_id: str) -> PartialUpload | None:
        """The upload that an upload URL names."""

    def furthest(self, path: SlotPath, total: int, content_type: str) -> PartialUpload | None:
        """The session of the slot that has got furthest, if there is one for the same total and type."""

    def knows_token(self, token: str) -> bool:
        """Whether a session of any slot has this token."""

    def count(self, path: SlotPath) -> int:
        """How many partials the slot has."""

    def standing(self, path: SlotPath) -> Sequence[Standing]:
        """The slot's unfinished uploads, one by one: those that somebody writes or may continue."""

    def new_id(self, path: SlotPath) -> str:
        """An unguessable id for an upload of this slot."""

    def sweep(self, *, removes: bool = True) -> Sequence[tuple[str, str, float]]:
        """Remove what has not changed for SessionTTL, and what a crash left.

        Args:
            removes: False only to tell.

        Returns path, as ``core.paths.shown`` writes it, key and start of each unfinished upload that was removed.
        Drafts are removed without a word: their tokens may stand for other uploads.
        """


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_BUSY = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN))
_PASSING = frozenset((errno.EIO, errno.ESTALE, errno.ETIMEDOUT))
"""What NFS says while its server is away for a moment, or has put another file in this one's place."""


def translated(error: OSError) -> RequestError:
    """Our error for one of the operating system's."""
    detail = f"{errno.errorcode.get(error.errno or 0, 'OSError')}: {error.strerror}"
    if error.errno in _FULL:
        return StorageFull(detail)
    if error.errno in _BUSY:
        return StorageBusy(detail)
    if error.errno == errno.ENAMETOOLONG:  # a filesystem with shorter names, such as eCryptfs
        return BadPath(detail)
    failed = StorageFailed(detail)
    failed.may_pass = error.errno in _PASSING
    return failed


class _Translating:
    """A class and not a generator: it stands on the way of every request."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise translated(error) from error


_TRANSLATING = _Translating()


def os_errors_translated() -> _Translating:
    """A ``with`` block out of which OSError comes as ours."""
    return _TRANSLATING
