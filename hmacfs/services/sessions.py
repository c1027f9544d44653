"""The use cases of X-Session-Token (protocol, section 5.1): pieces in any order, and a plain PUT that may go on."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from hmacfs.core import checksum, upload
from hmacfs.core.checksum import Wanted
from hmacfs.core.upload import Event, Piece, State
from hmacfs.errors import (
    BadChecksum,
    FileExists,
    TakenOver,
    TooManyGaps,
    TypeRefused,
    UnknownUpload,
    UploadComplete,
    UploadExists,
    UploadGone,
    WrongOffset,
)
from hmacfs.services.admission import Admission, Admitted, Visit
from hmacfs.services.authority import UploadRequest
from hmacfs.services.engine import Engine
from hmacfs.services.intake import Body, Intake, drop
from hmacfs.services.progress import Progress
from hmacfs.services.tokens import Tokens
from hmacfs.services.uploads import Uploads
from hmacfs.services.writing import Taken
from hmacfs.storage.base import Partials, PartialUpload, UploadHeader


class Sessions:
    """What a request with a token, or one that may get a token, can do to a slot."""

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        partials: Partials,
        admission: Admission,
        intake: Intake,
        uploads: Uploads,
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._partials = partials
        self._admission = admission
        self._intake = intake
        self._uploads = uploads

    def ask(self, request: UploadRequest) -> Progress:
        """Where the upload of this slot stands. Ends nobody's writing.

        Raises:
            BadSignature, TooLarge, FileExists, PathConflict, WrongSlot.
        """
        request = self._tokens.proven(request)
        if (published := self._tokens.published(request, may_ask=True)) is not None:
            return published
        try:
            with self._tokens.session(request) as partial:
                if partial is not None:
                    return self._asked(partial, request)
        except (UploadComplete, UploadGone, FileExists) as error:  # it ended while we looked
            return self._tokens.ended(request, error, may_ask=True)
        # It may have been published, and so forgotten, between our two looks.
        if (published := self._tokens.published(request, may_ask=True)) is not None:
            return published
        self._tokens.check_may_begin(request)
        return self._tokens.unbegun(request, request.token or secrets.token_urlsafe(24))

    def _asked(self, partial: PartialUpload, request: UploadRequest) -> Progress:
        snapshot = partial.settle()
        if snapshot.state is State.PUBLISHED:
            raise UploadComplete
        if snapshot.state is State.GONE:
            raise UploadGone
        self._engine.want(partial, request.wanted)
        is_whole = snapshot.extents.prefix == request.total
        if is_whole and partial.is_idle():  # a crash came between the last byte and publishing
            return self._engine.finish(partial, checksum.NOTHING, request.conditions, request.client)
        self._engine.tell(partial, snapshot)  # shared state may have lost it
        return self._engine.progress(partial, snapshot)

    def put_piece(
        self, request: UploadRequest, piece: Piece, body: Body, found: Callable[[str], None] | None = None
    ) -> Progress:
        """Take the bytes from ``piece.first`` to ``piece.end``; publish the file when they were the last missing ones.

        Args:
            found: told the token of the session that the piece goes to, so that a refusal can carry it too.

        Raises:
            RequestError: the refusal. What had arrived and was recorded stays, unless the piece carries a checksum.
        """
        request = self._tokens.proven(request)
        visit = self._admission.visit(request.client)
        if (published := self._tokens.published(request, may_ask=False)) is not None:
            return self._replayed(visit, piece, body, published)
        taken = Taken(body)
        try:
            with (
                self._session_for(request, piece, visit) as partial,
                _settled_refusals(partial),
                self._engine.keeping(partial, taken),
            ):
                if found is not None:
                    found(partial.header.secret)
                return self._put_piece(partial, request, piece, taken, visit)
        except (UploadComplete, UploadGone, UnknownUpload, FileExists) as error:  # it ended while we were at work
            published = self._tokens.ended(request, error, may_ask=False)
            return published if taken.begun else self._replayed(visit, piece, body, published)
        except TakenOver:
            self._tokens.published(request, may_ask=False)  # by another upload: that is what ended this one then
            raise

    def put_whole(self, request: UploadRequest, body: Body) -> Progress:
        """A plain PUT with a token: it stages on its own from byte 0. Broken off, it is what the token stands for from
        then on, if it is longer than what there was.

        Raises:
            RequestError: the refusal.
        """
        request = self._tokens.proven_whole(request)
        self._uploads.check_place(request)
        request = replace(request, wanted=Wanted((*request.wanted.whole, *request.wanted.piece)))  # the piece is whole
        try:
            return self._put_whole(request, body)
        except (TakenOver, UploadComplete, UploadGone):  # another request was faster
            self._uploads.check_place(request)
            raise

    def _put_whole(self, request: UploadRequest, body: Body) -> Progress:
        with self._tokens.session(request) as known:
            is_draft = known is not None
        if not is_draft:
            self._tokens.check_may_begin(request)
        header = self._engine.header(request, "session", request.token)
        with (
            self._admission.upload(request.client, request.total) as progress,
            self._engine.held(header),
            self._staged(header, is_draft=is_draft) as partial,
            self._engine.keeping(partial, body),
        ):
            try:
                self._write_whole(partial, body, progress)
            except TypeRefused:
                raise  # nothing of it is kept
            except BaseException:
                self._keep_longer(partial)
                raise
            return self._engine.after(partial, request.conditions, request.client, publishes=True)

    def _write_whole(self, partial: PartialUpload, body: Body, admitted: Admitted) -> None:
        piece = Piece(0, partial.header.total)
        with self._engine.claimed(partial, piece) as claim:
            try:
                self._engine.write(partial, claim, piece, body, checksum.NOTHING, admitted.wrote)
            except BaseException:
                admitted.leave()
                raise

    def _put_piece(
        self, partial: PartialUpload, request: UploadRequest, piece: Piece, body: Body, visit: Visit
    ) -> Progress:
        length = (piece.end or 0) - piece.first
        self._check_piece(partial, piece)
        self._engine.check_open()
        with (
            self._engine.claimed(partial, piece) as claim,
            visit.upload(length) as progress,
            self._engine.held(partial.header),
        ):
            self._engine.write(partial, claim, piece, body, request.wanted, progress.wrote)
        return self._engine.after(partial, request.conditions, request.client, publishes=True)

    def _check_piece(self, partial: PartialUpload, piece: Piece) -> None:
        snapshot = partial.look()
        upload.move(snapshot.state, Event.WRITE)
        if self._engine.rules.in_any_order:
            upload.check_gaps(snapshot.extents, piece)
        elif piece.first != snapshot.extents.prefix:
            raise WrongOffset(partial.settle().extents.prefix, piece.first)

    @contextmanager
    def _session_for(self, request: UploadRequest, piece: Piece, visit: Visit) -> Iterator[PartialUpload]:
        """The session that a piece belongs to. A first piece begins one where there is none.

        Raises:
            UnknownUpload: a later piece of nothing.
        """
        if request.token or piece.first:
            with self._tokens.session(request) as partial:
                if partial is not None:
                    yield partial
                    return
        if piece.first:
            raise UnknownUpload  # the caller looks whether it has been published meanwhile
        self._tokens.check_may_begin(request)
        with visit.upload(request.total):
            pass  # free space is judged on the total (protocol, section 2), once: each piece reserves its own bytes
        header = self._engine.header(request, "session", request.token or secrets.token_urlsafe(24))
        try:
            with self._engine.held(header), self._engine.created(header, drop_idle=False, is_draft=False) as partial:
                if self._tokens.published(request, may_ask=False) is not None:  # while this one began
                    self._engine.forget(partial)
                    raise UploadComplete
                yield partial
        except UploadExists:  # another first piece was faster: continue its upload
            with self._tokens.session(request) as partial:
                if partial is None:
                    raise
                yield partial

    def _replayed(self, visit: Visit, piece: Piece, body: Body, published: Progress) -> Progress:
        """A piece of a file that is there already: its bytes are read and dropped."""
        with visit.upload(0):
            self._intake.collect(body, (piece.end or 0) - piece.first, drop)
        return published

    @contextmanager
    def _staged(self, header: UploadHeader, *, is_draft: bool) -> Iterator[PartialUpload]:
        """The partial of a plain PUT: on its own, where its token stands for another one."""
        try:
            with self._engine.created(header, drop_idle=False, is_draft=is_draft) as partial:
                yield partial
        except UploadExists:  # that one began at this moment
            with self._engine.created(header, drop_idle=False, is_draft=True) as partial:
                yield partial

    def _keep_longer(self, partial: PartialUpload) -> None:
        """A plain PUT was broken off: what arrived of it is dropped, or becomes what its token stands for."""
        snapshot = partial.look()
        ours = snapshot.extents
        if snapshot.state is not State.OPEN:  # whoever ended it has removed it
            return
        if not partial.is_draft:
            if not ours.recorded:
                partial.remove()
                self._engine.tell_end(partial)
            return
        known = self._partials.find(partial.header.path, "session", partial.header.secret)
        try:
            if known is None:
                partial.remove()
                return
            if not upload.replaces(ours, known.look().extents):
                _drop_beside(known, partial)
                return
            self._engine.hold_alone(known)
            self._engine.hold_alone(partial)
            now = known.look()  # it may have gone on until it was ours
            if now.state is not State.OPEN or not upload.replaces(ours, now.extents):
                _drop_beside(known, partial)
                return
            partial.settle()
            partial.replace(known)
            self._engine.tell(partial, partial.look())
        finally:
            if known is not None:
                known.close()


def _drop_beside(known: PartialUpload, partial: PartialUpload) -> None:
    """Remove a draft. The checksums that came with it are of the whole file, so they count for what stays."""
    try:
        known.want(partial.wanted())
    except BadChecksum:
        pass  # more different ones than can be kept, of which no file has all
    partial.remove()


@contextmanager
def _settled_refusals(partial: PartialUpload) -> Iterator[None]:
    """A ``with`` block out of which TooManyGaps comes with an offset that was synced, as every one that is told."""
    try:
        yield
    except TooManyGaps:
        raise TooManyGaps(partial.settle().extents.prefix) from None
