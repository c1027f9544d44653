"""What of a slot stands for bytes: its unfinished uploads, and the file that took the place of others.

For jobs of the disk pool; raises OSError.
"""

from typing import TYPE_CHECKING

from hmacfs.core.paths import SlotPath
from hmacfs.core.upload import State
from hmacfs.errors import NotFound
from hmacfs.storage.base import Standing
from hmacfs.storage.partialfolders import LOG
from hmacfs.storage.slotlocks import slot_name

if TYPE_CHECKING:
    from hmacfs.storage.partials import LocalPartials


def unfinished(home: "LocalPartials", path: SlotPath) -> list[Standing]:
    """The uploads of the slot that somebody writes or may continue."""
    found, slot = [], slot_name(path)
    for name in home.folders.names(slot, LOG):
        partial = home.open_now(slot, name)
        if partial is not None:
            is_over = home.is_expired(partial) or partial.is_left_now()
            if partial.look_now().state is State.OPEN and not is_over:
                found.append(Standing(partial.header.total, partial.header.uploader))
            partial.close()
    return found


def left(home: "LocalPartials", path: SlotPath) -> list[Standing]:
    """These, and the file: who published it settles what was reserved for it."""
    found = unfinished(home, path)
    try:
        stored = home.storage.files.open_beneath(path.raw, False)
    except NotFound:
        return found
    stored.close()
    return [*found, Standing(stored.entity.size, stored.metadata.uploader)]
