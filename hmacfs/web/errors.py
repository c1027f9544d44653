"""The one place that gives an error its HTTP face.

The body is one line of text, or an RFC 9457 problem for clients that accept JSON; ``X-Error-Code`` carries the stable
code either way. Neither holds evidence: that is for the log.
"""

import json
from http import HTTPStatus

from flask import Response

from hmacfs.errors import MethodNotAllowed, RangeNotSatisfiable, RequestError

PROBLEM_TYPE = "application/problem+json"


def response(error: RequestError, allow: str, *, as_json: bool) -> Response:
    """The answer for ``error``.

    Args:
        allow: methods of the resource, for 405 (RFC 9110 section 15.5.6).
    """
    headers = [("X-Error-Code", error.code), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
    if error.retry_after is not None:
        headers.append(("Retry-After", str(error.retry_after)))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", allow))
    if isinstance(error, RangeNotSatisfiable):
        headers.append(("Content-Range", f"bytes */{error.size}"))
    if not as_json:
        return Response(error.sentence + "\n", error.status, headers, content_type="text/plain; charset=utf-8")
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.sentence,
        "code": error.code,
    }
    return Response(json.dumps(problem) + "\n", error.status, headers, content_type=PROBLEM_TYPE)
