"""A resuming client for ``X-Session-Token`` with ``Content-Range``, in the standard library alone.

It chooses the token itself, so that even an upload whose first answer is lost can go on. When a connection breaks it
asks with ``bytes */TOTAL`` how far the server has come, and continues there.
"""

import http.client
import secrets
import time
from pathlib import Path
from urllib.parse import urlsplit

ATTEMPTS = 6
TIMEOUT = 30.0


def upload(url: str, path: Path, content_type: str, chunk: int) -> int:
    """Upload a file to a slot.

    Args:
        url: the signed URL of the slot; its MAC covers the file's whole size.
        chunk: bytes in one request at most.

    Returns:
        How often it had to ask where to go on.

    Raises:
        OSError: nothing arrived in several attempts in a row, or the server said no.
    """
    token, total = secrets.token_urlsafe(24), path.stat().st_size
    offset, asked, failures, done = 0, 0, 0, False
    with open(path, "rb") as file:
        while not done:
            try:
                if failures:
                    asked += 1
                    done, reached = _put(url, f"bytes */{total}", b"", content_type, token)
                    failures, offset = 0 if reached > offset else failures, reached
                if not done:
                    file.seek(offset)
                    piece = file.read(chunk)
                    span = f"bytes {offset}-{offset + len(piece) - 1}/{total}"
                    done, offset = _put(url, span, piece, content_type, token)
                failures = 0
            except (ConnectionError, TimeoutError, http.client.HTTPException):
                failures += 1
                if failures == ATTEMPTS:
                    raise
                time.sleep(0.05 * 2**failures)
    return asked


def _put(url: str, content_range: str, piece: bytes, content_type: str, token: str) -> tuple[bool, int]:
    """One request. Returns: whether the file is complete, and where to go on if it is not."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
    headers = {"Content-Range": content_range, "Content-Type": content_type, "X-Session-Token": token}
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", piece, headers)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status not in (201, 202):
        raise OSError(f"{answer.status} {answer.getheader('X-Error-Code')}")
    return answer.status == 201, int(answer.getheader("Upload-Offset") or 0)
