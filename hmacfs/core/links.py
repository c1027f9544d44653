"""Signed PUT URLs and the plain links that fetch what was put."""

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


def slot(key: bytes, path: SlotPath, size: int, content_type: str, protocol: Protocol, prefix: str) -> Slot:
    """The request targets of a slot, path-absolute.

    Args:
        size: bytes of the file.
        content_type: what the PUT will send as Content-Type.
    """
    target = paths.url_path(path.raw, prefix)
    mac = signature.sign(key, signature.message(protocol, path.raw, size, content_type))
    return Slot(f"{target}?{urlencode({protocol.value: mac})}", target)
