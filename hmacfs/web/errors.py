"""The one place that gives an error its HTTP face.

The body is one line of text, or an RFC 9457 problem for clients that accept JSON; ``X-Error-Code`` carries the stable
code either way. Neither holds evidence: that is for the log.
"""

import json
from typing import Any

from hmacfs.errors import MethodNotAllowed, RangeNotSatisfiable, RequestError, TooManyGaps, WrongOffset
from hmacfs.web.reply import PHRASES, Reply

PROBLEM_TYPE = "application/problem+json"


def reply(error: RequestError, allow: str, *, as_json: bool) -> Reply:
    """The answer for ``error``.

    Args:
        allow: methods of the resource, for 405 (RFC 9110 section 15.5.6).
    """
    body = _problem(error) if as_json else error.sentence + "\n"
    headers = [
        ("Content-Type", PROBLEM_TYPE if as_json else "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body.encode()))),
        ("X-Error-Code", error.code),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if error.retry_after is not None:
        headers.append(("Retry-After", str(error.retry_after)))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", allow))
    if isinstance(error, RangeNotSatisfiable):
        headers.append(("Content-Range", f"bytes */{error.size}"))
    if isinstance(error, WrongOffset | TooManyGaps):
        headers.append(("Upload-Offset", str(error.offset)))
    return Reply(error.status, headers, body.encode())


def _problem(error: RequestError) -> str:
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": PHRASES[error.status],
        "status": error.status,
        "detail": error.sentence,
        "code": error.code,
    }
    return json.dumps(problem) + "\n"
