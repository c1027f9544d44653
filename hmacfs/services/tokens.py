"""What an X-Session-Token stands for: an upload, a file that is there, or nothing (protocol, section 5.1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hmacfs.core import signature
from hmacfs.errors import FileExists, Gone, NotFound, RequestError, UnknownUpload, UploadComplete, UploadGone, WrongSlot
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.intake import Clocks
from hmacfs.services.progress import Progress, ResumeRules
from hmacfs.services.uploads import Uploads
from hmacfs.storage.base import Partials, PartialUpload, Storage, UploadHeader


class Tokens:
    """Looks only: nothing here writes or ends an upload."""

    def __init__(
        self,
        storage: Storage,
        partials: Partials,
        authority: Authority,
        uploads: Uploads,
        clocks: Clocks,
        rules: ResumeRules,
    ) -> None:
        self._storage = storage
        self._partials = partials
        self._authority = authority
        self._uploads = uploads
        self._clocks = clocks
        self._rules = rules

    def proven(self, request: UploadRequest) -> UploadRequest:
        """As Authority.proven, of a question or a piece. A signature whose time is over still counts for what it began
        in time, and for hearing that this is published: the answer to the last piece may have got lost."""
        return self._authority.proven(request, self._was_admitted if request.token else None)

    def proven_whole(self, request: UploadRequest) -> UploadRequest:
        """The same of a whole body. Once the upload is published that is a new one, and judged as such: a signature
        whose time is over would replace the file again and again, where versions are kept."""
        return self._authority.proven(request, self._has_begun if request.token else None)

    def check_may_begin(self, request: UploadRequest) -> None:
        """As Authority.check_may_begin, right before an upload begins."""
        self._authority.check_may_begin(request)

    def _was_admitted(self, request: UploadRequest) -> bool:
        """Whether the request goes on with an upload that the same signature began in time, or asks for its file."""
        return self._has_begun(request) or self._was_published(request)

    def _has_begun(self, request: UploadRequest) -> bool:
        """Whether the same signature began an upload with this token, and that is not over."""
        partial = self._partials.find(request.path, "session", request.token)
        if partial is None:
            return False
        header = partial.header
        partial.close()
        is_same = request.claim is not None and signature.is_same_digest(header.proof, request.claim.proof)
        return is_same and not _differs(header, request)

    def _was_published(self, request: UploadRequest) -> bool:
        """Whether the token's upload, of this size and type, was published less than SessionTTL ago."""
        try:
            stored = self._storage.open(request.path, with_content=False)
        except (Gone, NotFound):
            return False
        entity, metadata = stored.entity, stored.metadata
        stored.close()
        if (entity.size, metadata.content_type) != (request.total, request.content_type):
            return False
        is_young = self._clocks.wall() < entity.modified + self._rules.ttl
        return is_young and signature.is_digest_of(metadata.token_digest, request.token)

    def published(self, request: UploadRequest, *, may_ask: bool) -> Progress | None:
        """The answer for a slot whose file is there already; None while it is not, or may be replaced.

        Raises:
            FileExists: it is there, and not by this token. PathConflict, PreconditionFailed, TooManyVersions.
        """
        try:
            stored = self._storage.open(request.path, with_content=False)
        except NotFound:
            try:
                self._uploads.check_place(request)
                return None
            except FileExists:  # it came between these two looks
                stored = self._storage.open(request.path, with_content=False)
        entity, metadata = stored.entity, stored.metadata
        stored.close()
        may_ask = may_ask and not self._uploads.replaces  # a new version may be as long as the old one
        is_same = signature.is_digest_of(metadata.token_digest, request.token) if request.token else may_ask
        if not is_same or entity.size != request.total:
            self._uploads.check_place(request)
            if self._uploads.replaces:
                return None
            raise FileExists
        done = self.unbegun(request, request.token)
        return replace(done, offset=entity.size, is_complete=True, entity=entity)

    @contextmanager
    def session(self, request: UploadRequest) -> Iterator[PartialUpload | None]:
        """What the token stands for in this slot; without a token the session that has got furthest.

        Raises:
            WrongSlot: the token belongs to another slot: another path, total or type.
        """
        partial = (
            self._partials.find(request.path, "session", request.token)
            if request.token
            else self._partials.furthest(request.path, request.total, request.content_type)
        )
        try:
            if partial is None and request.token and self._partials.knows_token(request.token):
                partial = self._partials.find(request.path, "session", request.token)  # it may have begun just now
                if partial is None:
                    raise WrongSlot
            if partial is not None and _differs(partial.header, request):
                raise WrongSlot
            yield partial
        finally:
            if partial is not None:
                partial.close()

    def ended(self, request: UploadRequest, error: RequestError, *, may_ask: bool) -> Progress:
        """The answer where an upload ended while a request was at it: published, as a rule.

        Raises:
            FileExists: by another one. UnknownUpload: it is gone. Else ``error`` itself.
        """
        published = self.published(request, may_ask=may_ask)
        if published is not None:
            return published
        if isinstance(error, UploadGone | UploadComplete):
            raise UnknownUpload from error
        raise error

    def unbegun(self, request: UploadRequest, secret: str) -> Progress:
        """Of an upload that has not begun."""
        return Progress(request.path, 0, request.total, secret, self._clocks.wall() + self._rules.ttl)


def _differs(header: UploadHeader, request: UploadRequest) -> bool:
    return (header.total, header.content_type) != (request.total, request.content_type)
