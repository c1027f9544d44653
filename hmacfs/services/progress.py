"""Where an upload that goes on stands, and for how long it may."""

from dataclasses import dataclass

from hmacfs.core.paths import SlotPath
from hmacfs.storage.base import Entity


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an upload stands after a request.

    Attributes:
        offset: length of the gap-free prefix; all of it is synced, as Durability says.
        secret: its token or id. Never in a repr.
        expires_at: Unix seconds.
        note: Upload-Metadata as the client wrote it.
        is_complete: the file is published.
        entity: of the published file, where this request published or found it.
    """

    path: SlotPath
    offset: int
    total: int
    secret: str
    expires_at: float
    note: str = ""
    is_complete: bool = False
    entity: Entity | None = None

    def __repr__(self) -> str:
        return f"Progress({self.path}, {self.offset} of {self.total})"


@dataclass(frozen=True, slots=True)
class ResumeRules:
    """Attributes:
    ttl: seconds, SessionTTL.
    in_any_order: ChunkingEnabled.
    """

    ttl: float = 86400.0
    in_any_order: bool = True
