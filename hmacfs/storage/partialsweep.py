"""What a sweep removes of unfinished uploads: those whose time is over, and what a crash left of others."""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hmacfs.core.upload import State
from hmacfs.storage import private
from hmacfs.storage.adopting import adopt_left
from hmacfs.storage.partialfolders import LOG
from hmacfs.storage.storedir import SLOT, folders_in

if TYPE_CHECKING:
    from hmacfs.storage.partials import LocalPartials

_TOKEN = re.compile(r"[0-9a-f]{40}")


class PartialSweep:
    """One pass over LocalPartials. For jobs of the disk pool; raises OSError.

    Args:
        ttl: seconds, SessionTTL.
        clock: Unix seconds.
    """

    def __init__(self, home: "LocalPartials", ttl: float, clock: Callable[[], float]) -> None:
        self._home = home
        self._folders = home.folders
        self._ttl = ttl
        self._clock = clock

    def group(self, group: str, removes: bool) -> list[tuple[str, str, float]]:
        """What has expired in one group of slots, as Partials.sweep tells it. Args: removes: False only to look."""
        removed = []
        for slot in folders_in(os.path.join(self._folders.root, group), SLOT):
            if not slot.startswith(group):
                continue  # none of ours: its lock would be another group's
            if removes:
                adopt_left(self._home, slot)
            for name in self._folders.names(slot, LOG):
                partial = self._home.open_now(slot, name)
                if partial is not None:
                    was_known = partial.look_now().state is State.OPEN and not partial.is_draft
                    is_ours = partial.take_over_now if removes else partial.is_idle_now
                    if self._home.is_expired(partial) and is_ours():
                        if removes:
                            partial.remove_now()
                        if was_known:
                            header = partial.header
                            removed.append((str(header.path), header.key, header.started_at))
                    partial.close()
            if removes:
                self._sweep_slot(slot)
        return removed

    def tokens(self) -> None:
        """Second names of journals that are gone."""
        for name in os.listdir(self._folders.tokens):
            if not _TOKEN.fullmatch(name):
                continue  # none of ours
            path = os.path.join(self._folders.tokens, name)
            try:
                if os.stat(path).st_nlink == 1:  # its upload is gone
                    os.unlink(path)
            except (FileNotFoundError, IsADirectoryError):
                pass

    def _sweep_slot(self, slot: str) -> None:
        """What no journal names: left by a crash. And the folder, where nothing else is in it."""
        folder = self._folders.at(slot)
        with self._folders.locked(slot):
            open_ones = [self._home.open_now(slot, name) for name in self._folders.names(slot, LOG)]
            named = {partial.data_name for partial in open_ones if partial is not None}
            readable = {partial.name for partial in open_ones if partial is not None}
            for partial in open_ones:
                if partial is not None:
                    partial.close()
            for name in self._folders.names(slot, ""):  # none at all where the last upload took the folder with it
                if name not in named and name not in readable:
                    self._unlink_old(os.path.join(folder, name))
            private.remove_empty(folder)

    def _unlink_old(self, path: str) -> None:
        try:
            if self._clock() - os.stat(path).st_mtime > self._ttl:
                os.unlink(path)
        except (FileNotFoundError, IsADirectoryError):
            pass  # its upload has ended meanwhile, or it is none of ours
