"""Checksums of uploads: which ones a request asks for, and whether the bytes have them (protocol, section 5.4).

Six header fields from five documents come down to one value: an algorithm and a digest, over the whole file or over
the body of this request. A field that cannot be verified is refused, never ignored. The algorithms have one name
here, whatever a field calls them: "md5", "sha1", "sha-256", "sha-512". The first two find damage, not malice, and are
accepted only where the field's own document defines nothing better or requires them.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hmacfs.core import structured, tus
from hmacfs.errors import BadChecksum, BadHeader, ChecksumMismatch

_HASHLIB_NAMES = {"md5": "md5", "sha1": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
_LENGTHS = {"md5": 16, "sha1": 20, "sha-256": 32, "sha-512": 64}

# What each kind of field calls the algorithms that we verify in it. RFC 9530 section 5 lists md5 and sha as
# deprecated for its own fields, so there they are unknown to us.
_RFC_9530_NAMES = {"sha-256": "sha-256", "sha-512": "sha-512"}
_RFC_3230_NAMES = {"md5": "md5", "sha": "sha1", "sha-256": "sha-256", "sha-512": "sha-512"}
_TUS_NAMES = {"sha1": "sha1", "sha256": "sha-256"}

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Expected:
    """A digest that the bytes must have; of the right length for its algorithm. The digest is not in the repr."""

    algorithm: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Every digest that a request asks to be verified.

    Attributes:
        whole: over the whole file.
        piece: over the body of this request.
    """

    whole: tuple[Expected, ...] = ()
    piece: tuple[Expected, ...] = ()


NOTHING = Wanted()
"""What a request without checksum fields asks for."""

_Parser = Callable[[str, str], tuple[Expected, ...]]  # the field's value and name; empty: no algorithm that we know


def algorithms(expected: Iterable[Expected]) -> frozenset[str]:
    """What a Hasher must compute for them."""
    return frozenset(one.algorithm for one in expected)


def wanted(headers: Mapping[str, str]) -> Wanted:
    """The digests that a request asks for; NOTHING, after one look for each field, when it asks for none.

    Args:
        headers: values of header fields by names that are spelled as in FIELDS. Others are not looked at.

    Raises:
        BadChecksum: a field is malformed, has a digest of the wrong length, or no algorithm that we know. An empty
            field is among these: it is there and cannot be verified.
    """
    whole = _collect(headers, _WHOLE)
    piece = _collect(headers, _PIECE)
    return Wanted(whole, piece) if whole or piece else NOTHING


def repr_digest(sha256_hex: str) -> str:
    """Repr-Digest (RFC 9530 section 3) for an answer with a file whose SHA-256 is known.

    Raises:
        ValueError: not 64 hex digits.
    """
    if not _HEX_SHA256.fullmatch(sha256_hex):
        raise ValueError("not a SHA-256 in hex")
    return structured.serialise_bytes({"sha-256": bytes.fromhex(sha256_hex)})


class Hasher:
    """Digests of bytes that come block by block, by several algorithms at once.

    Each block may be hashed by another thread, one after the other: nothing is shared between two hashers.

    Args:
        algorithms: names of this module's; a name may be repeated. None at all is legal and costs nothing.

    Raises:
        KeyError: an algorithm that we do not know, which is a mistake of the caller.
    """

    __slots__ = ("_hashes",)

    def __init__(self, algorithms: Iterable[str]) -> None:
        # Not for security in the sense of FIPS: such a build would refuse md5 even to find a broken transfer.
        self._hashes = {name: hashlib.new(_HASHLIB_NAMES[name], usedforsecurity=False) for name in algorithms}

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """Hash the next bytes. Blocks of more than 2 KiB let other threads run meanwhile."""
        for state in self._hashes.values():
            state.update(block)

    def digests(self) -> dict[str, bytes]:
        """By algorithm, of all bytes so far; more may follow."""
        return {name: state.digest() for name, state in self._hashes.items()}

    def sha256_hex(self) -> str | None:
        """In lower case; None when SHA-256 is not among the algorithms."""
        state = self._hashes.get("sha-256")
        return None if state is None else state.hexdigest()

    def verify(self, expected: Iterable[Expected]) -> None:
        """Compare all bytes so far with every digest expected of them.

        Raises:
            ChecksumMismatch: naming the algorithm in its detail.
            KeyError: an algorithm that is not computed, which is a mistake of the caller.
        """
        digests = self.digests()
        for one in expected:
            if not hmac.compare_digest(digests[one.algorithm], one.digest):
                raise ChecksumMismatch(f"the {one.algorithm} digest differs")


def _collect(headers: Mapping[str, str], fields: Mapping[str, _Parser]) -> tuple[Expected, ...]:
    found: tuple[Expected, ...] = ()
    for name, parse in fields.items():
        value = headers.get(name)
        if value is None:
            continue
        expected = parse(value, name)
        if not expected:
            raise BadChecksum(f"{name} has no algorithm that is known")
        found += expected
    return found


def _sized(algorithm: str, digest: bytes, name: str) -> Expected:
    if len(digest) != _LENGTHS[algorithm]:
        raise BadChecksum(f"{name} has a {algorithm} digest of {len(digest)} bytes")
    return Expected(algorithm, digest)


def _from_base64(algorithm: str, text: str, name: str) -> Expected:
    try:
        digest = structured.decode_base64(text)
    except ValueError:
        raise BadChecksum(f"{name} is not base64") from None
    return _sized(algorithm, digest, name)


def _x_checksum(value: str, name: str) -> tuple[Expected, ...]:
    """SHA-256 as 64 hex digits, in either case."""
    text = value.strip(" \t")
    if not _HEX_SHA256.fullmatch(text):
        raise BadChecksum(f"{name} is not a SHA-256 in hex")
    return (Expected("sha-256", bytes.fromhex(text)),)


def _rfc_9530(value: str, name: str) -> tuple[Expected, ...]:
    """A structured dictionary of digests; those of unknown algorithms are left alone (RFC 9530 section 2)."""
    try:
        members = structured.byte_sequences(value, name)
    except BadHeader as error:
        raise BadChecksum(error.detail) from None
    return tuple(_sized(_RFC_9530_NAMES[key], members[key], name) for key in members if key in _RFC_9530_NAMES)


def _rfc_3230(value: str, name: str) -> tuple[Expected, ...]:
    """A list of ``algorithm=output``; the names are case-insensitive (RFC 3230 section 4.1.1)."""
    if len(value) > structured.MAX_CHARACTERS:
        raise BadChecksum(f"{name} is longer than {structured.MAX_CHARACTERS} characters")
    found: list[Expected] = []
    for part in value.split(","):
        algorithm, equals, text = part.strip(" \t").partition("=")
        if not algorithm and not equals:
            continue  # an empty element of a list counts for nothing (RFC 9110 section 5.6.1.2)
        if not equals or not _TOKEN.fullmatch(algorithm):
            raise BadChecksum(f"{name} is malformed")
        if known := _RFC_3230_NAMES.get(algorithm.lower()):
            found.append(_from_base64(known, text, name))
    return tuple(found)


def _content_md5(value: str, name: str) -> tuple[Expected, ...]:
    """Base64 of an MD5 (RFC 1864; RFC 2616 section 14.15)."""
    return (_from_base64("md5", value.strip(" \t"), name),)


def _upload_checksum(value: str, name: str) -> tuple[Expected, ...]:
    algorithm, digest = tus.upload_checksum(value)
    known = _TUS_NAMES.get(algorithm)
    return () if known is None else (_sized(known, digest, name),)


_WHOLE: dict[str, _Parser] = {
    "X-Checksum": _x_checksum,
    "Repr-Digest": _rfc_9530,
    "Digest": _rfc_3230,
    "Content-MD5": _content_md5,
}
_PIECE: dict[str, _Parser] = {"Content-Digest": _rfc_9530, "Upload-Checksum": _upload_checksum}

FIELDS = (*_WHOLE, *_PIECE)
"""Every header field that carries a checksum."""
