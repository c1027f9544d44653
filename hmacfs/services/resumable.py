"""The use cases of tus and of the draft: uploads that are named by an id (protocol, sections 5.2 and 5.3)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hmacfs.core import checksum, upload
from hmacfs.core.checksum import Wanted
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.core.upload import Event, Piece, State
from hmacfs.errors import (
    BadUploadLength,
    BodyTooLong,
    RequestError,
    TakenOver,
    UnknownUpload,
    UploadComplete,
    UploadGone,
    WrongOffset,
)
from hmacfs.services.admission import Admission
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.engine import Engine
from hmacfs.services.intake import Body
from hmacfs.services.progress import Progress
from hmacfs.services.uploads import Uploads
from hmacfs.storage.base import Partials, PartialUpload


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
    """What a request can do to an upload that has a resource of its own."""

    def __init__(
        self, engine: Engine, partials: Partials, authority: Authority, admission: Admission, uploads: Uploads
    ) -> None:
        self._engine = engine
        self._partials = partials
        self._authority = authority
        self._admission = admission
        self._uploads = uploads
        self.rules = engine.rules

    def check(self, request: UploadRequest) -> None:
        """Only what is judged first. Raises BadSignature, TooLarge."""
        self._authority.proven(request)

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
        request = self._authority.proven(request)
        self._uploads.check_place(request)
        upload_id = self._partials.new_id(request.path)
        header = self._engine.header(request, face, upload_id, note)
        # It is ours alone until it is closed: no other creation drops it before the client knows its id.
        with (
            self._admission.upload(request.client, request.total) as progress,
            self._engine.held(header),
            self._engine.created(header, drop_idle=True, is_draft=False) as partial,
        ):
            self._engine.tell(partial, partial.look())
            if told is not None:
                told(upload_id)
            if first is None:
                return self._engine.progress(partial, partial.look())
            appending, body = first
            with self._engine.keeping(partial, body):
                try:
                    with self._judged_again(partial):
                        return self._append(partial, appending, body, progress.wrote, request.conditions)
                except RequestError as error:
                    if told is None or isinstance(error, BodyTooLong):
                        self._engine.forget(partial)
                    progress.leave()  # before the upload can be another request's
                    raise

    def append(self, upload_id: str, appending: Appending, body: Body) -> Progress:
        """Take a body that continues the upload exactly where it stands. Ends who writes it now.

        Raises:
            RequestError: the refusal; WrongOffset tells where the upload stands.
        """
        with (
            self._by_id(upload_id) as partial,
            self._engine.keeping(partial, body),
            self._judged_again(partial),
        ):
            state, is_tus = partial.look().state, appending.is_last is None
            if is_tus and state is State.PUBLISHED and appending.offset != partial.header.total:
                # A browser repeats a request whose answer it lost: a wrong offset to tus, which clients correct.
                raise WrongOffset(partial.header.total, appending.offset)
            upload.move(state, Event.WRITE)
            self._engine.check_open()
            self._engine.hold_alone(partial)
            piece = self._checked(partial, appending)
            length = (partial.header.total if piece.end is None else piece.end) - piece.first
            with self._admission.upload(appending.client, length) as progress, self._engine.held(partial.header):
                return self._append(partial, appending, body, progress.wrote, ALWAYS)

    def head(self, upload_id: str) -> Progress:
        """Where the upload stands. Ends who writes it now, so that the offset is the last word.

        Raises:
            UnknownUpload, UploadBusy; what publishing raises, where a crash had kept it from happening.
        """
        with self._by_id(upload_id) as partial:
            if partial.look().state is State.OPEN:
                self._engine.hold_alone(partial)
            snapshot = partial.settle()
            is_whole = snapshot.state is State.OPEN and snapshot.extents.prefix == partial.header.total
            if is_whole and partial.header.face == "tus":
                # A crash came between the last byte and publishing. A client of tus sends nothing once it hears that
                # all is here; one of the draft completes the upload itself.
                try:
                    return self._engine.finish(partial, checksum.NOTHING, ALWAYS)
                except UploadComplete:  # by who held it until now
                    snapshot = partial.settle()
            self._engine.tell(partial, snapshot)  # shared state may have lost it
            return self._engine.progress(partial, snapshot)

    def terminate(self, upload_id: str) -> None:
        """Forget the upload and its bytes. Ends who writes it now.

        Raises:
            UnknownUpload, UploadBusy; UploadGone once it is published.
        """
        with self._by_id(upload_id) as partial:
            upload.move(partial.look().state, Event.TERMINATE)
            self._engine.hold_alone(partial)
            upload.move(partial.look().state, Event.TERMINATE)  # it may have been published until it was ours
            partial.remove()
            self._engine.tell_end(partial)
            self._engine.give_back(partial.header)

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
        self,
        partial: PartialUpload,
        appending: Appending,
        body: Body,
        wrote: Callable[[int], None],
        conditions: WriteConditions,
    ) -> Progress:
        """Take a body into an upload that is ours alone."""
        piece = self._checked(partial, appending)
        with self._engine.claimed(partial, piece) as claim:
            self._engine.write(partial, claim, piece, body, appending.wanted, wrote)
        after = self._engine.after(partial, conditions, appending.client, publishes=appending.is_last is not False)
        if appending.is_last and not after.is_complete:
            raise BadUploadLength
        return after

    @contextmanager
    def _judged_again(self, partial: PartialUpload) -> Iterator[None]:
        """A ``with`` block that is refused, where its upload ends, with what the slot's new file says of it: who has
        published that one ended this upload (protocol, section 5.2, "a completion that meets an existing file")."""
        try:
            yield
        except (TakenOver, UploadGone):
            self._uploads.check_free(partial.header.path)
            raise

    @contextmanager
    def _by_id(self, upload_id: str) -> Iterator[PartialUpload]:
        partial = self._partials.resolve(upload_id)
        if partial is None:
            raise UnknownUpload
        try:
            yield partial
        finally:
            partial.close()
