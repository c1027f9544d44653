"""The path of a slot: which byte strings can be stored, and how a path is shown and linked.

PATH is what follows the URL prefix, percent-decoded exactly once by the server. It is never normalised: the MAC is over
these very bytes, and two different byte strings are never one file.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from hmacfs.errors import BadPath

MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
"""NAME_MAX of every common Linux filesystem."""
MAX_SEGMENTS = 8

_LIKE_A_MAC = re.compile(r"[0-9a-fA-F]{64}")
_PLAIN = re.compile(r"[!#-$&-\[\]-~]*")
"""Printable ASCII but for space, percent, quotation mark and backslash."""

_UPLOADS = re.compile(rb"\.uploads[^A-Za-z0-9_-]+", re.IGNORECASE)
_UPLOAD_ID = re.compile(rb"[A-Za-z0-9_-]{24}[0-9a-f]{32}")
"""As ``storage.partials`` makes them."""
_SHOWN_OF_ID = 8
_HIDDEN_BYTES = 56
_DECODINGS = 4
_ENCODED_PERCENT = re.compile(rb"%(?:25)+")
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F]+")

_CONTROL = frozenset((*range(0x20), 0x7F))


@dataclass(frozen=True, slots=True)
class SlotPath:
    """A path that can be stored: valid UTF-8, one to eight segments, none of them special.

    Attributes:
        raw: the bytes that were signed, no leading slash.
        segments: the same, split at slashes.
    """

    raw: bytes
    segments: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """The last segment, the file's name for people."""
        return self.segments[-1].decode()

    def __str__(self) -> str:
        return shown(self.raw)


def parse(raw: bytes) -> SlotPath:
    """The slot path for ``raw``, or BadPath saying which rule it breaks (protocol, section 1)."""
    if len(raw) > MAX_PATH_BYTES:
        raise BadPath(f"path over {MAX_PATH_BYTES} bytes")
    if not _CONTROL.isdisjoint(raw):
        raise BadPath("control byte in path")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath("path is not UTF-8") from None
    segments = tuple(raw.split(b"/"))
    if len(segments) > MAX_SEGMENTS:
        raise BadPath(f"more than {MAX_SEGMENTS} segments")
    for segment in segments:
        if segment in (b"", b".", b".."):
            raise BadPath("empty or dot segment")
        if len(segment) > MAX_SEGMENT_BYTES:
            raise BadPath(f"segment over {MAX_SEGMENT_BYTES} bytes")
    if segments[0].startswith(b"."):
        raise BadPath("first segment begins with a dot")  # .hmacfs and .uploads are ours
    return SlotPath(raw, segments)


def under_prefix(url_path: bytes, prefix: str) -> bytes | None:
    """What follows ``/prefix/`` in a decoded URL path; None when the URL is not under it.

    The prefix itself, with or without a slash, gives an empty answer.
    """
    if not prefix:
        return url_path[1:] if url_path.startswith(b"/") else None
    start = b"/" + prefix.encode()
    if url_path == start:
        return b""
    return url_path[len(start) + 1 :] if url_path.startswith(start + b"/") else None


def url_path(raw: bytes, prefix: str) -> str:
    """The absolute URL path of a slot, percent-encoded so that every client reads it the same way.

    Only unreserved characters stay (RFC 3986 section 2.3): some clients read "+" as a space.
    """
    return "/" + quote((prefix.encode() + b"/" if prefix else b"") + raw, safe="/-._~")


def shown(raw: bytes) -> str:
    """A path for logs: readable Unicode stays, anything that could forge or split a line is percent-encoded.

    Not printable, space, percent, quotation mark and backslash are encoded. Sixty-four hexadecimal digits in a row are
    not shown: a proxy that encodes "?" brings the MAC in the path.
    """
    text = _LIKE_A_MAC.sub("[64-hex-digits]", raw.decode("utf-8", "surrogateescape"))
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        c if c.isprintable() and c not in ' %"\\' else quote(c, safe="", errors="surrogateescape") for c in text
    )


def without_ids(raw: bytes) -> bytes:
    """A path for logs, as long as it is shown. Who knows the whole id of an upload may continue it; eight characters of
    it tell it apart.

    That holds however the path is spelled, which only clients and proxies that are mistaken do: encoded several times,
    in capitals, with another separator, or behind a prefix that is wrong. What follows the id is not shown either.
    """
    plain = raw if b"%" not in raw else _decoded(raw)
    if raw and not plain:
        return b"..."
    if len(plain) < _HIDDEN_BYTES and b".uploads" not in plain.lower():
        return raw
    mark = _UPLOADS.search(plain)
    shown = plain if mark is None else plain[: mark.end() + _SHOWN_OF_ID]
    shown = _UPLOAD_ID.sub(_beginning, shown)
    return raw if shown == plain else shown


def _decoded(raw: bytes) -> bytes:
    """With nothing left to decode; nothing at all of a path that takes more rounds than anybody needs."""
    for _ in range(_DECODINGS):
        plain = unquote_to_bytes(_ENCODED_PERCENT.sub(b"%", raw))
        if plain == raw:
            return plain
        raw = plain
    return raw if unquote_to_bytes(raw) == raw else b""


def _beginning(found: re.Match[bytes]) -> bytes:
    """Of an id. What is all hexadecimal is a MAC, or a part of one, and ``shown`` knows those."""
    text = found[0]
    return text if _HEXADECIMAL.fullmatch(text) else text[:_SHOWN_OF_ID]
