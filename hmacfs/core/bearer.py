"""Prosody's mod_http_file_share tokens: what they say, and whether it fits the request (protocol, section 2).

HS256 and nothing else. PyJWT reads and verifies them; times are judged here, because they are judged with a clock that
is an argument, and a token that is right but too late is another thing than a wrong one.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from jwt.algorithms import HMACAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import InvalidAlgorithmError, InvalidKeyError, InvalidSignatureError, PyJWTError

from hmacfs.core import contenttype
from hmacfs.core.paths import SlotPath
from hmacfs.core.signature import Verdict
from hmacfs.errors import BadHeader

ALGORITHM = "HS256"
SKEW = 60
"""Seconds that the two servers' clocks may differ."""

MAX_UPLOADER_BYTES = 1024
"""What a row of the catalogue and an extended attribute hold."""

_LAST_SECOND = 253402300799  # of the year 9999: later ones no HTTP date can say
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class _Hmac(HMACAlgorithm):
    """Without PyJWT's warning, with every token, about keys under 32 bytes: settings judge keys, once."""

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002
        return None


_JWS = PyJWS(algorithms=[ALGORITHM])
_JWS.unregister_algorithm(ALGORITHM)
_JWS.register_algorithm(ALGORITHM, _Hmac(HMACAlgorithm.SHA256))


def verify(
    token: str, keys: Sequence[bytes], path: SlotPath, size: int, types: Sequence[str], now: float, *, sent_type: bool
) -> Verdict:
    """Judge a token against every key, without an early exit, and its claims against the request.

    Args:
        types: candidate content types, the declared one first.
        now: Unix seconds.
        sent_type: whether the request declared a type at all. One that did not takes the token's.
    """
    claims, is_malformed = _signed_claims(token, keys)
    if claims is None:
        return Verdict("malformed" if is_malformed else "wrong")
    try:
        filetype = _text(claims, "filetype", contenttype.MAX_TYPE_BYTES)
        uploader = _text(claims, "sub", MAX_UPLOADER_BYTES)
        issued, until = _seconds(claims, "iat"), _seconds(claims, "exp")
        has_end = "expires" in claims  # an end of 0 is past, and not what a Verdict means by it
        file_expires_at = _seconds(claims, "expires") if has_end else 0
        contenttype.declared(filetype)
    except (ValueError, BadHeader):
        return Verdict("malformed", hint="the token lacks a claim, or has one of another form than expected")
    if hint := _misfit(claims, path, size, filetype, types if sent_type else ()):
        return Verdict("misfit", hint=hint)
    # A file that would be over at once is refused too: 201 says that GET works.
    is_late = until + SKEW < now or (has_end and file_expires_at <= now)
    reason = "expired" if is_late else "early" if issued - SKEW > now else "ok"
    return Verdict(reason, filetype or types[0], uploader, file_expires_at)


def _signed_claims(token: str, keys: Sequence[bytes]) -> tuple[dict[str, Any] | None, bool]:
    """The claims if one of the keys signed them; whether the token is none at all."""
    claims: dict[str, Any] | None = None
    is_malformed = False
    for key in keys:
        try:
            payload = json.loads(_JWS.decode(token, key, algorithms=[ALGORITHM]))
            claims = payload if isinstance(payload, dict) and claims is None else claims
        except (InvalidSignatureError, InvalidKeyError):
            continue  # a key that looks like a certificate is one that PyJWT never uses
        except (InvalidAlgorithmError, PyJWTError, ValueError, RecursionError):
            is_malformed = True
    return claims, is_malformed


def _misfit(claims: dict[str, Any], path: SlotPath, size: int, filetype: str, types: Sequence[str]) -> str:
    """What of the request the token was not made for; empty where it fits."""
    named = (claims.get("slot"), claims.get("filename"))
    if named != tuple(segment.decode() for segment in path.segments):
        return "the token is for another slot or file name than the path says"
    filesize = claims.get("filesize")
    if isinstance(filesize, bool) or filesize != size:
        return "the token is for another size than the request declares"
    if filetype and types and filetype not in types:
        return "the token is for another content type than the request declares"
    return ""


def _text(claims: dict[str, Any], name: str, most: int) -> str:
    """A claim that may be absent. Raises ValueError for one that cannot be kept."""
    text = claims.get(name, "")
    if not isinstance(text, str) or _CONTROL.search(text) or len(text.encode()) > most:
        raise ValueError(name)
    return text


def _seconds(claims: dict[str, Any], name: str) -> int:
    """A claim of time. Lua's JSON may write a whole number as a float. Raises ValueError, where it is missing too."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        raise ValueError(name)
    return int(value)
