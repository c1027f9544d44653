"""A resuming client for the IETF draft "Resumable Uploads for HTTP" (interop version 8), in the standard library alone.

It creates the upload without a body, so that the answer with its URL is small and soon there. When a connection breaks
it asks with HEAD how far the server has come, and continues there.
"""

import http.client
import time
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urljoin, urlsplit

ATTEMPTS = 6
TIMEOUT = 30.0


def upload(url: str, path: Path, content_type: str, chunk: int) -> tuple[str, int]:
    """Upload a file to a slot.

    Args:
        url: the signed URL of the slot; its MAC covers the file's whole size.
        chunk: bytes in one request at most.

    Returns:
        The URL of the upload, and how often it had to ask where to go on.

    Raises:
        OSError: nothing arrived in several attempts in a row, or the server said no.
    """
    total = path.stat().st_size
    created = {"Upload-Complete": "?0", "Upload-Length": str(total), "Content-Type": content_type}
    resource = urljoin(url, _send("PUT", url, b"", created).headers["Location"])
    offset, asked, failures, done = 0, 0, 0, False
    with open(path, "rb") as file:
        while not done:
            try:
                if failures:
                    asked += 1
                    head = _send("HEAD", resource, None, {})
                    done, reached = head.headers["Upload-Complete"] == "?1", int(head.headers["Upload-Offset"])
                    failures, offset = 0 if reached > offset else failures, reached
                if not done:
                    file.seek(offset)
                    piece = file.read(chunk)
                    last = offset + len(piece) == total
                    headers = {"Upload-Offset": str(offset), "Upload-Complete": "?1" if last else "?0"}
                    _send("PATCH", resource, piece, headers | {"Content-Type": "application/partial-upload"})
                    done, offset = last, offset + len(piece)
                failures = 0
            except (ConnectionError, TimeoutError, http.client.HTTPException):
                failures += 1
                if failures == ATTEMPTS:
                    raise
                time.sleep(0.05 * 2**failures)
    return resource, asked


def _send(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> HTTPResponse:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
    try:
        connection.request(method, target, body, {"Upload-Draft-Interop-Version": "8", **headers})
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise OSError(f"{answer.status} {answer.getheader('X-Error-Code')}")
    return answer
