"""Does the signature prove what an upload says of itself?"""

from dataclasses import dataclass

from hmacfs.core import contenttype, signature
from hmacfs.core.checksum import NOTHING, Wanted
from hmacfs.core.paths import SlotPath
from hmacfs.core.policy import ANYTHING, Policy
from hmacfs.core.signature import Claim
from hmacfs.errors import BadSignature, TooLarge
from hmacfs.services.secrets import Keyring


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a signed request says of the file it uploads, or of the piece of one.

    Attributes:
        total: declared bytes of the whole file.
        client: address for limits, empty when unknown.
        content_type: the declared TYPE, already defaulted.
        sent_type: whether the request had a Content-Type at all.
        must_match: an If-Match header is present, so an existing file is expected.
        awaits_continue: the client sends its body only after 100 Continue, so every refusal should come before it.
        token: X-Session-Token, empty without one. Never in a repr.
        wanted: checksums that the request carries.
        uploader: who sends it, as far as the signature tells; empty otherwise.
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

    def __repr__(self) -> str:
        return f"UploadRequest({self.path}, {self.total})"


class Authority:
    """Judges signatures and what they cover.

    Args:
        max_size: bytes, 0 for no limit (UploadMaxSize).
        type_from_extension: ContentTypeFromExtension.
        prefix: the URL prefix, for hints.
        policy: which files are not wanted.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        max_size: int = 0,
        type_from_extension: bool = False,
        prefix: str = "",
        policy: Policy = ANYTHING,
    ) -> None:
        self._keyring = keyring
        self.max_size = max_size
        self._type_from_extension = type_from_extension
        self._prefix = prefix
        self.policy = policy

    def content_type(self, request: UploadRequest) -> str:
        """The content type that the signature proves.

        Raises:
            BadSignature: with hints for the operator.
            TooLarge: the total is over the limit, which is told to the signed only.
            ExtensionRefused, TypeRefused: the policy, of the type that the signature proves.
        """
        path, keys = request.path, self._keyring.keys
        types = [request.content_type]
        if self._type_from_extension:
            types += contenttype.candidates(path.name)
        verdict = signature.verify(request.claim, keys, path.raw, request.total, types)
        if not verdict.ok:
            raise self._refusal(request, verdict.reason)
        if self.max_size and request.total > self.max_size:
            raise TooLarge
        if self.policy is not ANYTHING:
            self.policy.check(path.name, verdict.content_type)
        return verdict.content_type

    def _refusal(self, request: UploadRequest, reason: str) -> BadSignature:
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
        protocol = request.claim.protocol.value if request.claim else "none"
        return BadSignature(protocol, reason, hints, size=request.total, content_type=request.content_type)
