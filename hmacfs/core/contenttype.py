"""Content types: which a request may declare, which an extension suggests, which a browser may show inline."""

import mimetypes
import re
from urllib.parse import quote

from hmacfs.core.signature import DEFAULT_TYPE
from hmacfs.errors import BadHeader

MAX_TYPE_BYTES = 255

PASSIVE_TYPES = frozenset(
    (
        "text/plain",
        *(f"image/{t}" for t in ("avif", "bmp", "gif", "heic", "heif", "jpeg", "jxl", "png", "tiff", "webp", "x-icon")),
        *(f"audio/{t}" for t in ("3gpp", "aac", "amr", "flac", "midi", "mp4", "mpeg", "ogg", "opus", "wav", "webm")),
        *(f"audio/{t}" for t in ("x-aac", "x-flac", "x-m4a", "x-matroska", "x-wav")),
        *(f"video/{t}" for t in ("3gpp", "3gpp2", "mp4", "mpeg", "ogg", "quicktime", "webm", "x-m4v", "x-matroska")),
    )
)
"""Types that cannot run anything in a browser. No SVG, HTML, XML or PDF: those can."""

_MORE_EXTENSIONS = {
    ".apk": "application/vnd.android.package-archive",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".js": "text/javascript",
    ".jxl": "image/jxl",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".xz": "application/x-xz",
    ".7z": "application/x-7z-compressed",
}

# Only the table that ships with Python: the answer must not depend on /etc/mime.types of the machine.
_TABLE = mimetypes.MimeTypes(filenames=())


def declared(header: str) -> str:
    """The TYPE a request declares: the header verbatim, the default when it is empty.

    Raises:
        BadHeader: over 255 bytes, or bytes that are not printable ASCII.
    """
    if not header:
        return DEFAULT_TYPE
    if len(header) > MAX_TYPE_BYTES or not re.fullmatch(r"[\x20-\x7e]+", header):
        raise BadHeader("Content-Type is too long or not printable ASCII")
    return header


def by_extension(name: str) -> str:
    """The type that the extension of ``name`` suggests; the default when it suggests none."""
    extension = ("." + name.rpartition(".")[2].lower()) if "." in name else ""
    if extension in _MORE_EXTENSIONS:
        return _MORE_EXTENSIONS[extension]
    for strict in (True, False):
        if found := _TABLE.types_map[strict].get(extension):
            return found
    return DEFAULT_TYPE


def candidates(name: str) -> list[str]:
    """Types that senders who sign by extension may have signed for ``name``: bare, and with Go's charset parameter."""
    bare = by_extension(name)
    return [bare, f"{bare}; charset=utf-8"]


def is_passive(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in PASSIVE_TYPES


def disposition(content_type: str, name: str) -> str | None:
    """Content-Disposition for a download: None where the browser may show it inline (RFC 6266, RFC 8187)."""
    if is_passive(content_type):
        return None
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    encoded = quote(name, safe="!#$&+-.^_`|~")  # attr-char of RFC 8187 section 3.2.1
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
