"""Uploads that go on where they were broken off: one engine behind three faces (protocol, section 5).

The partial on disk is the truth about every offset. Nothing here remembers anything between two requests, so any worker
of any server on the same store can take the next one.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from hmacfs.core import checksum, signature, upload
from hmacfs.core.checksum import Expected, Hasher, Wanted
from hmacfs.core.paths import SlotPath
from hmacfs.core.upload import Event, Piece, State
from hmacfs.errors import (
    BadUploadLength,
    ChecksumMismatch,
    FileExists,
    NotFound,
    PreconditionFailed,
    TakenOver,
    TooManyGaps,
    UnknownUpload,
    UploadBusy,
    UploadComplete,
    UploadExists,
    UploadGone,
    WrongOffset,
    WrongSlot,
)
from hmacfs.services.admission import Admission
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.intake import Body, Clocks, Intake, drop
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import Retries
from hmacfs.services.uploads import Uploads
from hmacfs.state.base import SessionRow, milliseconds
from hmacfs.storage.base import (
    Entity,
    Metadata,
    Partials,
    PartialUpload,
    Snapshot,
    Storage,
    UploadClaim,
    UploadHeader,
)

T = TypeVar("T")

GIVE_WAY_SECONDS = 5.0
"""How long a request waits for another one to give way (protocol, section 5, "Taking over")."""

_POLL_SECONDS = 0.05
_HASH_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an upload stands after a request.

    Attributes:
        offset: length of the gap-free prefix; all of it is synced, as Durability says.
        secret: its token or id. Never in a repr.
        expires_at: Unix seconds.
        note: Upload-Metadata as the client wrote it.
        is_complete: the file is published.
        entity: of the published file, where this request published or found it.
    """

    path: SlotPath
    offset: int
    total: int
    secret: str
    expires_at: float
    note: str = ""
    is_complete: bool = False
    entity: Entity | None = None

    def __repr__(self) -> str:
        return f"Progress({self.path}, {self.offset} of {self.total})"


@dataclass(frozen=True, slots=True)
class ResumeRules:
    """Attributes:
    ttl: seconds, SessionTTL.
    in_any_order: ChunkingEnabled.
    """

    ttl: float = 86400.0
    in_any_order: bool = True


@dataclass(frozen=True, slots=True)
class Appending:
    """A body that continues an upload.

    Attributes:
        offset: where it begins, as the client says.
        length: its bytes, None where it does not say.
        is_last: True: it reaches the total, and the file is published; False: the file is not published, whatever is
            there; None: the file is published as soon as all of it is there.
        total: bytes of the whole file, where the client repeats them.
    """

    offset: int
    length: int | None
    client: str
    wanted: Wanted = checksum.NOTHING
    is_last: bool | None = None
    total: int | None = None


class Resumable:
    """The use cases of resumable uploads."""

    def __init__(
        self,
        storage: Storage,
        partials: Partials,
        authority: Authority,
        admission: Admission,
        intake: Intake,
        uploads: Uploads,
        recorder: Recorder,
        retries: Retries,
        clocks: Clocks,
        rules: ResumeRules,
    ) -> None:
        self._storage = storage
        self._partials = partials
        self._authority = authority
        self._admission = admission
        self._intake = intake
        self._uploads = uploads
        self._recorder = recorder
        self._retries = retries
        self._clocks = clocks
        self.rules = rules

    # X-Session-Token (protocol, section 5.1)

    def ask(self, request: UploadRequest) -> Progress:
        """Where the upload of this slot stands. Ends nobody's writing.

        Raises:
            BadSignature, TooLarge, FileExists, PathConflict, WrongSlot.
        """
        content_type = self._authority.content_type(request)
        published = self._published(request, may_ask=True)
        if published is not None:
            return published
        with self._session(request, content_type) as partial:
            if partial is None:
                return self._progress_of(request, request.token or secrets.token_urlsafe(24))
            snapshot = partial.settle()
            if snapshot.extents.prefix == request.total and snapshot.state is State.OPEN:
                return self._finish(partial, request.wanted)  # a crash came between the last byte and publishing
            return self._progress(partial, snapshot)

    def put_piece(
        self, request: UploadRequest, piece: Piece, body: Body, found: Callable[[str], None] | None = None
    ) -> Progress:
        """Take the bytes from ``piece.first`` to ``piece.end``; publish the file when they were the last missing ones.

        Args:
            found: told the token of the session that the piece goes to, so that a refusal can carry it too.

        Raises:
            RequestError: the refusal. What had arrived and was recorded stays, unless the piece carries a checksum.
        """
        content_type = self._authority.content_type(request)
        if (published := self._published(request, may_ask=False)) is not None:
            return self._replayed(request, piece, body, published)
        try:
            with self._session_for(request, piece, content_type) as partial, _settled_refusals(partial):
                if found is not None:
                    found(partial.header.secret)
                return self._put_piece(partial, request, piece, body)
        except (UploadComplete, UploadGone):  # another request published, or removed it, before the body was asked for
            if (published := self._published(request, may_ask=False)) is None:
                raise UnknownUpload from None
            return self._replayed(request, piece, body, published)

    def put_whole(self, request: UploadRequest, body: Body) -> Progress:
        """A plain PUT with a token: it stages on its own from byte 0. Broken off, it is what the token stands for from
        then on, if it is longer than what there was.

        Raises:
            RequestError: the refusal.
        """
        content_type = self._authority.content_type(request)
        self._check_vacant(request)
        request = replace(request, wanted=Wanted((*request.wanted.whole, *request.wanted.piece)))  # the piece is whole
        with self._session(request, content_type) as known:
            is_draft = known is not None
        header = self._header(request, content_type, "session", request.token)
        with (
            self._admission.upload(request.client, request.total) as progress,
            self._staged(header, is_draft=is_draft) as partial,
        ):
            try:
                self._write(partial, Piece(0, request.total), body, checksum.NOTHING, progress.wrote)
            except BaseException:
                self._keep_longer(partial)
                raise
            return self._after(partial, request.wanted, publishes=True)

    # tus and the draft (protocol, sections 5.2 and 5.3)

    def check(self, request: UploadRequest) -> None:
        """Only what is judged first. Raises BadSignature, TooLarge."""
        self._authority.content_type(request)

    def create(self, request: UploadRequest, face: str, note: str) -> str:
        """A new upload of the slot, without a byte; its id.

        Raises:
            BadSignature, TooLarge, FileExists, PathConflict, Draining, TooManySessions, StorageFull.
        """
        content_type = self._authority.content_type(request)
        self._check_vacant(request)
        with self._admission.upload(request.client, request.total):
            upload_id = self._partials.new_id(request.path)
            header = self._header(request, content_type, face, upload_id, note)
            with self._created(header, drop_idle=True, is_draft=False) as partial:
                self._tell(partial, partial.look())
        return upload_id

    def append(self, upload_id: str, appending: Appending, body: Body) -> Progress:
        """Take a body that continues the upload exactly where it stands. Ends who writes it now.

        Raises:
            RequestError: the refusal; WrongOffset tells where the upload stands.
        """
        with self._by_id(upload_id) as partial:
            total = partial.header.total
            end = None if appending.length is None else appending.offset + appending.length
            upload.move(partial.look().state, Event.WRITE)
            self._hold_alone(partial)
            snapshot = partial.settle()
            upload.move(snapshot.state, Event.WRITE)
            piece = Piece(appending.offset, end)
            upload.check_append(snapshot.extents, total, piece)
            if appending.total not in (None, total) or (appending.is_last and end not in (None, total)):
                raise BadUploadLength
            with self._admission.upload(appending.client, (total if end is None else end) - piece.first) as progress:
                self._write(partial, piece, body, appending.wanted, progress.wrote)
            after = self._after(partial, appending.wanted, publishes=appending.is_last is not False)
            if appending.is_last and not after.is_complete:
                raise BadUploadLength
            return after

    def head(self, upload_id: str) -> Progress:
        """Where the upload stands. Ends who writes it now, so that the offset is the last word.

        Raises:
            UnknownUpload, UploadBusy; what publishing raises, where a crash had kept it from happening.
        """
        with self._by_id(upload_id) as partial:
            if partial.look().state is State.OPEN:
                self._hold_alone(partial)
            snapshot = partial.settle()
            is_whole = snapshot.state is State.OPEN and snapshot.extents.prefix == partial.header.total
            if is_whole and partial.header.face == "tus":
                # A crash came between the last byte and publishing. A client of tus sends nothing once it hears that
                # all is here; one of the draft completes the upload itself.
                return self._finish(partial, checksum.NOTHING)
            return self._progress(partial, snapshot)

    def terminate(self, upload_id: str) -> None:
        """Forget the upload and its bytes. Ends who writes it now.

        Raises:
            UnknownUpload, UploadBusy; UploadGone once it is published.
        """
        with self._by_id(upload_id) as partial:
            upload.move(partial.look().state, Event.TERMINATE)
            self._hold_alone(partial)
            upload.move(partial.look().state, Event.TERMINATE)  # it may have been published until it was ours
            partial.remove()
            self._tell_end(partial)

    # The common parts

    def _put_piece(self, partial: PartialUpload, request: UploadRequest, piece: Piece, body: Body) -> Progress:
        length = (piece.end or 0) - piece.first
        self._check_piece(partial, piece)
        with self._admission.upload(request.client, length) as progress:
            self._write(partial, piece, body, request.wanted, progress.wrote)
        try:
            return self._after(partial, request.wanted, publishes=True)
        except UploadGone:  # a plain PUT of the slot was faster
            self._storage.check_vacant(request.path)
            raise

    def _replayed(self, request: UploadRequest, piece: Piece, body: Body, published: Progress) -> Progress:
        """A piece of a file that is there already: its bytes are read and dropped."""
        with self._admission.upload(request.client, 0):
            self._intake.collect(body, (piece.end or 0) - piece.first, drop)
        return published

    def _check_vacant(self, request: UploadRequest) -> None:
        self._storage.check_vacant(request.path)
        if request.must_match:
            raise PreconditionFailed  # RFC 9110 section 13.1.1: there is no current representation

    def _published(self, request: UploadRequest, *, may_ask: bool) -> Progress | None:
        """The answer for a slot whose file is there already; None while it is not.

        Raises:
            FileExists: it is there, and not by this token. PathConflict.
        """
        try:
            stored = self._storage.open(request.path, with_content=False)
        except NotFound:
            self._check_vacant(request)
            return None
        entity, metadata = stored.entity, stored.metadata
        stored.close()
        is_same = signature.is_digest_of(metadata.token_digest, request.token) if request.token else may_ask
        if not is_same or entity.size != request.total:
            raise FileExists
        done = self._progress_of(request, request.token)
        return replace(done, offset=entity.size, is_complete=True, entity=entity)

    @contextmanager
    def _session(self, request: UploadRequest, content_type: str) -> Iterator[PartialUpload | None]:
        """What the token stands for in this slot; without a token the session that has got furthest.

        Raises:
            WrongSlot: the token belongs to another slot: another path, total or type.
        """
        partial = (
            self._partials.find(request.path, "session", request.token)
            if request.token
            else self._partials.furthest(request.path, request.total, content_type)
        )
        try:
            if partial is None and request.token and self._partials.knows_token(request.token):
                partial = self._partials.find(request.path, "session", request.token)  # it may have begun just now
                if partial is None:
                    raise WrongSlot
            if partial is not None and _differs(partial.header, request, content_type):
                raise WrongSlot
            yield partial
        finally:
            if partial is not None:
                partial.close()

    @contextmanager
    def _session_for(self, request: UploadRequest, piece: Piece, content_type: str) -> Iterator[PartialUpload]:
        """The session that a piece belongs to. A first piece begins one where there is none.

        Raises:
            UnknownUpload: a later piece of nothing.
        """
        if request.token or piece.first:
            with self._session(request, content_type) as partial:
                if partial is not None:
                    yield partial
                    return
        if piece.first:
            raise UnknownUpload
        with self._admission.upload(request.client, request.total):
            pass  # free space is judged on the total (protocol, section 2), once: each piece reserves its own bytes
        header = self._header(request, content_type, "session", request.token or secrets.token_urlsafe(24))
        try:
            with self._created(header, drop_idle=False, is_draft=False) as partial:
                yield partial
        except UploadExists:  # another first piece was faster: continue its upload
            with self._session(request, content_type) as partial:
                if partial is None:
                    raise
                yield partial

    @contextmanager
    def _created(self, header: UploadHeader, *, drop_idle: bool, is_draft: bool) -> Iterator[PartialUpload]:
        others = self._admission.slot_bodies(header.path)
        create = self._partials.create
        partial = self._retries.run(create, header, others=others, drop_idle=drop_idle, is_draft=is_draft)
        try:
            yield partial
        finally:
            partial.close()

    @contextmanager
    def _staged(self, header: UploadHeader, *, is_draft: bool) -> Iterator[PartialUpload]:
        """The partial of a plain PUT: on its own, where its token stands for another one."""
        try:
            with self._created(header, drop_idle=False, is_draft=is_draft) as partial:
                yield partial
        except UploadExists:  # that one began at this moment
            with self._created(header, drop_idle=False, is_draft=True) as partial:
                yield partial

    @contextmanager
    def _by_id(self, upload_id: str) -> Iterator[PartialUpload]:
        partial = self._partials.resolve(upload_id)
        if partial is None:
            raise UnknownUpload
        try:
            yield partial
        finally:
            partial.close()

    def _header(
        self, request: UploadRequest, content_type: str, face: str, secret: str, note: str = ""
    ) -> UploadHeader:
        wanted = tuple(f"{each.algorithm}:{each.digest.hex()}" for each in request.wanted.whole)
        now = self._clocks.wall()
        return UploadHeader(request.path, request.total, content_type, face, secret, now, note, wanted)

    def _check_piece(self, partial: PartialUpload, piece: Piece) -> None:
        snapshot = partial.look()
        upload.move(snapshot.state, Event.WRITE)
        if self.rules.in_any_order:
            upload.check_gaps(snapshot.extents, piece)
        elif piece.first != snapshot.extents.prefix:
            raise WrongOffset(partial.settle().extents.prefix, piece.first)

    def _hold_alone(self, partial: PartialUpload) -> None:
        """Until nobody else writes. Raises UploadBusy."""
        self._patiently(lambda: partial.take_over() or None)

    def _patiently(self, attempt: Callable[[], T | None]) -> T:
        deadline = self._clocks.now() + GIVE_WAY_SECONDS
        while (result := attempt()) is None:
            if self._clocks.now() > deadline:
                raise UploadBusy
            self._clocks.sleep(_POLL_SECONDS)
        return result

    def _write(
        self, partial: PartialUpload, piece: Piece, body: Body, wanted: Wanted, wrote: Callable[[int], None]
    ) -> None:
        """Bring a body into the partial: what is missing of it is written, the rest read and dropped."""
        total = partial.header.total
        end = total if piece.end is None else piece.end
        claim = self._patiently(lambda: partial.claim(piece.first, end))
        writing = _Writing(claim, piece.first, wanted, wrote)
        try:
            if piece.end is None:
                self._intake.collect_open(body, end - piece.first, writing.write, writing.tick)
            else:
                self._intake.collect(body, end - piece.first, writing.write, writing.tick)
            writing.finish()
        finally:
            claim.release()
            self._tell(partial, partial.look())

    def _keep_longer(self, partial: PartialUpload) -> None:
        """A plain PUT was broken off: what arrived of it is dropped, or becomes what its token stands for."""
        ours = partial.look().extents
        if not partial.is_draft:
            if not ours.recorded:
                partial.remove()
                self._tell_end(partial)
            return
        known = self._partials.find(partial.header.path, "session", partial.header.secret)
        try:
            if known is None or not upload.replaces(ours, known.look().extents):
                partial.remove()
                return
            self._hold_alone(known)
            self._hold_alone(partial)
            now = known.look()  # it may have gone on until it was ours
            if now.state is not State.OPEN or not upload.replaces(ours, now.extents):
                partial.remove()
                return
            partial.settle()
            partial.replace(known)
            self._tell(partial, partial.look())
        finally:
            if known is not None:
                known.close()

    def _after(self, partial: PartialUpload, wanted: Wanted, *, publishes: bool) -> Progress:
        """The file is published if nothing is missing (and it may be); else what has arrived is synced."""
        if publishes and partial.look().extents.prefix == partial.header.total:
            return self._finish(partial, wanted)
        return self._progress(partial, partial.settle())

    def _finish(self, partial: PartialUpload, wanted: Wanted) -> Progress:
        header = partial.header
        self._hold_alone(partial)
        digest = self._verified(partial, wanted)
        token_digest = header.key if header.face == "session" else ""
        metadata = Metadata(header.content_type, digest, token_digest)
        entity = partial.publish(metadata)
        self._tell_end(partial)
        self._uploads.tell(header.path, header.total, metadata, self._clocks.wall() - header.started_at)
        done = self._progress(partial, partial.look())
        return replace(done, offset=header.total, is_complete=True, entity=entity)

    def _verified(self, partial: PartialUpload, wanted: Wanted) -> str:
        """The SHA-256 of the whole file; empty where nobody asked for a checksum of it.

        Raises:
            ChecksumMismatch: the bytes are not what a request of this upload said. They are removed.
        """
        expected = (*(_expected(word) for word in partial.header.wanted), *wanted.whole)
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
                self._tell_end(partial)
            raise
        return hasher.sha256_hex() or ""

    def _tell(self, partial: PartialUpload, snapshot: Snapshot) -> None:
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

    def _tell_end(self, partial: PartialUpload) -> None:
        self._recorder.session_ended(partial.header.key, partial.header.started_at)

    def _progress(self, partial: PartialUpload, snapshot: Snapshot) -> Progress:
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

    def _progress_of(self, request: UploadRequest, secret: str) -> Progress:
        """Of an upload that has not begun."""
        return Progress(request.path, 0, request.total, secret, self._clocks.wall() + self.rules.ttl)


class _Writing:
    """A body on its way into a claim.

    Args:
        at: where the body begins in the file.
        wrote: told how many bytes of the body have been dealt with.
    """

    def __init__(self, claim: UploadClaim, at: int, wanted: Wanted, wrote: Callable[[int], None]) -> None:
        self._claim = claim
        self._at = at
        self._expected = wanted.piece
        self._hasher = Hasher(checksum.algorithms(wanted.piece)) if wanted.piece else None
        self._wrote = wrote

    def write(self, block: memoryview) -> None:
        hasher = self._hasher
        is_wanted = self._claim.write(
            block, self._at, record=hasher is None, watch=None if hasher is None else hasher.update
        )
        self._at += len(block)
        self._wrote(len(block))
        if is_wanted:
            raise TakenOver

    def tick(self) -> None:
        if self._claim.is_wanted():
            raise TakenOver

    def finish(self) -> None:
        """The body is whole. A piece with a checksum counts only now, and only if it has it."""
        if self._hasher is not None:
            self._hasher.verify(self._expected)
            self._claim.record(self._at)


@contextmanager
def _settled_refusals(partial: PartialUpload) -> Iterator[None]:
    """A ``with`` block out of which TooManyGaps comes with an offset that was synced, as every one that is told."""
    try:
        yield
    except TooManyGaps:
        raise TooManyGaps(partial.settle().extents.prefix) from None


def _expected(word: str) -> Expected:
    algorithm, _, digest = word.partition(":")
    return Expected(algorithm, bytes.fromhex(digest))


def _differs(header: UploadHeader, request: UploadRequest, content_type: str) -> bool:
    return (header.total, header.content_type) != (request.total, content_type)
