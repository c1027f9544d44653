"""JSON Web Tokens and v3 signatures made with hmac and hashlib alone, as the other side makes them."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote

from tests.support.http import mac
from tests.support.leaks import Kind, handed_out

HEADER = {"alg": "HS256", "typ": "JWT"}


def encoded(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


def jwt(secret: str, claims: object, header: dict[str, Any] | None = None) -> str:
    """A token over ``claims``, which should be an object."""
    said = encoded(json.dumps(HEADER if header is None else header).encode())
    said += b"." + encoded(json.dumps(claims).encode())
    token = (said + b"." + encoded(hmac.new(secret.encode(), said, hashlib.sha256).digest())).decode()
    handed_out(Kind.TOKEN, *token.split("."))
    return token


def slot_claims(path: str, size: int, now: float, **changed: Any) -> dict[str, Any]:
    """What mod_http_file_share says of a slot; None leaves a claim out."""
    slot, _, filename = path.partition("/")
    claims = {
        "slot": slot,
        "filename": filename,
        "filesize": size,
        "filetype": "text/plain",
        "sub": "romeo@example.org",
        "iat": int(now),
        "exp": int(now) + 600,
        "expires": int(now) + 86400,
        **changed,
    }
    return {name: value for name, value in claims.items() if value is not None}


def v3_query(
    secret: str, method: str, path: str, expires: int | str, size: int | str = "", content_type: str = ""
) -> str:
    """The query that signs a request with v3."""
    text = "\n".join((method, str(expires), path, str(size), content_type))
    return f"v3={mac(secret, text.encode())}&expires={expires}"


def delete_query(secret: str, path: str, delete_secret: str) -> str:
    """The query of Metronome's DELETE."""
    text = path.encode() + b"\0" + delete_secret.encode()
    return f"token={mac(secret, text)}"


def v3_url(prefix: str, secret: str, method: str, path: str, expires: int, size: int | str = "", kind: str = "") -> str:
    """A request target signed with v3."""
    return f"{prefix}{quote(path)}?{v3_query(secret, method, path, expires, size, kind)}"
