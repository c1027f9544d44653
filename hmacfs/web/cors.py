"""Cross-origin access for web clients. Never with credentials, so "*" is safe and void of cookies.

Header names stand one by one: browsers take no pattern such as ``Upload-*``.
"""

from collections.abc import Sequence

MAX_AGE = 7200

_REQUEST_HEADERS = (
    "Authorization, Content-Type, Content-Range, Range, If-Match, If-None-Match, If-Range, X-Session-Token, "
    "X-Checksum, Content-MD5, Digest, Content-Digest, Repr-Digest, Tus-Resumable, Upload-Length, Upload-Metadata, "
    "Upload-Offset, Upload-Checksum, Upload-Complete, Upload-Draft-Interop-Version, X-HTTP-Method-Override"
)
_EXPOSED_HEADERS = (
    "Content-Length, Content-Range, Content-Disposition, ETag, Location, Repr-Digest, Retry-After, X-Session-Token, "
    "X-Error-Code, Upload-Offset, Upload-Length, Upload-Expires, Upload-Limit, Upload-Complete, Tus-Resumable, "
    "Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm"
)

_OPEN = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", _EXPOSED_HEADERS)]


class Cors:
    """Args: origins: allowed origins, or "*" alone for every one."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)
        self._is_open = "*" in self._origins

    def headers(self, origin: str) -> list[tuple[str, str]]:
        """For every answer, errors too."""
        if self._is_open:
            return _OPEN
        varied = [("Vary", "Origin")]
        if origin not in self._origins:
            return varied
        return [
            *varied,
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", _EXPOSED_HEADERS),
        ]

    def preflight(self, methods: str) -> list[tuple[str, str]]:
        """What OPTIONS adds. Args: methods: as in Allow."""
        return [
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
            ("Access-Control-Max-Age", str(MAX_AGE)),
        ]
