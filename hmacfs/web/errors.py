"""The one place that gives an error its HTTP face.

The body is one line of text, or an RFC 9457 problem for clients that accept JSON; ``X-Error-Code`` carries the stable
code either way. Neither holds evidence: that is for the log.
"""

import json
from typing import Any

from hmacfs.errors import MethodNotAllowed, RangeNotSatisfiable, RequestError, TooManyGaps, WrongOffset
from hmacfs.web.reply import PHRASES, Reply

PROBLEM_TYPE = "application/problem+json"


def reply(error: RequestError, allow: str, *, as_json: bool, status: int | None = None) -> Reply:
    """The answer for ``error``.

    Args:
        allow: methods of the resource, for 405 (RFC 9110 section 15.5.6).
        status: another status than the error's own.
    """
    status = error.status if status is None else status
    body = _problem(error, status) if as_json else error.sentence + "\n"
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
    return Reply(status, headers, body.encode())


def _problem(error: RequestError, status: int) -> str:
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": PHRASES[status],
        "status": status,
        "detail": error.sentence,
        "code": error.code,
    }
    return json.dumps(problem) + "\n"
