"""What all uploads that go on have in common, whichever face they speak: beginning, writing, publishing, telling.

The partial on disk is the truth about every offset. Nothing here remembers anything between two requests, so any worker
of any server on the same store can take the next one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial as partial_of
from typing import TypeVar

from hmacfs.core import checksum
from hmacfs.core.checksum import Expected, Hasher, Wanted
from hmacfs.core.preconditions import WriteConditions
from hmacfs.core.sniffing import FIRST_BLOCK
from hmacfs.core.upload import Piece, State
from hmacfs.errors import ChecksumMismatch, RequestError, TypeRefused, UploadBusy, UploadComplete, UploadGone
from hmacfs.services.admission import Admission
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.intake import Body, Clocks, Intake
from hmacfs.services.progress import Progress, ResumeRules
from hmacfs.services.quotas import Holding, Quotas
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import Retries
from hmacfs.services.uploads import Uploads
from hmacfs.services.writing import Writing
from hmacfs.state.base import SessionRow, milliseconds
from hmacfs.storage.base import Entity, Metadata, Partials, PartialUpload, Snapshot, UploadClaim, UploadHeader

T = TypeVar("T")

GIVE_WAY_SECONDS = 5.0
"""How long a request waits for another one to give way (protocol, section 5, "Taking over")."""

_POLL_SECONDS = 0.05
_HASH_BLOCK = 1024 * 1024


class Engine:
    """The steps of a resumable upload, on a partial that the caller has open.

    Args:
        uploads: told of what is published.
        quotas: None where nobody has one.
    """

    def __init__(
        self,
        partials: Partials,
        authority: Authority,
        admission: Admission,
        intake: Intake,
        uploads: Uploads,
        recorder: Recorder,
        retries: Retries,
        clocks: Clocks,
        rules: ResumeRules,
        quotas: Quotas | None = None,
    ) -> None:
        self._partials = partials
        self._authority = authority
        self._admission = admission
        self._intake = intake
        self._uploads = uploads
        self._recorder = recorder
        self._retries = retries
        self._clocks = clocks
        self.rules = rules
        self._quotas = quotas or Quotas()

    # Beginning and ending

    def header(self, request: UploadRequest, face: str, secret: str, note: str = "") -> UploadHeader:
        """Of an upload that begins now. Args: secret: its token or id; note: Upload-Metadata."""
        now, wanted = self._clocks.wall(), _words(request.wanted)
        return UploadHeader(
            request.path,
            request.total,
            request.content_type,
            face,
            secret,
            now,
            note,
            wanted,
            request.uploader,
            request.expires_at,
            request.claim.proof if request.claim else "",
        )

    @contextmanager
    def created(self, header: UploadHeader, *, drop_idle: bool, is_draft: bool) -> Iterator[PartialUpload]:
        """A ``with`` block that has a new partial open. Arguments and errors as of Partials.create."""
        create = self._partials.create
        bodies = partial_of(self._admission.slot_bodies, header.path)
        partial = self._retries.run(create, header, others=bodies, drop_idle=drop_idle, is_draft=is_draft)
        try:
            yield partial
        finally:
            partial.close()

    def forget(self, partial: PartialUpload) -> None:
        """Remove an upload that is not over."""
        if partial.look().state is State.OPEN:
            partial.remove()
            self.tell_end(partial)

    def held(self, header: UploadHeader) -> Holding:
        """Its bytes are reserved, and stay so while something is kept of it. Raises QuotaExceeded."""
        return self._quotas.held(header.path, header.total, header.uploader, resumable=True)

    def give_back(self, header: UploadHeader) -> None:
        """Its bytes are reserved no longer, unless something is kept of it."""
        self._quotas.give_back(header.path, header.total, header.uploader)

    # Writing

    def check_open(self) -> None:
        """Before anybody is ended: while we are stopping, those who run may finish. Raises Draining."""
        self._admission.check_open()

    def hold_alone(self, partial: PartialUpload) -> None:
        """Until nobody else writes. Raises UploadBusy."""
        self._patiently(lambda: partial.take_over() or None)

    def _patiently(self, attempt: Callable[[], T | None]) -> T:
        """Repeat an attempt to get a range until nobody has it any more. Raises UploadBusy."""
        begun = self._clocks.now()
        while (result := attempt()) is None:
            if self._clocks.now() - begun > GIVE_WAY_SECONDS:
                raise UploadBusy
            self._clocks.sleep(_POLL_SECONDS)
        return result

    def want(self, partial: PartialUpload, wanted: Wanted) -> None:
        """What a request says of the whole file counts, whichever one publishes it. Raises BadChecksum."""
        if wanted.whole:
            partial.want(_words(wanted))

    @contextmanager
    def claimed(self, partial: PartialUpload, piece: Piece) -> Iterator[UploadClaim]:
        """A ``with`` block that has the right to write what is missing of a piece. Who wrote there is ended first.

        Whoever has been admitted gives that back before this: who continues an upload whose old connection hangs must
        not be refused for what that one holds (protocol, section 5, "Taking over").

        Raises:
            UploadBusy, TooManyGaps, UploadComplete, UploadGone.
        """
        end = partial.header.total if piece.end is None else piece.end
        claim = self._patiently(lambda: partial.claim(piece.first, end))
        try:
            yield claim
        finally:
            claim.release()

    def write(
        self,
        partial: PartialUpload,
        claim: UploadClaim,
        piece: Piece,
        body: Body,
        wanted: Wanted,
        wrote: Callable[[int], None],
    ) -> None:
        """Bring a body into the partial: what is missing of it is written, the rest read and dropped.

        Args:
            claim: as ``claimed`` gives it for this piece.
            wrote: told how many bytes of the body have been dealt with.

        Raises:
            TakenOver, ChecksumMismatch, TypeRefused; what breaks a body.
        """
        total = partial.header.total
        end = total if piece.end is None else piece.end
        self.want(partial, wanted)
        judge = self._authority.policy.first_block(total) if piece.first < FIRST_BLOCK else None
        writing = Writing(claim, piece.first, wanted, wrote, self._clocks.now, judge if piece.first == 0 else None)
        with self._without_refused(partial):
            try:
                if piece.end is None:
                    self._intake.collect_open(body, end - piece.first, writing.write, writing.tick, partial.header.key)
                else:
                    self._intake.collect(body, end - piece.first, writing.write, writing.tick, partial.header.key)
                writing.finish()
            finally:
                body.kept = writing.kept
                self.tell(partial, partial.look())
        if judge is not None and not judge.has_judged and partial.look().extents.prefix >= FIRST_BLOCK:
            self._judge(partial)  # early, although no piece had all of the first block

    @contextmanager
    def keeping(self, partial: PartialUpload, body: Body) -> Iterator[None]:
        """A ``with`` block whose refusal tells of nothing as kept where the upload has gone with it."""
        try:
            yield
        except BaseException:
            with suppress(RequestError):
                if body.kept and partial.look().state is State.GONE:
                    body.kept = 0
            raise

    @contextmanager
    def _without_refused(self, partial: PartialUpload) -> Iterator[None]:
        """A ``with`` block after which nothing is left of an upload whose content is refused: it could never be
        published."""
        try:
            yield
        except TypeRefused:
            partial.remove()
            if not partial.is_draft:
                self.tell_end(partial)
            raise

    # Publishing

    def after(self, partial: PartialUpload, conditions: WriteConditions, client: str, *, publishes: bool) -> Progress:
        """The file is published if nothing is missing (and it may be); else what has arrived is synced.

        Raises:
            UploadGone; what ``finish`` raises.
        """
        if publishes and partial.look().extents.prefix == partial.header.total:
            return self.finish(partial, checksum.NOTHING, conditions, client)
        snapshot = partial.settle()
        if snapshot.state is State.GONE:
            raise UploadGone  # a plain PUT of the slot was faster, or somebody ended it
        return self.progress(partial, snapshot)

    def finish(self, partial: PartialUpload, wanted: Wanted, conditions: WriteConditions, client: str = "") -> Progress:
        """Publish the file, all of which is there.

        Args:
            wanted: checksums that the upload does not know of yet.
            client: address of who completes it; empty where that is not known.

        Raises:
            UploadBusy, UploadComplete, UploadGone, ChecksumMismatch, TypeRefused; what publishing raises.
        """
        header = partial.header
        self.hold_alone(partial)
        if (state := partial.look().state) is not State.OPEN:  # another request was faster, its file is this one
            raise UploadComplete if state is State.PUBLISHED else UploadGone
        try:
            entity, metadata = self._publish(partial, wanted, conditions)
        except RequestError:
            self.give_back(header)  # unless it is kept, and may be published yet
            raise
        self.tell_end(partial)
        self._uploads.tell(header.path, entity, metadata, self._clocks.wall() - header.started_at, client)
        done = self.progress(partial, partial.look())
        return replace(done, offset=header.total, is_complete=True, entity=entity)

    def _publish(self, partial: PartialUpload, wanted: Wanted, conditions: WriteConditions) -> tuple[Entity, Metadata]:
        header = partial.header
        self._judge(partial)
        digest = self._verified(partial, wanted)
        token_digest = header.key if header.face == "session" else ""
        metadata = Metadata(header.content_type, digest, token_digest, header.uploader, header.expires_at)
        with self._uploads.publishing.of(header.path):
            return partial.publish(metadata, conditions), metadata

    def _judge(self, partial: PartialUpload) -> None:
        """The content, as it lies on the disk: its first bytes may have come last, or in pieces too short to tell.

        Raises:
            TypeRefused: the upload is removed.
        """
        judge = self._authority.policy.first_block(partial.header.total)
        if judge is not None:
            with self._without_refused(partial):
                partial.read(0, FIRST_BLOCK, judge.update)

    def _verified(self, partial: PartialUpload, wanted: Wanted) -> str:
        """The SHA-256 of the whole file; empty where nobody asked for a checksum of it.

        Raises:
            ChecksumMismatch: the bytes are not what a request of this upload said. They are removed.
        """
        expected = (*(_expected(word) for word in partial.wanted()), *wanted.whole)
        if not expected:
            return ""
        hasher = Hasher(checksum.algorithms(expected))
        offset = 0
        while count := partial.read(offset, _HASH_BLOCK, hasher.update):
            offset += count
        try:
            hasher.verify(expected)
        except ChecksumMismatch:
            partial.remove()
            if not partial.is_draft:
                self.tell_end(partial)
            raise
        return hasher.sha256_hex() or ""

    # Telling

    def tell(self, partial: PartialUpload, snapshot: Snapshot) -> None:
        """Leave where the upload stands to the recorder. A draft began later than what its token stands for, and would
        be taken for what followed it."""
        header = partial.header
        row = SessionRow(
            key=header.key,
            path=header.path.raw.decode(),
            total=header.total,
            offset=snapshot.extents.prefix,
            content_type=header.content_type,
            face=header.face,
            started_ms=milliseconds(header.started_at),
            expires_at=int(snapshot.changed_at + self.rules.ttl),
        )
        if snapshot.state is State.OPEN and not partial.is_draft:
            self._recorder.session_changed(row)

    def tell_end(self, partial: PartialUpload) -> None:
        """Leave to the recorder that the upload is over."""
        self._recorder.session_ended(partial.header.key, partial.header.started_at)

    def progress(self, partial: PartialUpload, snapshot: Snapshot) -> Progress:
        """Where the upload stood at ``snapshot``."""
        header = partial.header
        is_complete = snapshot.state is State.PUBLISHED
        return Progress(
            path=header.path,
            offset=header.total if is_complete else snapshot.extents.prefix,
            total=header.total,
            secret=header.secret,
            expires_at=snapshot.changed_at + self.rules.ttl,
            note=header.note,
            is_complete=is_complete,
        )


def _words(wanted: Wanted) -> tuple[str, ...]:
    return tuple(f"{each.algorithm}:{each.digest.hex()}" for each in wanted.whole)


def _expected(word: str) -> Expected:
    algorithm, _, digest = word.partition(":")
    return Expected(algorithm, bytes.fromhex(digest))
