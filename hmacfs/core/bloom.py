"""A set of files that forgets their names: it never denies one that it was given, and knows few that it was not."""

SIZE = 1 << 21
"""Bytes. Of a million files in it one in seventy unknown ones is taken for known; of ten millions every second one."""


class Seen:
    """Files by inode and time of their last change.

    Args:
        seed: another one lets other files be taken for known.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._bits = bytearray(SIZE)

    def add(self, inode: int, modified_ns: int) -> None:
        for place in self._places(inode, modified_ns):
            self._bits[place >> 3] |= 1 << (place & 7)

    def knows(self, inode: int, modified_ns: int) -> bool:
        """True for each file that was added; nearly always False for others."""
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in self._places(inode, modified_ns))

    def _places(self, inode: int, modified_ns: int) -> tuple[int, int]:
        mixed = hash((self._seed, inode, modified_ns)) & 0xFFFF_FFFF_FFFF_FFFF
        return mixed % (8 * SIZE), (mixed >> 32) % (8 * SIZE)
