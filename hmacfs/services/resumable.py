"""Uploads that go on where they were broken off: one engine behind three faces (protocol, section 5).

The partial on disk is the truth about every offset. Nothing here remembers anything between two requests, so any worker
of any server on the same store can take the next one.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial as partial_of
from typing import TypeVar

from hmacfs.core import checksum, signature, upload
from hmacfs.core.checksum import Expected, Hasher, Wanted
from hmacfs.core.paths import SlotPath
from hmacfs.core.upload import Event, Piece, State
from hmacfs.errors import (
    BadUploadLength,
    BodyTooLong,
    ChecksumMismatch,
    FileExists,
    NotFound,
    PreconditionFailed,
    RequestError,
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
_ALIVE_SECONDS = 1.0


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
        if (published := self._published(request, may_ask=True)) is not None:
            return published
        try:
            with self._session(request, content_type) as partial:
                if partial is not None:
                    return self._asked(partial, request)
        except (UploadComplete, UploadGone, FileExists) as error:  # it ended while we looked
            return self._ended(request, error, may_ask=True)
        # It may have been published, and so forgotten, between our two looks.
        published = self._published(request, may_ask=True)
        return published or self._progress_of(request, request.token or secrets.token_urlsafe(24))

    def _asked(self, partial: PartialUpload, request: UploadRequest) -> Progress:
        snapshot = partial.settle()
        if snapshot.state is State.PUBLISHED:
            raise UploadComplete
        if snapshot.state is State.GONE:
            raise UploadGone
        is_whole = snapshot.extents.prefix == request.total
        if is_whole and partial.is_idle():  # a crash came between the last byte and publishing
            return self._finish(partial, request.wanted)
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
        taken = _Taken(body)
        try:
            with self._session_for(request, piece, content_type) as partial, _settled_refusals(partial):
                if found is not None:
                    found(partial.header.secret)
                return self._put_piece(partial, request, piece, taken)
        except (UploadComplete, UploadGone, UnknownUpload, FileExists) as error:  # it ended while we were at work
            published = self._ended(request, error, may_ask=False)
            return published if taken.begun else self._replayed(request, piece, body, published)

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
            try:
                return self._after(partial, publishes=True)
            except (UploadComplete, UploadGone):  # another request was faster
                self._storage.check_vacant(request.path)
                raise

    # tus and the draft (protocol, sections 5.2 and 5.3)

    def check(self, request: UploadRequest) -> None:
        """Only what is judged first. Raises BadSignature, TooLarge."""
        self._authority.content_type(request)

    def create(
        self,
        request: UploadRequest,
        face: str,
        note: str,
        first: "tuple[Appending, Body] | None" = None,
        told: Callable[[str], None] | None = None,
    ) -> Progress:
        """A new upload of the slot.

        Args:
            first: a body that comes with the creation. The upload is removed where that is refused or broken off,
                because nobody knows its id then.
            told: tells the client the id before the body is taken; the upload stays then, whatever comes.

        Raises:
            BadSignature, TooLarge, FileExists, PathConflict, Draining, TooManySessions, StorageFull; what ``append``
            raises.
        """
        content_type = self._authority.content_type(request)
        self._check_vacant(request)
        upload_id = self._partials.new_id(request.path)
        header = self._header(request, content_type, face, upload_id, note)
        # It is ours alone until it is closed: no other creation drops it before the client knows its id.
        with (
            self._admission.upload(request.client, request.total) as progress,
            self._created(header, drop_idle=True, is_draft=False) as partial,
        ):
            self._tell(partial, partial.look())
            if told is not None:
                told(upload_id)
            if first is None:
                return self._progress(partial, partial.look())
            try:
                return self._append(partial, *first, progress.wrote)
            except RequestError as error:
                if told is None or isinstance(error, BodyTooLong):
                    self._forget(partial)
                raise

    def append(self, upload_id: str, appending: Appending, body: Body) -> Progress:
        """Take a body that continues the upload exactly where it stands. Ends who writes it now.

        Raises:
            RequestError: the refusal; WrongOffset tells where the upload stands.
        """
        with self._by_id(upload_id) as partial:
            state, is_tus = partial.look().state, appending.is_last is None
            if is_tus and state is State.PUBLISHED and appending.offset != partial.header.total:
                # A browser repeats a request whose answer it lost: a wrong offset to tus, which clients correct.
                raise WrongOffset(partial.header.total, appending.offset)
            upload.move(state, Event.WRITE)
            self._hold_alone(partial)
            piece = self._checked(partial, appending)
            length = (partial.header.total if piece.end is None else piece.end) - piece.first
            with self._admission.upload(appending.client, length) as progress:
                return self._append(partial, appending, body, progress.wrote)

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
                try:
                    return self._finish(partial, checksum.NOTHING)
                except UploadComplete:  # by who held it until now
                    snapshot = partial.settle()
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

    def _checked(self, partial: PartialUpload, appending: Appending) -> Piece:
        """The piece that a body is, if it continues the upload exactly where it stands."""
        total = partial.header.total
        end = None if appending.length is None else appending.offset + appending.length
        snapshot = partial.settle()
        upload.move(snapshot.state, Event.WRITE)
        piece = Piece(appending.offset, end)
        upload.check_append(snapshot.extents, total, piece)
        if appending.total not in (None, total) or (appending.is_last and end not in (None, total)):
            raise BadUploadLength
        return piece

    def _append(
        self, partial: PartialUpload, appending: Appending, body: Body, wrote: Callable[[int], None]
    ) -> Progress:
        """Take a body into an upload that is ours alone."""
        piece = self._checked(partial, appending)
        self._write(partial, piece, body, appending.wanted, wrote)
        after = self._after(partial, publishes=appending.is_last is not False)
        if appending.is_last and not after.is_complete:
            raise BadUploadLength
        return after

    def _forget(self, partial: PartialUpload) -> None:
        if partial.look().state is State.OPEN:
            partial.remove()
            self._tell_end(partial)

    def _ended(self, request: UploadRequest, error: RequestError, *, may_ask: bool) -> Progress:
        """The answer where an upload ended while a request was at it: published, as a rule.

        Raises:
            FileExists: by another one. UnknownUpload: it is gone. Else ``error`` itself.
        """
        published = self._published(request, may_ask=may_ask)
        if published is not None:
            return published
        if isinstance(error, UploadGone | UploadComplete):
            raise UnknownUpload from error
        raise error

    def _put_piece(self, partial: PartialUpload, request: UploadRequest, piece: Piece, body: Body) -> Progress:
        length = (piece.end or 0) - piece.first
        self._check_piece(partial, piece)
        with self._admission.upload(request.client, length) as progress:
            self._write(partial, piece, body, request.wanted, progress.wrote)
        return self._after(partial, publishes=True)

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
            try:
                self._check_vacant(request)
                return None
            except FileExists:  # it came between these two looks
                stored = self._storage.open(request.path, with_content=False)
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
            raise UnknownUpload  # the caller looks whether it has been published meanwhile
        with self._admission.upload(request.client, request.total):
            pass  # free space is judged on the total (protocol, section 2), once: each piece reserves its own bytes
        header = self._header(request, content_type, "session", request.token or secrets.token_urlsafe(24))
        try:
            with self._created(header, drop_idle=False, is_draft=False) as partial:
                if self._published(request, may_ask=False) is not None:  # while this one began
                    self._forget(partial)
                    raise UploadComplete
                yield partial
        except UploadExists:  # another first piece was faster: continue its upload
            with self._session(request, content_type) as partial:
                if partial is None:
                    raise
                yield partial

    @contextmanager
    def _created(self, header: UploadHeader, *, drop_idle: bool, is_draft: bool) -> Iterator[PartialUpload]:
        create = self._partials.create
        bodies = partial_of(self._admission.slot_bodies, header.path)
        partial = self._retries.run(create, header, others=bodies, drop_idle=drop_idle, is_draft=is_draft)
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
        now = self._clocks.wall()
        return UploadHeader(request.path, request.total, content_type, face, secret, now, note, _words(request.wanted))

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
        """Repeat an attempt to get a range until nobody has it any more. Raises UploadBusy."""
        begun = self._clocks.now()
        while (result := attempt()) is None:
            if self._clocks.now() - begun > GIVE_WAY_SECONDS:
                raise UploadBusy
            self._clocks.sleep(_POLL_SECONDS)
        return result

    def _write(
        self, partial: PartialUpload, piece: Piece, body: Body, wanted: Wanted, wrote: Callable[[int], None]
    ) -> None:
        """Bring a body into the partial: what is missing of it is written, the rest read and dropped."""
        total = partial.header.total
        end = total if piece.end is None else piece.end
        if wanted.whole:
            partial.want(_words(wanted))  # whoever brings the last byte
        claim = self._patiently(lambda: partial.claim(piece.first, end))
        writing = _Writing(claim, piece.first, wanted, wrote, self._clocks.now)
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

    def _after(self, partial: PartialUpload, *, publishes: bool) -> Progress:
        """The file is published if nothing is missing (and it may be); else what has arrived is synced."""
        if publishes and partial.look().extents.prefix == partial.header.total:
            return self._finish(partial, checksum.NOTHING)
        snapshot = partial.settle()
        if snapshot.state is State.GONE:
            raise UploadGone  # a plain PUT of the slot was faster, or somebody ended it
        return self._progress(partial, snapshot)

    def _finish(self, partial: PartialUpload, wanted: Wanted) -> Progress:
        """Args: wanted: checksums that the upload does not know of yet."""
        header = partial.header
        self._hold_alone(partial)
        if (state := partial.look().state) is not State.OPEN:  # another request was faster, its file is this one
            raise UploadComplete if state is State.PUBLISHED else UploadGone
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

    def __init__(
        self,
        claim: UploadClaim,
        at: int,
        wanted: Wanted,
        wrote: Callable[[int], None],
        now: Callable[[], float],
    ) -> None:
        self._now = now
        self._alive_at = now()
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
        if self._now() - self._alive_at > _ALIVE_SECONDS:  # bytes that are not recorded are bytes too: SessionTTL
            self._alive_at = self._now()
            self._claim.touch()
            self.tick()

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


class _Taken:
    """A body that tells whether anything of it was asked for. Args: body: the real one."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.begun = False

    def read_into(self, buffer: memoryview) -> int | None:
        self.begun = True
        return self._body.read_into(buffer)

    def wait(self, seconds: float) -> bool:
        return self._body.wait(seconds)


def _words(wanted: Wanted) -> tuple[str, ...]:
    return tuple(f"{each.algorithm}:{each.digest.hex()}" for each in wanted.whole)


def _expected(word: str) -> Expected:
    algorithm, _, digest = word.partition(":")
    return Expected(algorithm, bytes.fromhex(digest))


def _differs(header: UploadHeader, request: UploadRequest, content_type: str) -> bool:
    return (header.total, header.content_type) != (request.total, content_type)
