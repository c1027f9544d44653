"""Which signature a request carries, and whether it proves what the request says.

One protocol, one message form: what earlier servers accepted beside it (without a size, without a type) is refused.
This is the only place that compares MACs, in constant time and over every key; ``bearer`` has PyJWT do the same.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

DEFAULT_TYPE = "application/octet-stream"
"""What Prosody signs, and the reference receivers substitute, when no type was declared."""

_QUERY_IN_PATH = re.compile(rb"[?&](v|v2|v3|token)=")
_HEX_MAC = re.compile(r"[0-9a-fA-F]{64}")
_SECONDS = re.compile(r"[0-9]{1,15}")


class Protocol(Enum):
    """What carries a signature, best first: only the first one present counts, there is no falling back.

    ``BEARER`` is a header, the others are query parameters.
    """

    BEARER = "bearer"
    V3 = "v3"
    V2 = "v2"
    TOKEN = "token"  # noqa: S105 - the name of a parameter
    V = "v"


PLAIN = (Protocol.V2, Protocol.TOKEN, Protocol.V)
"""Those that are always on. They know no time and nobody's name."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The signature a request presents. It never appears in a repr.

    Attributes:
        mac: hex digits; for ``BEARER`` the whole JWT.
        expires: the parameter of that name, as it was written; of ``v3`` only.
    """

    protocol: Protocol
    mac: str
    expires: str = ""

    def __repr__(self) -> str:
        return f"Claim({self.protocol.value})"

    @property
    def is_well_formed(self) -> bool:
        """Whether it could be right, as a MAC. Not for ``BEARER``."""
        has_time = self.protocol is not Protocol.V3 or _SECONDS.fullmatch(self.expires) is not None
        return has_time and _HEX_MAC.fullmatch(self.mac) is not None

    @property
    def proof(self) -> str:
        """What tells this signature from every other one: a SHA-256 of it, as 64 hex digits."""
        mac = self.mac if self.protocol is Protocol.BEARER else self.mac.lower()
        return sha256(f"{self.protocol.value} {self.expires} {mac}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the claim holds.

    Attributes:
        reason: "ok", "missing", "malformed", "wrong", "expired" (right, and too late), "early" or
            "misfit" (right, but of another request: no attempt to guess anything).
        content_type: the candidate type that matched.
        uploader: who sends the file, where the signature tells; else empty.
        file_expires_at: Unix seconds at which the file itself expires, 0 for never by claim.
        hint: why it does not hold, for an operator; else empty.
    """

    reason: str
    content_type: str = DEFAULT_TYPE
    uploader: str = ""
    file_expires_at: int = 0
    hint: str = ""

    @property
    def ok(self) -> bool:
        return self.reason == "ok"


def choose(parameters: dict[str, str], accepts: Sequence[Protocol] = PLAIN, bearer: str | None = None) -> Claim | None:
    """The claim of the highest protocol that a request carries, or None.

    Args:
        accepts: protocols that are on, best first; what carries another one counts as absent.
        bearer: the token of an Authorization header of that scheme, empty where it has none; None without the header.
    """
    for protocol in accepts:
        if protocol is Protocol.BEARER:
            if bearer is not None:
                return Claim(protocol, bearer)
        elif protocol.value in parameters:
            is_v3 = protocol is Protocol.V3
            return Claim(protocol, parameters[protocol.value], parameters.get("expires", "") if is_v3 else "")
    return None


def message_v3(method: str, expires: str, path: bytes, size: str, content_type: str) -> bytes:
    """The bytes that are signed with ``v3``.

    Args:
        method: PUT for every request that creates or continues an upload; GET for HEAD too.
        expires: Unix seconds in decimal, as the parameter says them.
        size, content_type: empty for GET and DELETE.
    """
    return b"\n".join((method.encode(), expires.encode(), path, size.encode(), content_type.encode("latin-1")))


def message_delete(path: bytes, delete_secret: bytes) -> bytes:
    """The bytes that Metronome signs for a DELETE: the delete secret is data, the key is the secret."""
    return path + b"\0" + delete_secret


def message(protocol: Protocol, path: bytes, size: int, content_type: str) -> bytes:
    """The bytes that are signed with one of ``PLAIN``.

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


def is_same_digest(first: str, second: str) -> bool:
    """Whether two digests, in hex digits or empty, are one."""
    return hmac.compare_digest(first.encode(), second.encode())


def verify(
    claim: Claim | None, keys: Sequence[bytes], path: bytes, size: int, types: Sequence[str], now: float = 0.0
) -> Verdict:
    """Judge the claim of an upload against every key and every candidate type, without an early exit.

    Args:
        keys: all secrets that verify, current and previous.
        types: candidate content types, the most trusted first; at least one. With ``v`` the first is taken unjudged.
        now: Unix seconds, for ``v3``.
    """
    if claim is None:
        return Verdict("missing")
    if not claim.is_well_formed:
        return Verdict("malformed")
    types = types[:1] if claim.protocol is Protocol.V else types
    if claim.protocol is Protocol.V3:
        texts = [message_v3("PUT", claim.expires, path, str(size), each) for each in types]
    else:
        texts = [message(claim.protocol, path, size, each) for each in types]
    at = _first_match(claim.mac, keys, texts)
    if at is None:
        return Verdict("wrong")
    return Verdict(_in_time(claim, now), types[at])


def verify_access(claim: Claim | None, keys: Sequence[bytes], method: str, path: bytes, now: float) -> Verdict:
    """Judge a ``v3`` claim of a request without a body. Args: method: GET or DELETE. now: Unix seconds."""
    if claim is None:
        return Verdict("missing")
    if not claim.is_well_formed:
        return Verdict("malformed")
    if _first_match(claim.mac, keys, [message_v3(method, claim.expires, path, "", "")]) is None:
        return Verdict("wrong")
    return Verdict(_in_time(claim, now))


def verify_delete(claim: Claim, keys: Sequence[bytes], path: bytes, delete_secrets: Sequence[bytes]) -> Verdict:
    """Judge Metronome's claim of a DELETE. Args: delete_secrets: the current one and those that were replaced."""
    if not claim.is_well_formed:
        return Verdict("malformed")
    texts = [message_delete(path, delete_secret) for delete_secret in delete_secrets]
    return Verdict("wrong" if _first_match(claim.mac, keys, texts) is None else "ok")


def _first_match(mac: str, keys: Sequence[bytes], texts: Sequence[bytes]) -> int | None:
    """Which text the MAC is of; all of them are judged with all keys, whichever fits."""
    presented = bytes.fromhex(mac)
    matched: int | None = None
    for at, text in enumerate(texts):
        for key in keys:
            fits = hmac.compare_digest(hmac.digest(key, text, "sha256"), presented)
            if fits and matched is None:
                matched = at
    return matched


def _in_time(claim: Claim, now: float) -> str:
    return "expired" if claim.protocol is Protocol.V3 and int(claim.expires) < now else "ok"


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
    if claim is None or not claim.is_well_formed:
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
