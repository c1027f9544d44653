"""Signed PUT URLs, the links that fetch what was put, and signed links that fetch or delete."""

from dataclasses import dataclass
from urllib.parse import urlencode

from hmacfs.core import paths, signature
from hmacfs.core.paths import SlotPath
from hmacfs.core.signature import Protocol


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a file goes and where it is fetched. ``put_target`` holds a MAC: it never belongs in a log."""

    put_target: str
    get_target: str

    def __repr__(self) -> str:
        return f"Slot({self.get_target})"


def slot(
    key: bytes, path: SlotPath, size: int, content_type: str, protocol: Protocol, prefix: str, expires: int = 0
) -> Slot:
    """The request targets of a slot, path-absolute.

    Args:
        size: bytes of the file.
        content_type: what the PUT will send as Content-Type.
        protocol: any but ``BEARER``, which is no part of a URL.
        expires: Unix seconds, for ``v3``.
    """
    target = paths.url_path(path.raw, prefix)
    query: dict[str, str | int] = {}
    if protocol is Protocol.V3:
        text = signature.message_v3("PUT", str(expires), path.raw, str(size), content_type)
        query["expires"] = expires
    else:
        text = signature.message(protocol, path.raw, size, content_type)
    return Slot(f"{target}?{urlencode({protocol.value: signature.sign(key, text), **query})}", target)


def access(key: bytes, path: SlotPath, method: str, prefix: str, expires: int) -> str:
    """A path-absolute request target signed with ``v3``.

    Args:
        method: GET, which is for HEAD too, or DELETE.
        expires: Unix seconds.
    """
    mac = signature.sign(key, signature.message_v3(method, str(expires), path.raw, "", ""))
    return f"{paths.url_path(path.raw, prefix)}?{urlencode({'v3': mac, 'expires': expires})}"


def deletion(key: bytes, path: SlotPath, delete_secret: bytes, prefix: str) -> str:
    """A path-absolute request target for DELETE, as Metronome signs it."""
    mac = signature.sign(key, signature.message_delete(path.raw, delete_secret))
    return f"{paths.url_path(path.raw, prefix)}?{urlencode({'token': mac})}"
