"""Receiving a file: check the signature, collect the body where nobody sees it, publish it whole.

The order of the checks is normative (protocol, section 3): what an unsigned request may learn depends on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core import contenttype, signature
from hmacfs.core.body import BodyMeter
from hmacfs.core.paths import SlotPath
from hmacfs.core.signature import Claim
from hmacfs.errors import BadSignature, PreconditionFailed, TooLarge
from hmacfs.services.buffers import BufferPool
from hmacfs.services.observer import Observer
from hmacfs.services.secrets import Keyring
from hmacfs.storage.base import Entity, Metadata, Staged, Storage


class Body(Protocol):
    """A request body as it arrives."""

    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer`` from its start; the bytes read, 0 at the end of the body.

        Raises BadBody, BodyTimeout or Truncated; nothing else.
        """


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A plain PUT.

    Attributes:
        total: declared bytes of the file.
        content_type: the declared TYPE, already defaulted.
        sent_type: whether the request had a Content-Type header at all.
        must_match: an If-Match header is present, so an existing file is expected.
    """

    path: SlotPath
    total: int
    content_type: str
    sent_type: bool
    claim: Claim | None
    must_match: bool = False


@dataclass(frozen=True, slots=True)
class UploadRules:
    """Attributes: max_size: bytes, 0 for no limit. type_from_extension: ContentTypeFromExtension. prefix: for hints."""

    max_size: int
    type_from_extension: bool
    prefix: str


class Uploads:
    """The use case of a plain PUT."""

    def __init__(
        self,
        storage: Storage,
        keyring: Keyring,
        rules: UploadRules,
        buffers: BufferPool,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._rules = rules
        self._buffers = buffers
        self._observer = observer
        self._clock = clock

    def receive(self, request: UploadRequest, body: Body) -> Entity:
        """Store the body under its path. When this returns, the file is durable (as configured) and GET works.

        Raises:
            RequestError: the refusal; nothing is left on disk then.
        """
        started = self._clock()
        content_type = self._authorised_type(request)
        if self._rules.max_size and request.total > self._rules.max_size:
            raise TooLarge
        self._storage.check_vacant(request.path)
        if request.must_match:
            raise PreconditionFailed  # RFC 9110 section 13.1.1: there is no current representation
        staged = self._storage.stage(request.path)
        try:
            self._collect(body, staged, request.total)
            entity = staged.publish(Metadata(content_type))
        finally:
            staged.discard()
        self._observer.upload_completed(str(request.path), request.total, self._clock() - started)
        return entity

    def _authorised_type(self, request: UploadRequest) -> str:
        """The content type that the signature proves. Raises BadSignature, with hints for the operator."""
        path, keys = request.path, self._keyring.keys
        by_extension = contenttype.candidates(path.name)
        types = [request.content_type, *(by_extension if self._rules.type_from_extension else ())]
        verdict = signature.verify(request.claim, keys, path.raw, request.total, types)
        if verdict.ok:
            return verdict.content_type
        hints = signature.hints(
            request.claim,
            keys,
            path.raw,
            request.total,
            request.content_type,
            by_extension,
            request.sent_type,
            self._rules.prefix,
        )
        raise BadSignature(request.claim.protocol.value if request.claim else "none", verdict.reason, hints)

    def _collect(self, body: Body, staged: Staged, total: int) -> None:
        meter = BodyMeter(total)
        with self._buffers.lend(total) as buffer:
            while meter.missing:
                block = buffer[: min(len(buffer), meter.missing)]
                filled = _fill(body, block)
                if filled:
                    staged.write(block[:filled])
                    meter.take(filled)
                if filled < len(block):
                    break
        meter.finish()


def _fill(body: Body, block: memoryview) -> int:
    """Read until ``block`` is full or the body ends; the bytes that are in it."""
    filled = 0
    while filled < len(block):
        count = body.read_into(block[filled:])
        if not count:
            break
        filled += count
    return filled
