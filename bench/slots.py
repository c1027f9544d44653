"""Upload targets, signed where the server checks signatures. Every file gets its own directory, as XMPP slots do."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from hmacfs.core import signature
from hmacfs.core.signature import Protocol

CONTENT_TYPE = "application/octet-stream"
"""What prosody-filer, the Go server and this one all derive from the file's name and its absence alike."""


@dataclass(frozen=True)
class Signer:
    """Targets for one server.

    Args:
        secret: None where the server checks no signature.
        prefix: what stands before the path, with its leading slash.
    """

    secret: bytes | None
    prefix: str

    def get(self, path: str) -> str:
        return f"{self.prefix}/{path}"

    def put(self, path: str, size: int) -> str:
        if self.secret is None:
            return self.get(path)
        text = signature.message(Protocol.V2, path.encode(), size, CONTENT_TYPE)
        return f"{self.prefix}/{path}?v2={signature.sign(self.secret, text)}"

    def refused(self, path: str) -> str:
        """A target whose upload must be answered with 403."""
        if self.secret is None:
            return f"{self.prefix}/refused/{path}"  # a rule of its configuration
        return f"{self.prefix}/{path}?v2={hashlib.sha256(path.encode()).hexdigest()}"


def prefix(subdir: str) -> str:
    stripped = subdir.strip("/")
    return f"/{stripped}" if stripped else ""


def paths(tag: str, count: int) -> Iterator[str]:
    """``count`` paths whose first segments begin with ``tag``, so that they can be found again."""
    return (f"{tag}-{number:06x}/data.bin" for number in range(count))
