"""The WSGI environ to frozen request values: the only reader of headers and query strings.

Everything a client wrote is judged here once; what comes out is well-formed.
"""

import re
from collections.abc import Sequence, Set
from typing import Any
from urllib.parse import unquote_to_bytes

from hmacfs.core import checksum, contentrange, contenttype, signature
from hmacfs.core.checksum import Wanted
from hmacfs.core.paths import SlotPath
from hmacfs.core.preconditions import ALWAYS, Conditions, WriteConditions
from hmacfs.core.signature import PLAIN, Claim, Protocol
from hmacfs.errors import BadContentRange, BadHeader, BadQuery, LengthRequired, UnsupportedCoding
from hmacfs.services.authority import DeletionRequest, UploadRequest
from hmacfs.services.downloads import DownloadRequest

Environ = dict[str, Any]

_SIGNING = frozenset(protocol.value for protocol in PLAIN)
_SIGNING_V3 = _SIGNING | {"v3", "expires"}
_BEARER = re.compile(r"bearer(?![^\s,])(?: +([A-Za-z0-9._~+/=-]+)$)?", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_MAX_LENGTH_DIGITS = 30
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_CHECKSUM_FIELDS = {"HTTP_" + name.upper().replace("-", "_"): name for name in checksum.FIELDS}
_CHECKSUM_KEYS = frozenset(_CHECKSUM_FIELDS)


def url_path(environ: Environ) -> bytes:
    """The URL path, percent-decoded once by the server (PEP 3333 carries the bytes as latin-1)."""
    path: str = environ.get("PATH_INFO", "")
    return path.encode("latin-1")


def method(environ: Environ) -> str:
    """The method meant: tus lets POST stand in for those that a network does not let through (X-HTTP-Method-Override).

    Only for upload resources, and only for who speaks tus (protocol, section 5.2).
    """
    real: str = environ["REQUEST_METHOD"]
    if real != "POST" or "HTTP_TUS_RESUMABLE" not in environ:
        return real
    return str(environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", real)).strip().upper()


def upload(
    environ: Environ,
    path: SlotPath,
    client: str,
    *,
    total: int | None = None,
    content_type: str | None = None,
    accepts: Sequence[Protocol] = PLAIN,
) -> UploadRequest:
    """The upload that ``environ`` describes; a plain PUT unless told otherwise.

    Args:
        accepts: what may carry the signature, best first.
        total: bytes of the whole file, where something else than Content-Length declares them.
        content_type: TYPE, where something else than Content-Type declares it; empty where that says nothing.

    Raises:
        BadQuery, BadHeader, BadChecksum, LengthRequired, UnsupportedCoding.
    """
    header = environ.get("CONTENT_TYPE", "") if content_type is None else content_type
    return UploadRequest(
        claim=_claim(environ, accepts),
        path=path,
        total=_total(environ) if total is None else total,
        client=client,
        content_type=contenttype.declared(header),
        sent_type=bool(header),
        must_match="HTTP_IF_MATCH" in environ,
        awaits_continue="HTTP_EXPECT" in environ,
        token=token(environ),
        wanted=wanted(environ),
        conditions=_write_conditions(environ),
    )


def _write_conditions(environ: Environ) -> WriteConditions:
    if "HTTP_IF_MATCH" not in environ and "HTTP_IF_NONE_MATCH" not in environ:
        return ALWAYS
    return WriteConditions(environ.get("HTTP_IF_MATCH", ""), environ.get("HTTP_IF_NONE_MATCH", ""))


def token(environ: Environ) -> str:
    """X-Session-Token, empty without one. Raises BadHeader; for an empty field too (protocol, section 5.1)."""
    if "HTTP_X_SESSION_TOKEN" not in environ:
        return ""
    text: str = environ["HTTP_X_SESSION_TOKEN"]
    if not _TOKEN.fullmatch(text):
        raise BadHeader("X-Session-Token is not 16 to 128 letters, digits, _ and -")
    return text


def wanted(environ: Environ) -> Wanted:
    """The checksums that the request carries. Raises BadChecksum."""
    if _CHECKSUM_KEYS.isdisjoint(environ):
        return checksum.NOTHING
    return checksum.wanted({name: environ[key] for key, name in _CHECKSUM_FIELDS.items() if key in environ})


def forget_checksums(environ: Environ) -> None:
    """ChecksumVerification is off: the request is as if it carried none."""
    for key in _CHECKSUM_FIELDS:
        environ.pop(key, None)


def content_range(environ: Environ) -> contentrange.Piece | contentrange.Ask | None:
    """What Content-Range says of the body. Raises BadContentRange where the body does not fit it."""
    if "HTTP_CONTENT_RANGE" not in environ:
        return None
    said = contentrange.parse(environ["HTTP_CONTENT_RANGE"])
    length = body_length(environ)
    if isinstance(said, contentrange.Piece) and length != said.length:
        raise BadContentRange("Content-Length is not the length of the range")
    if isinstance(said, contentrange.Ask) and length != 0:  # None: chunked, so there is one
        raise BadContentRange("a question has a body")
    if "HTTP_UPLOAD_LENGTH" in environ and _length(environ["HTTP_UPLOAD_LENGTH"], "Upload-Length") != said.total:
        raise BadHeader("Upload-Length differs from the total of Content-Range")
    return said


def body_length(environ: Environ) -> int | None:
    """Bytes of the body; None where it is chunked and does not say. Raises BadHeader, UnsupportedCoding."""
    if _is_chunked(environ):
        return None
    text = environ.get("CONTENT_LENGTH", "")
    return _length(text, "Content-Length") if text else 0


def deletion(environ: Environ, path: SlotPath, client: str, accepts: Sequence[Protocol]) -> DeletionRequest:
    """The DELETE that ``environ`` describes. Raises BadQuery."""
    return DeletionRequest(path, client, _claim(environ, accepts))


def download(
    environ: Environ, path: SlotPath, offload_from: int | None, accepts: Sequence[Protocol] = (), client: str = ""
) -> DownloadRequest:
    """The GET or HEAD that ``environ`` describes. Args: accepts: what may carry a signature. Raises BadQuery."""
    claim = _claim(environ, accepts)
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
        claim=claim,
        client=client,
    )


def version(environ: Environ) -> int | None:
    """Which version of a file the query asks for: 0 for the list of them, None for the current file.

    What is no number of a version is -1, which nothing has. Raises BadQuery.
    """
    query = environ.get("QUERY_STRING", "")
    if "version" not in query:
        return None
    parameters = _parameters(query, _SIGNING)
    if "versions" in parameters:
        return 0
    if "version" not in parameters:
        return None
    number = parameters["version"]
    return int(number) if _VERSION.fullmatch(number) else -1


def wants_json(environ: Environ) -> bool:
    """Whether Accept asks for JSON, so that errors come as RFC 9457 problems."""
    accepted = environ.get("HTTP_ACCEPT", "").lower().split(",")
    return any("json" in part and not re.search(r";\s*q=0(\.0*)?\s*$", part) for part in accepted)


def _is_chunked(environ: Environ) -> bool:
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding and coding != "chunked":
        raise UnsupportedCoding  # "gzip, chunked" would reach us still compressed
    return bool(coding)


def _total(environ: Environ) -> int:
    """Declared bytes of the file (protocol, section 2, SIZE). Where two headers tell it, they must agree."""
    text = environ.get("CONTENT_LENGTH", "")
    declared = environ.get("HTTP_UPLOAD_LENGTH", "")
    if _is_chunked(environ) or not text:
        raise LengthRequired
    total = _length(text, "Content-Length")
    if declared and _length(declared, "Upload-Length") != total:
        raise BadHeader("Upload-Length differs from Content-Length")
    return total


def _length(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
        raise BadHeader(f"{name} is not a number of bytes")
    return int(text)


def _claim(environ: Environ, accepts: Sequence[Protocol]) -> Claim | None:
    """The signature that counts. Raises BadQuery."""
    query = environ.get("QUERY_STRING", "")
    names = _SIGNING_V3 if Protocol.V3 in accepts else _SIGNING
    parameters = _parameters(query, names) if query else {}
    return signature.choose(parameters, accepts, _bearer(environ) if "HTTP_AUTHORIZATION" in environ else None)


def _bearer(environ: Environ) -> str | None:
    """The token of an Authorization header of that scheme; empty for what cannot be a token, None for another scheme.

    A malformed token is one, and is refused: there is no falling back to the query (protocol, section 2).
    """
    match = _BEARER.match(environ["HTTP_AUTHORIZATION"].strip())
    return (match[1] or "") if match else None


def _parameters(query: str, signing: Set[str]) -> dict[str, str]:
    """The decoded query. Raises BadQuery when it cannot be decoded or repeats a signing parameter."""
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = _decoded(name)
        if name in signing and name in parameters:
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
