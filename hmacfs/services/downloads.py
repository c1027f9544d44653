"""Serving a file: find it, judge the conditions, plan the range. Sending is the web layer's part."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hmacfs.core import caching, clientaddr, contenttype, preconditions, ranges, retention
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import Conditions, Outcome
from hmacfs.core.retention import AgeRule
from hmacfs.core.signature import Claim
from hmacfs.errors import Gone, NotFound, NotPublishedYet, PreconditionFailed
from hmacfs.services.admission import Admission
from hmacfs.services.authority import Authority
from hmacfs.services.publishing import Publishing
from hmacfs.services.retrying import Retries
from hmacfs.storage.base import Entity, Storage, Stored

Opener = Callable[..., Stored]
"""As Storage.open."""


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """A GET or HEAD.

    Attributes:
        range: the Range header, empty where absent.
        offload_from: bytes from which on the proxy in front sends a file itself; None where there is no such proxy.
        claim: its signature, where one of its kind counts.
        client: its address, empty when unknown.
    """

    path: SlotPath
    conditions: Conditions
    range: str = ""
    head: bool = False
    offload_from: int | None = None
    claim: Claim | None = None
    client: str = ""


@dataclass(frozen=True, slots=True)
class Download:
    """The answer to be sent.

    Attributes:
        status: 200, 206 or 304.
        first, length: the slice in bytes; ``length`` is what Content-Length says, also for HEAD.
        disposition: Content-Disposition, None for inline.
        content: the slice itself, where the file is small.
        transfer: the open file, to be closed by the sender; None where ``content`` or nothing is sent.
        offloaded: the proxy sends the bytes, and judges Range itself.
        sha256: of the whole file as hex digits, where it is known.
    """

    status: int
    entity: Entity
    content_type: str
    disposition: str | None
    cache_control: str
    first: int
    length: int
    content: bytes = b""
    transfer: "Transfer | None" = None
    offloaded: bool = False
    sha256: str = ""


class Transfer:
    """An open file on its way out, which holds one of the places for transfers until it is closed."""

    def __init__(self, stored: Stored, admission: Admission) -> None:
        self.stored = stored
        self._admission = admission
        self._is_open = True
        admission.enter_download()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._admission.leave_download()
            self.stored.close()


@dataclass(frozen=True, slots=True)
class DownloadRules:
    """Attributes:
    signed: RequireSignedDownloads.
    may_change: whether a path may get another content, or none, so that a copy must be asked about.
    age: the limit after which files go, if there is one.
    """

    signed: bool = False
    may_change: Callable[[], bool] = lambda: False
    age: AgeRule | None = None


class Downloads:
    """The use case of GET and HEAD.

    Args:
        retries: of opening a file.
        authority: judges signatures; needed where the rules want them.
        clock: Unix seconds.
        publishing: what this worker is about to publish.
    """

    def __init__(
        self,
        storage: Storage,
        admission: Admission,
        retries: Retries,
        authority: Authority | None = None,
        rules: DownloadRules | None = None,
        clock: Callable[[], float] = time.time,
        publishing: Publishing | None = None,
    ) -> None:
        self._storage = storage
        self._publishing = publishing or Publishing()
        self._admission = admission
        self._retries = retries
        self._authority = authority
        self._rules = rules or DownloadRules()
        self._clock = clock

    def open(self, request: DownloadRequest, opener: Opener | None = None, cache_control: str = "") -> Download:
        """Find the file and decide what to send of it.

        Args:
            opener: finds another file than the current one.
            cache_control: another than what every file is answered with.

        Raises:
            BadSignature, TooManyRequests, NotFound, Gone, PreconditionFailed, RangeNotSatisfiable, ServerBusy,
            StorageBusy.
        """
        signed: int | None = None
        if self._rules.signed and opener is None and self._authority is not None:
            signed = self._authority.check_download(request)
        self.check_rate(request)
        stored = self._retries.run(opener or self._found, request.path, with_content=not request.head)
        try:
            download = _plan(request, stored, self._cache_control(stored, signed, cache_control))
            has_body = download.length and not request.head and not download.offloaded
            if has_body and stored.content is not None:
                end = download.first + download.length
                whole = download.length == len(stored.content)
                return replace(download, content=stored.content if whole else stored.content[download.first : end])
            if has_body:
                return replace(download, transfer=Transfer(stored, self._admission))
        except BaseException:
            stored.close()
            raise
        stored.close()
        return download

    def check_rate(self, request: DownloadRequest) -> None:
        """Count a request whose signature, where it needs one, has been judged: a wrong one counts towards a ban
        however many have come. Raises TooManyRequests."""
        if self._admission.check_rate is not None:
            self._admission.check_rate(clientaddr.counted(request.client))

    def _found(self, path: SlotPath, *, with_content: bool) -> Stored:
        """As Storage.open. Raises NotPublishedYet for a path that gets its file at this moment."""
        was_underway = path in self._publishing
        try:
            return self._storage.open(path, with_content=with_content)
        except NotFound:
            if was_underway or path in self._publishing:
                raise NotPublishedYet from None
            raise

    def _cache_control(self, stored: Stored, signed: int | None, special: str) -> str:
        """How long others may keep it.

        Raises Gone for a file whose own time is over and that nobody has removed yet. One that is too old by a rule of
        ours is served until a sweep comes by: it may be the clock that is wrong.
        """
        expires_at = stored.metadata.expires_at
        end = retention.end_of_life(stored.entity.modified, expires_at, self._rules.age)
        now = self._clock() if end is not None else 0.0
        if 0 < expires_at <= now:
            raise Gone
        life = None if end is None else end - now
        return special or caching.cache_control(may_change=self._rules.may_change(), life=life, signed=signed)


def _plan(request: DownloadRequest, stored: Stored, cache_control: str) -> Download:
    entity = stored.entity
    status, first, length = 200, 0, entity.size
    offloaded = request.offload_from is not None and entity.size >= request.offload_from and not request.head
    conditions = request.conditions
    if offloaded:  # the proxy has an ETag of its own for the file, which the client may mean
        conditions = replace(conditions, if_match="", if_unmodified_since="")
    outcome = preconditions.judge(conditions, entity.etag, entity.modified)
    if outcome is Outcome.FAILED:
        raise PreconditionFailed
    if outcome is Outcome.NOT_MODIFIED:
        status, length, offloaded = 304, 0, False
    elif not offloaded and (slice_ := _slice(request, entity)) is not None:
        status, (first, length) = 206, slice_
    content_type = stored.metadata.content_type or contenttype.by_extension(request.path.name)
    return Download(
        status=status,
        entity=entity,
        content_type=content_type,
        disposition=contenttype.disposition(content_type, request.path.name),
        cache_control=cache_control,
        first=first,
        length=length,
        offloaded=offloaded,
        sha256=stored.metadata.sha256,
    )


def _slice(request: DownloadRequest, entity: Entity) -> tuple[int, int] | None:
    # RFC 9110 section 14.2: Range is defined for GET only, so HEAD answers as if it were absent.
    if not request.range or request.head:
        return None
    if not preconditions.range_applies(request.conditions, entity.etag, entity.modified):
        return None
    return ranges.plan(request.range, entity.size)
