"""What tus 1.0.0 writes in headers (https://tus.io/protocols/resumable-upload, core protocol and extensions).

Its fields are older than structured fields and look different: plain numbers, and pairs of a word and base64. What the
values mean for an upload is not decided here.
"""

import re

from hmacfs.core import contenttype
from hmacfs.core.structured import decode_base64
from hmacfs.errors import BadChecksum, BadHeader

VERSION = "1.0.0"
"""Tus-Resumable and Tus-Version."""

EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
"""Tus-Extension. No creation-defer-length and no concatenation: the MAC covers the total (protocol, section 5.2)."""

CHECKSUM_ALGORITHMS = "sha1,sha256"
"""Tus-Checksum-Algorithm; the extension requires sha1."""

MAX_DIGITS = 18
MAX_PAIRS = 100
MAX_VALUE_BYTES = 8192
"""Of all values of one Upload-Metadata together, decoded."""

MAX_METADATA_CHARACTERS = 16384
"""Of the field as it is written; bounds the keys, and the work before anything is decoded."""

_KEY = re.compile(r"[!-~]+")  # a comma cannot come here: the pairs are separated by it
_ALGORITHM = re.compile(r"[a-z0-9-]{1,32}")


def number(text: str, name: str) -> int:
    """The number of bytes in Upload-Offset or Upload-Length of tus: decimal digits, at most 18, and nothing else.

    Args:
        name: the field's, for the log.

    Raises:
        BadHeader: anything else.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadHeader(f"{name} is not a number of bytes")
    return int(text)


def metadata(header: str) -> dict[str, bytes]:
    """The pairs of Upload-Metadata, in their order; a key without a value has ``b""``.

    An empty field has no pairs, although tus wants at least one: tuspy sends it for an upload without metadata.

    Raises:
        BadHeader: a key that is empty, repeated or not visible ASCII, a value that is not padded base64, more than 100
            pairs, more than 8 KiB of values, or a field of more than 16 KiB.
    """
    if len(header) > MAX_METADATA_CHARACTERS:
        raise BadHeader(f"Upload-Metadata is longer than {MAX_METADATA_CHARACTERS} characters")
    text = header.strip(" \t")
    parts = text.split(",") if text else []
    if len(parts) > MAX_PAIRS:
        raise BadHeader(f"Upload-Metadata has more than {MAX_PAIRS} pairs")
    pairs: dict[str, bytes] = {}
    for part in parts:
        key, value = _pair(part.strip(" \t"))
        if key in pairs:
            raise BadHeader("Upload-Metadata repeats a key")
        pairs[key] = value
    if sum(map(len, pairs.values())) > MAX_VALUE_BYTES:
        raise BadHeader(f"Upload-Metadata has more than {MAX_VALUE_BYTES} bytes of values")
    return pairs


def file_type(pairs: dict[str, bytes]) -> str:
    """The TYPE that an upload declares by the key ``filetype``; empty when there is no such key or nothing in it.

    Raises:
        BadHeader: what no Content-Type header may be (protocol, section 2, TYPE).
    """
    text = pairs.get("filetype", b"").decode("latin-1")  # every byte stays visible to the check
    return contenttype.declared(text) if text else ""


def upload_checksum(header: str) -> tuple[str, bytes]:
    """The algorithm, as tus names it, and the digest of Upload-Checksum: ``sha1 BASE64``.

    Whether the algorithm is known and the digest as long as its own are, is for ``core/checksum`` to say.

    Raises:
        BadChecksum: not of this form.
    """
    algorithm, _, text = header.strip(" \t").partition(" ")
    if not _ALGORITHM.fullmatch(algorithm) or not text:
        raise BadChecksum("Upload-Checksum is malformed")
    try:
        return algorithm, decode_base64(text)
    except ValueError:
        raise BadChecksum("Upload-Checksum is not base64") from None


def _pair(text: str) -> tuple[str, bytes]:
    key, _, value = text.partition(" ")
    if not _KEY.fullmatch(key):
        raise BadHeader("Upload-Metadata has a key that is empty or not visible ASCII")
    try:
        return key, decode_base64(value)
    except ValueError:
        raise BadHeader("Upload-Metadata has a value that is not base64") from None
