"""Does the signature prove what a request says of itself?"""

import time
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace

from hmacfs.core import bearer, contenttype, signature
from hmacfs.core.checksum import NOTHING, Wanted
from hmacfs.core.paths import SlotPath
from hmacfs.core.policy import ANYTHING, Policy
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.core.signature import PLAIN, Claim, Protocol, Verdict
from hmacfs.errors import BadSignature, TooLarge
from hmacfs.services.secrets import Keyring

MOST_BYTES = 2**53
"""Of any file, also without UploadMaxSize: more than a disk holds, and less than what breaks somebody's arithmetic."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a signed request says of the file it uploads, or of the piece of one.

    Attributes:
        total: declared bytes of the whole file.
        client: address for limits, empty when unknown.
        content_type: the declared TYPE, already defaulted; once proven, the one that the signature covers.
        sent_type: whether the request had a Content-Type at all.
        must_match: an If-Match header is present, so an existing file is expected.
        awaits_continue: the client sends its body only after 100 Continue, so every refusal should come before it.
        token: X-Session-Token, empty without one. Never in a repr.
        wanted: checksums that the request carries.
        uploader: who sends it, once that is proven; empty where the signature does not tell.
        expires_at: Unix seconds at which the file expires, once that is proven; 0 for never by claim.
        conditions: under which an existing file may be replaced.
        is_late: the time of its signature is over: it may go on with what it began in time, and begin nothing.
    """

    path: SlotPath
    total: int
    client: str
    content_type: str
    sent_type: bool
    claim: Claim | None
    must_match: bool = False
    awaits_continue: bool = False
    token: str = ""
    wanted: Wanted = NOTHING
    uploader: str = ""
    expires_at: int = 0
    conditions: WriteConditions = ALWAYS
    is_late: bool = False

    def __repr__(self) -> str:
        return f"UploadRequest({self.path}, {self.total})"


class Signed(typing.Protocol):
    """Any request that may be signed, for a file that is there."""

    @property
    def path(self) -> SlotPath: ...
    @property
    def claim(self) -> Claim | None: ...


@dataclass(frozen=True, slots=True)
class DeletionRequest:
    """A DELETE. Attributes: client: address, empty when unknown."""

    path: SlotPath
    client: str
    claim: Claim | None


class Authority:
    """Judges signatures and what they cover.

    Args:
        max_size: bytes, 0 for no limit but MOST_BYTES (UploadMaxSize).
        type_from_extension: ContentTypeFromExtension.
        prefix: the URL prefix, for hints.
        v3: EnableV3.
        policy: which files are not wanted.
        clock: Unix seconds.

    Attributes:
        on_success: called with every signature that holds; it must not wait.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        max_size: int = 0,
        type_from_extension: bool = False,
        prefix: str = "",
        v3: bool = False,
        policy: Policy = ANYTHING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keyring = keyring
        self.max_size = min(max_size or MOST_BYTES, MOST_BYTES)
        self._type_from_extension = type_from_extension
        self._prefix = prefix
        self._clock = clock
        self._timed = (Protocol.V3,) if v3 else ()
        self.policy = policy
        self.on_success: Callable[[], None] = _nothing

    @property
    def accepts(self) -> tuple[Protocol, ...]:
        """What may carry the signature of an upload, best first."""
        return ((Protocol.BEARER,) if self._keyring.jwt_keys else ()) + self._timed + PLAIN

    @property
    def accepts_reading(self) -> tuple[Protocol, ...]:
        """What may carry the signature of a download."""
        return self._timed

    @property
    def accepts_deleting(self) -> tuple[Protocol, ...]:
        """What may carry the signature of a deletion, best first; nothing where there are none."""
        return self._timed + ((Protocol.TOKEN,) if self._keyring.delete_secrets else ())

    def proven(
        self, request: UploadRequest, was_admitted: Callable[[UploadRequest], bool] | None = None
    ) -> UploadRequest:
        """The request with what the signature proves of it: content type, uploader, expiry of the file.

        Args:
            was_admitted: whether an upload that this signature began in time goes on with the request; asked where the
                signature is right and too late (protocol, section 2). The request ``is_late`` then.

        Raises:
            BadSignature: with hints for the operator.
            TooLarge: the total is over the limit, which is told to the signed only.
            ExtensionRefused, TypeRefused: the policy, of the type that the signature proves.
        """
        verdict = self._judged(request)
        if verdict.ok or verdict.reason == "expired":
            is_plain = verdict.content_type == request.content_type and not verdict.uploader
            if not is_plain or verdict.file_expires_at:
                request = replace(
                    request,
                    content_type=verdict.content_type,
                    uploader=verdict.uploader,
                    expires_at=verdict.file_expires_at,
                )
        if not verdict.ok:
            request = replace(request, is_late=verdict.reason == "expired")
            if not request.is_late or was_admitted is None or not was_admitted(request):
                raise self._refusal(request, verdict)
        self.on_success()
        if request.total > self.max_size:
            raise TooLarge
        if self.policy is not ANYTHING:
            self.policy.check(request.path.name, request.content_type)
        return request

    def check_may_begin(self, request: UploadRequest) -> None:
        """Whether a proven request may begin an upload: what it wanted to go on with may have ended since.

        Raises:
            BadSignature.
        """
        if request.is_late:
            raise self._refusal(request, Verdict("expired"))

    def check_download(self, request: Signed) -> int:
        """How many more seconds the signature of a download holds. HEAD is signed as GET.

        Raises:
            BadSignature.
        """
        now = self._clock()
        verdict = signature.verify_access(request.claim, self._keyring.keys, "GET", request.path.raw, now)
        if not verdict.ok or request.claim is None:
            raise _access_refusal(request, verdict)
        self.on_success()
        return int(int(request.claim.expires) - now)

    def check_deletion(self, request: Signed) -> None:
        """Raises BadSignature."""
        claim, path, ring = request.claim, request.path.raw, self._keyring
        if claim is not None and claim.protocol is Protocol.TOKEN:
            verdict = signature.verify_delete(claim, ring.keys, path, ring.delete_secrets)
        else:
            verdict = signature.verify_access(claim, ring.keys, "DELETE", path, self._clock())
        if not verdict.ok:
            raise _access_refusal(request, verdict)
        self.on_success()

    def _judged(self, request: UploadRequest) -> Verdict:
        path, claim = request.path, request.claim
        types = [request.content_type]
        if self._type_from_extension:
            types += contenttype.candidates(path.name)
        if claim is None or claim.protocol in PLAIN:
            return signature.verify(claim, self._keyring.keys, path.raw, request.total, types)
        if claim.protocol is Protocol.V3:
            return signature.verify(claim, self._keyring.keys, path.raw, request.total, types, self._clock())
        keys, now = self._keyring.jwt_keys, self._clock()
        return bearer.verify(claim.mac, keys, path, request.total, types, now, sent_type=request.sent_type)

    def _refusal(self, request: UploadRequest, verdict: Verdict) -> BadSignature:
        hints = signature.hints(
            request.claim,
            self._keyring.keys,
            request.path.raw,
            request.total,
            request.content_type,
            contenttype.candidates(request.path.name),
            request.sent_type,
            self._prefix,
        )
        if verdict.hint:
            hints.append(verdict.hint)
        protocol = request.claim.protocol.value if request.claim else "none"
        return BadSignature(protocol, verdict.reason, hints, size=request.total, content_type=request.content_type)


def _nothing() -> None:
    """Nobody wants to know."""


def _access_refusal(request: Signed, verdict: Verdict) -> BadSignature:
    return BadSignature(request.claim.protocol.value if request.claim else "none", verdict.reason)
