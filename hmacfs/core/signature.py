"""Which signature a request carries, and whether it proves what the request says.

One protocol, one message form: what earlier servers accepted beside it (without a size, without a type) is refused.
This is the only place that compares MACs, in constant time and over every key.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

DEFAULT_TYPE = "application/octet-stream"
"""What Prosody signs, and the reference receivers substitute, when no type was declared."""

_QUERY_IN_PATH = re.compile(rb"[?&](v|v2|token)=")
_HEX_MAC = re.compile(r"[0-9a-fA-F]{64}")


class Protocol(Enum):
    """Query parameters that carry a MAC, best first: only the first one present counts, there is no falling back."""

    V2 = "v2"
    TOKEN = "token"  # noqa: S105 - the name of a parameter
    V = "v"


@dataclass(frozen=True, slots=True)
class Claim:
    """The MAC a request presents. It never appears in a repr."""

    protocol: Protocol
    mac: str

    def __repr__(self) -> str:
        return f"Claim({self.protocol.value})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the claim holds.

    Attributes:
        reason: "ok", "missing", "malformed" or "wrong".
        content_type: the candidate type that matched.
    """

    reason: str
    content_type: str = DEFAULT_TYPE

    @property
    def ok(self) -> bool:
        return self.reason == "ok"


def choose(parameters: dict[str, str]) -> Claim | None:
    """The claim of the highest protocol among the query parameters, or None."""
    for protocol in Protocol:
        if protocol.value in parameters:
            return Claim(protocol, parameters[protocol.value])
    return None


def message(protocol: Protocol, path: bytes, size: int, content_type: str) -> bytes:
    """The bytes that are signed.

    Args:
        path: percent-decoded, without the URL prefix and without a leading slash.
        size: total bytes of the file, written in decimal ASCII.
        content_type: the Content-Type header verbatim; only ``v2`` and ``token`` cover it.
    """
    if protocol is Protocol.V:
        return b"%s %d" % (path, size)
    return b"%s\0%d\0%s" % (path, size, content_type.encode("latin-1"))


def sign(key: bytes, text: bytes) -> str:
    """HMAC-SHA-256 in lower-case hex."""
    return hmac.digest(key, text, "sha256").hex()


def is_digest_of(digest: str, token: str) -> bool:
    """Whether ``digest``, 64 hex digits or nothing, is the SHA-256 of a session token."""
    return hmac.compare_digest(digest.encode(), sha256(token.encode()).hexdigest().encode())


def verify(claim: Claim | None, keys: Sequence[bytes], path: bytes, size: int, types: Sequence[str]) -> Verdict:
    """Judge ``claim`` against every key and every candidate type, without an early exit.

    Args:
        keys: all secrets that verify, current and previous.
        types: candidate content types, the most trusted first; at least one. With ``v`` the first is taken unjudged.
    """
    if claim is None:
        return Verdict("missing")
    if not _HEX_MAC.fullmatch(claim.mac):
        return Verdict("malformed")
    presented = bytes.fromhex(claim.mac)
    matched: str | None = None
    for content_type in types[:1] if claim.protocol is Protocol.V else types:
        text = message(claim.protocol, path, size, content_type)
        for key in keys:
            fits = hmac.compare_digest(hmac.digest(key, text, "sha256"), presented)
            if fits and matched is None:
                matched = content_type
    return Verdict("wrong") if matched is None else Verdict("ok", matched)


def hints(
    claim: Claim | None,
    keys: Sequence[bytes],
    path: bytes,
    size: int,
    declared: str,
    by_extension: Sequence[str],
    sent_type: bool,
    prefix: str,
) -> list[str]:
    """Why a MAC may not fit, in terms that an operator can act on. For the log only.

    Args:
        declared: the content type that was judged.
        by_extension: content types that the extension suggests.
        sent_type: whether the request had a Content-Type header.
    """
    if claim is None and _QUERY_IN_PATH.search(path):
        return ["the query arrived inside the path: the client or a proxy encodes the question mark"]
    if claim is None or not _HEX_MAC.fullmatch(claim.mac):
        return []
    found = []
    types = (declared, *by_extension)
    prefixed = prefix.encode() + b"/" + path
    if prefix and path.startswith(prefix.encode() + b"/"):
        found.append("PATH begins with the prefix twice: the base URL of the XMPP server probably repeats it")
    if prefix and verify(claim, keys, prefixed, size, types).ok:
        found.append("the sender signs the URL prefix too: leave it out of its base URL or set UploadSubDir to empty")
    if claim.protocol is not Protocol.V:
        if not sent_type:
            found.append("no Content-Type header was sent, so application/octet-stream was judged")
        if verify(claim, keys, path, size, by_extension).ok:
            found.append("the sender signs the type of the extension: set ContentTypeFromExtension = true")
        if verify(Claim(Protocol.V, claim.mac), keys, path, size, types).ok:
            found.append(f"the MAC is of protocol v but stands in parameter {claim.protocol.value}")
    return found
