"""Receiving a file: check the signature, collect the body where nobody sees it, publish it whole.

The order of the checks is normative (protocol, section 3): what an unsigned request may learn depends on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core import contenttype, signature
from hmacfs.core.body import BlockSize, BodyMeter
from hmacfs.core.paths import SlotPath
from hmacfs.core.signature import Claim
from hmacfs.core.throttle import WINDOW_SECONDS, RateWatch, TokenBucket
from hmacfs.errors import BadSignature, BodyTimeout, Draining, PreconditionFailed, RequestError, TooLarge
from hmacfs.services.admission import Admission, Admitted
from hmacfs.services.buffers import BufferPool
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import Retries
from hmacfs.services.secrets import Keyring
from hmacfs.state.base import FileRow
from hmacfs.storage.base import Entity, Metadata, Storage

SMALL = 64 * 1024
"""Up to this many bytes a file is collected in memory and stored in one job of the disk pool: a hop costs as much as
the whole work on a small file."""


class Body(Protocol):
    """A request body as it arrives."""

    def read_into(self, buffer: memoryview) -> int | None:
        """Fill ``buffer`` from its start until it is full or the sender pauses.

        The bytes read; 0 at the end of the body; None when nothing has arrived yet. Raises BadBody, BodyTimeout or
        Truncated, nothing else.
        """

    def wait(self, seconds: float) -> bool:
        """Until more has arrived or the body is over; False when neither happened in time."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A plain PUT.

    Attributes:
        total: declared bytes of the file.
        client: address for limits, empty when unknown.
        content_type: the declared TYPE, already defaulted.
        sent_type: whether the request had a Content-Type header at all.
        must_match: an If-Match header is present, so an existing file is expected.
        awaits_continue: the client sends its body only after 100 Continue, so every refusal should come before it.
    """

    path: SlotPath
    total: int
    client: str
    content_type: str
    sent_type: bool
    claim: Claim | None
    must_match: bool = False
    awaits_continue: bool = False


@dataclass(frozen=True, slots=True)
class UploadRules:
    """Attributes:
    max_size: bytes, 0 for no limit.
    type_from_extension: ContentTypeFromExtension.
    prefix: the URL prefix, for hints.
    silence: seconds that a body may pause (ReadTimeout).
    max_rate, min_rate: bytes per second, 0 for none.
    least_block: bytes of a slow sender's block (BufferSize).
    """

    max_size: int = 0
    type_from_extension: bool = False
    prefix: str = ""
    silence: float = 900.0
    max_rate: int = 0
    min_rate: int = 0
    least_block: int = 65536


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time as the services see it: ``now`` in monotonic seconds, ``sleep`` that lets other requests run, ``wall`` in
    Unix seconds."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    wall: Callable[[], float]


class Uploads:
    """The use case of a plain PUT."""

    def __init__(
        self,
        storage: Storage,
        keyring: Keyring,
        admission: Admission,
        rules: UploadRules,
        buffers: BufferPool,
        observer: Observer,
        clocks: Clocks,
        recorder: Recorder,
        retries: Retries,
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._admission = admission
        self._rules = rules
        self._buffers = buffers
        self._observer = observer
        self._clocks = clocks
        self._recorder = recorder
        self._retries = retries

    def receive(self, request: UploadRequest, body: Body) -> Entity:
        """Store the body under its path. When this returns, the file is durable (as configured) and GET works.

        Raises:
            RequestError: the refusal; nothing is left on disk then.
        """
        started = self._clocks.now()
        content_type = self._authorised_type(request)
        if self._rules.max_size and request.total > self._rules.max_size:
            raise TooLarge
        is_small = request.total <= SMALL and not request.must_match and not request.awaits_continue
        if not is_small:
            self._check_vacant(request)
        try:
            with self._admission.upload(request.client, request.total) as progress:
                if is_small:
                    entity = self._receive_small(request, body, Metadata(content_type), progress)
                else:
                    entity = self._receive_large(request, body, Metadata(content_type), progress)
        except RequestError as error:
            if is_small and error.status in (400, 408, 429, 503, 507):
                self._check_vacant(request)  # "exists" comes before these; a small file asks only when it matters
            raise
        self._record(request, content_type)
        self._observer.upload_completed(str(request.path), request.total, self._clocks.now() - started)
        return entity

    def _record(self, request: UploadRequest, content_type: str) -> None:
        """Leave the catalogue's row to the recorder: no tier is asked on the way of an answer."""
        path = request.path.raw.decode()
        self._recorder.file_stored(FileRow(path, request.total, content_type, "", "", int(self._clocks.wall()), 0))

    def _check_vacant(self, request: UploadRequest) -> None:
        self._storage.check_vacant(request.path)
        if request.must_match:
            raise PreconditionFailed  # RFC 9110 section 13.1.1: there is no current representation

    def _receive_small(self, request: UploadRequest, body: Body, metadata: Metadata, progress: Admitted) -> Entity:
        content = bytearray()
        self._collect(body, request.total, content.extend)
        entity = self._storage.store(request.path, content, metadata)
        progress.wrote(request.total)
        return entity

    def _receive_large(self, request: UploadRequest, body: Body, metadata: Metadata, progress: Admitted) -> Entity:
        staged = self._retries.run(self._storage.stage, request.path)

        def write(block: memoryview) -> None:
            staged.write(block)
            progress.wrote(len(block))

        try:
            self._collect(body, request.total, write)
            return staged.publish(metadata)
        finally:
            staged.discard()

    def _authorised_type(self, request: UploadRequest) -> str:
        """The content type that the signature proves. Raises BadSignature, with hints for the operator."""
        path, keys = request.path, self._keyring.keys
        types = [request.content_type]
        if self._rules.type_from_extension:
            types += contenttype.candidates(path.name)
        verdict = signature.verify(request.claim, keys, path.raw, request.total, types)
        if verdict.ok:
            return verdict.content_type
        hints = signature.hints(
            request.claim,
            keys,
            path.raw,
            request.total,
            request.content_type,
            contenttype.candidates(path.name),
            request.sent_type,
            self._rules.prefix,
        )
        raise BadSignature(request.claim.protocol.value if request.claim else "none", verdict.reason, hints)

    def _collect(self, body: Body, total: int, write: Callable[[memoryview], None]) -> None:
        """Hand the whole body to ``write`` block by block. While nothing arrives, no buffer is held."""
        now = self._clocks.now
        meter = BodyMeter(total)
        size = BlockSize(self._rules.least_block, self._buffers.size)
        bucket = TokenBucket(self._rules.max_rate, now()) if self._rules.max_rate else None
        watch = RateWatch(self._rules.min_rate, now()) if self._rules.min_rate else None
        while meter.missing:
            wanted = min(meter.missing, size.bytes, bucket.piece if bucket else total)
            filled = self._take_block(body, size, wanted, write)
            if filled is None:
                self._wait(body, watch)
                continue
            if not filled:
                break
            meter.take(filled)
            if watch:
                watch.take(filled, now())
            if bucket and (pause := bucket.spend(filled, now())) and meter.missing:
                self._clocks.sleep(pause)
        if meter.missing and self._admission.draining:
            raise Draining
        meter.finish()

    def _take_block(self, body: Body, size: BlockSize, wanted: int, write: Callable[[memoryview], None]) -> int | None:
        """One read and its write. A function of its own: when it returns nothing refers to the buffer any more."""
        begun = self._clocks.now()
        with self._buffers.lend(wanted) as buffer:
            filled = body.read_into(buffer[:wanted])
            size.learn(filled, wanted, self._clocks.now() - begun)
            if filled:
                write(buffer[:filled])
        return filled

    def _wait(self, body: Body, watch: RateWatch | None) -> None:
        """Until more of the body is there. Raises BodyTimeout for silence and for a body that is too slow."""
        if watch and watch.is_too_slow(self._clocks.now()):  # all that has arrived is counted now
            raise BodyTimeout("MinBytesPerSecond")
        patience = self._rules.silence
        while not body.wait(min(patience, WINDOW_SECONDS / 6) if watch else patience):
            patience -= WINDOW_SECONDS / 6
            if watch is None or patience <= 0:
                raise BodyTimeout("ReadTimeout")
            if watch.is_too_slow(self._clocks.now()):
                raise BodyTimeout("MinBytesPerSecond")
