"""What killed processes left of plain PUTs with a token: drafts that nobody holds any more.

Each becomes what its token stands for if it is longer, and goes if it is not, as one that was broken off does
(protocol, section 5, "A PUT without Content-Range never merges"). Whoever next looks for an upload of the slot sees to
it, or the sweep.
"""

from typing import TYPE_CHECKING

from hmacfs.core import upload
from hmacfs.core.upload import State
from hmacfs.errors import BadChecksum, UploadGone
from hmacfs.storage.partialfolders import LOG, UNNAMED, key_of

if TYPE_CHECKING:
    from hmacfs.storage.partial import LocalPartial
    from hmacfs.storage.partials import LocalPartials


def adopt_left(home: "LocalPartials", slot: str) -> None:
    """Leave no draft of the slot that nobody holds, unless somebody writes what its token stands for just now.

    For jobs of the disk pool that have no folder locked; raises OSError and what syncing raises.
    """
    for name in home.folders.names(slot, LOG):
        draft = home.open_now(slot, name) if name.startswith(UNNAMED) else None
        if draft is None:
            continue
        try:
            # Another process may have adopted it since it was opened: then it is what its token stands for.
            if draft.is_idle_now() and draft.is_named_now():
                _adopt(home, slot, draft)
        except UploadGone:
            pass  # the slot's file was published meanwhile
        finally:
            draft.close()


def _adopt(home: "LocalPartials", slot: str, draft: "LocalPartial") -> None:
    """Args: draft: ours alone."""
    known = home.open_now(slot, key_of("session", draft.header.secret) + LOG)
    if known is None:
        draft.remove_now()
        return
    try:
        if not upload.replaces(draft.look_now().extents, known.look_now().extents):
            drop_beside(known, draft)
        elif known.is_idle_now() and known.look_now().state is State.OPEN:
            draft.settle_now()
            # What the other has cannot grow any more, but it may have grown until it was ours.
            if upload.replaces(draft.look_now().extents, known.look_now().extents):
                draft.replace_now(known)
            else:
                drop_beside(known, draft)
    finally:
        known.close()


def drop_beside(known: "LocalPartial", draft: "LocalPartial") -> None:
    """Remove a draft. The checksums that came with it are of the whole file, so they count for what stays."""
    try:
        known.want_now(draft.wanted_now())
    except BadChecksum:
        pass  # more different ones than can be kept, of which no file has all
    draft.remove_now()
