"""The part of a journal that is written once: what the upload is, as JSON behind a mark and two words of the journal's
own."""

import json
import struct
from typing import Any

from hmacfs.core import paths
from hmacfs.errors import BadHeader, BadPath, StorageFailed
from hmacfs.storage.base import UploadHeader

MAGIC = b"hmacfs-upload-1\n"
ROOM = 28672
"""Bytes that a header may take, mark and all."""

_HEADER_AT = 32
_LENGTH = struct.Struct("<Q")
_TEXT_AT = _HEADER_AT + _LENGTH.size
_DAMAGES = (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error)
"""What a header that a disk has damaged can make of reading it."""


def packed(header: UploadHeader, data_name: str) -> bytes:
    """The first bytes of a new journal. Raises BadHeader where they are too many."""
    values = {
        "path": header.path.raw.decode(),
        "total": header.total,
        "type": header.content_type,
        "face": header.face,
        "secret": header.secret,
        "started": header.started_at,
        "note": header.note,
        "wanted": header.wanted,
        "uploader": header.uploader,
        "expires": header.expires_at,
        "proof": header.proof,
        "data": data_name,
    }
    text = json.dumps(values, ensure_ascii=False).encode()
    block = MAGIC + bytes(_HEADER_AT - len(MAGIC)) + _LENGTH.pack(len(text)) + text
    if len(block) > ROOM:
        raise BadHeader("Upload-Metadata, or the path beside it, is too long")
    return block


def unpacked(block: bytes) -> tuple[UploadHeader, str]:
    """The header and the name of the data file. Raises StorageFailed for what is no journal."""
    try:
        (length,) = _LENGTH.unpack_from(block, _HEADER_AT)
        if not block.startswith(MAGIC):
            raise ValueError("no journal")
        values = json.loads(block[_TEXT_AT : _TEXT_AT + length])
        return _header(values), str(values["data"])
    except (*_DAMAGES, BadPath) as error:
        raise StorageFailed("the journal of an upload cannot be read") from error


def _header(values: dict[str, Any]) -> UploadHeader:
    return UploadHeader(
        path=paths.parse(values["path"].encode()),
        total=values["total"],
        content_type=values["type"],
        face=values["face"],
        secret=values["secret"],
        started_at=values["started"],
        note=values["note"],
        wanted=tuple(values["wanted"]),
        # Journals of earlier versions lack these.
        uploader=values.get("uploader", ""),
        expires_at=values.get("expires", 0),
        proof=values.get("proof", ""),
    )
