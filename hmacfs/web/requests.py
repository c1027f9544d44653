"""The WSGI environ to frozen request values: the only reader of headers and query strings.

Everything a client wrote is judged here once; what comes out is well-formed.
"""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from hmacfs.core import contenttype, signature
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import Conditions
from hmacfs.errors import BadContentRange, BadHeader, BadQuery, LengthRequired, UnsupportedCoding
from hmacfs.services.downloads import DownloadRequest
from hmacfs.services.uploads import UploadRequest

Environ = dict[str, Any]

_SIGNING = frozenset(protocol.value for protocol in signature.Protocol)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_MAX_LENGTH_DIGITS = 30


def url_path(environ: Environ) -> bytes:
    """The URL path, percent-decoded once by the server (PEP 3333 carries the bytes as latin-1)."""
    path: str = environ.get("PATH_INFO", "")
    return path.encode("latin-1")


def upload(environ: Environ, path: SlotPath, client: str) -> UploadRequest:
    """The PUT that ``environ`` describes.

    Raises:
        BadQuery, BadHeader, BadContentRange, LengthRequired, UnsupportedCoding.
    """
    claim = signature.choose(_parameters(environ.get("QUERY_STRING", "")))
    header = environ.get("CONTENT_TYPE", "")
    content_type = contenttype.declared(header)
    if "HTTP_CONTENT_RANGE" in environ:
        raise BadContentRange
    return UploadRequest(
        path=path,
        total=_total(environ),
        client=client,
        content_type=content_type,
        sent_type=bool(header),
        claim=claim,
        must_match="HTTP_IF_MATCH" in environ,
        awaits_continue="HTTP_EXPECT" in environ,
    )


def download(environ: Environ, path: SlotPath, offload_from: int | None) -> DownloadRequest:
    """The GET or HEAD that ``environ`` describes. Raises BadQuery."""
    _parameters(environ.get("QUERY_STRING", ""))
    return DownloadRequest(
        path=path,
        conditions=Conditions(
            if_match=environ.get("HTTP_IF_MATCH", ""),
            if_none_match=environ.get("HTTP_IF_NONE_MATCH", ""),
            if_modified_since=environ.get("HTTP_IF_MODIFIED_SINCE", ""),
            if_unmodified_since=environ.get("HTTP_IF_UNMODIFIED_SINCE", ""),
            if_range=environ.get("HTTP_IF_RANGE", ""),
        ),
        range=environ.get("HTTP_RANGE", ""),
        head=environ["REQUEST_METHOD"] == "HEAD",
        offload_from=offload_from,
    )


def wants_json(environ: Environ) -> bool:
    """Whether Accept asks for JSON, so that errors come as RFC 9457 problems."""
    accepted = environ.get("HTTP_ACCEPT", "").lower().split(",")
    return any("json" in part and not re.search(r";\s*q=0(\.0*)?\s*$", part) for part in accepted)


def _total(environ: Environ) -> int:
    """Declared bytes of the file (protocol, section 2, SIZE). Where two headers tell it, they must agree."""
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding and coding != "chunked":
        raise UnsupportedCoding  # "gzip, chunked" would reach us still compressed
    text = environ.get("CONTENT_LENGTH", "")
    declared = environ.get("HTTP_UPLOAD_LENGTH", "")
    if not text:
        raise LengthRequired
    total = _length(text, "Content-Length")
    if declared and _length(declared, "Upload-Length") != total:
        raise BadHeader("Upload-Length differs from Content-Length")
    return total


def _length(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
        raise BadHeader(f"{name} is not a number of bytes")
    return int(text)


def _parameters(query: str) -> dict[str, str]:
    """The decoded query. Raises BadQuery when it cannot be decoded or repeats a signing parameter."""
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = _decoded(name)
        if name in _SIGNING and name in parameters:
            raise BadQuery("repeated signing parameter")
        parameters[name] = _decoded(value)
    return parameters


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise BadQuery("bad percent-encoding")
    try:
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise BadQuery("not UTF-8") from None
