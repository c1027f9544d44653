"""The folders that lead to a path: made where missing, and synced once a file has its name in the last one."""

from collections.abc import Callable

from hmacfs.core.paths import SlotPath
from hmacfs.storage import chains

_NAMINGS = 100
"""How often a file is named anew because its folder went, empty, at the same moment. Each time takes microseconds; four
writers and deleters in one folder were seen to use up three."""


class Folders:
    """Of one store. For jobs of the disk pool; everything raises OSError.

    Args:
        root: descriptor of the store.
        mode: permissions of folders made here, whatever the umask says.
        syncs: whether what changes in a folder is synced (Durability).
    """

    def __init__(self, root: int, mode: int, umask: int, *, syncs: bool) -> None:
        self._root = root
        self._mode = mode
        self._umask = umask
        self._syncs = syncs

    def chain_to(self, path: SlotPath) -> list[int]:
        """Descriptors of the directories that lead to ``path``, made where missing; for ``chains.close_chain``."""
        return chains.open_chain(self._root, path.segments[:-1], self._mode, self._umask)

    def name_new(self, path: SlotPath, link: Callable[[int, bytes], None]) -> list[int]:
        """Link a file under ``path``; the open chain of its directories. Raises FileExistsError when it is taken."""
        for attempt in range(_NAMINGS):
            try:
                chain = self.chain_to(path)
                try:
                    link(chain[-1], path.segments[-1])
                except BaseException:
                    chains.close_chain(chain)
                    raise
                return chain
            except FileNotFoundError:  # somebody removed an empty directory between our making and using it
                if attempt == _NAMINGS - 1:
                    raise
        raise AssertionError("unreachable")

    def sync_name(self, path: SlotPath) -> None:
        """Make the name of a published file durable, as Durability says, where a crash may have kept that from being
        done."""
        if self._syncs:
            chain = self.chain_to(path)
            try:
                chains.sync_chain(chain)
            finally:
                chains.close_chain(chain)
