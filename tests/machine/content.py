"""What a server may hold of one upload: for each byte whether it is recorded, and which values it may have.

Most of the time that is certain. After a killed worker some bytes may be recorded or not, until an offset tells; and a
byte that may have been recorded and was sent again with another value has one of the two.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

_NO, _YES, _MAYBE = range(3)
_RUNS = re.compile(rb"\x00+|\x01+|\x02+")


class Content:
    """Args: total: bytes of the whole file."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.told = 0
        """The largest offset that a client was told; it never decreases (protocol, section 5)."""
        self._state = bytearray(total)
        self._value = bytearray(total)
        self._rivals: list[tuple[int, bytes]] = []  # where a byte may have another value than _value

    def copy(self) -> "Content":
        twin = Content(self.total)
        twin.told, twin._rivals = self.told, list(self._rivals)
        twin._state[:], twin._value[:] = self._state, self._value
        return twin

    def __repr__(self) -> str:
        names = {_NO: "no", _YES: "yes", _MAYBE: "maybe"}
        return ", ".join(f"{low}-{high} {names[state]}" for state, low, high in self._runs(0, self.total)) or "empty"

    # What is there

    @property
    def least(self) -> int:
        """The gap-free beginning that is certain."""
        return next((low for state, low, _ in self._runs(0, self.total) if state != _YES), self.total)

    @property
    def most(self) -> int:
        """The longest gap-free beginning that is possible."""
        return next((low for state, low, _ in self._runs(0, self.total) if state == _NO), self.total)

    @property
    def offsets(self) -> range:
        """Every offset that the server may tell."""
        return range(self.least, self.most + 1)

    @property
    def recorded(self) -> range:
        """How many bytes may be recorded, wherever they are."""
        sure = self._state.count(_YES)
        return range(sure, sure + self._state.count(_MAYBE) + 1)

    @property
    def is_certain(self) -> bool:
        return _MAYBE not in self._state

    @property
    def is_complete(self) -> bool:
        return self.least == self.total

    @property
    def may_be_complete(self) -> bool:
        return self.most == self.total

    @property
    def gaps(self) -> int:
        """Holes before the last byte that may be there."""
        runs = [state != _NO for state, _, _ in self._runs(0, self.total)]
        return sum(1 for here, then in pairwise(runs) if not here and then)

    def exact(self) -> bytes | None:
        """The whole file, where there is no doubt about any byte."""
        return bytes(self._value) if self.is_complete and not self._rivals else None

    def allows(self, file: bytes) -> bool:
        """Whether the whole file may be ``file``."""
        if len(file) != self.total or not self.may_be_complete:
            return False
        if file == self._value:
            return True
        wrong = {at for at in range(self.total) if file[at] != self._value[at]}
        for first, block in self._rivals:
            wrong -= {at for at in wrong if first <= at < first + len(block) and block[at - first] == file[at]}
        return not wrong

    # What happens

    def record(self, first: int, block: bytes) -> "Content":
        """``block`` arrived: what was missing of it is recorded, the rest dropped. Answers this content."""
        for state, low, high in self._runs(first, first + len(block)):
            part = block[low - first : high - first]
            if state == _NO:
                self._value[low:high] = part
            elif state == _MAYBE:
                self._rivals.append((low, part))
            self._fill(low, high, _YES)
        return self

    def may_record(self, first: int, block: bytes) -> "Content":
        """A part of ``block`` may have arrived before the worker was killed."""
        for state, low, high in self._runs(first, first + len(block)):
            part = block[low - first : high - first]
            if state == _NO:
                self._value[low:high] = part
                self._fill(low, high, _MAYBE)
            elif state == _MAYBE:
                self._rivals.append((low, part))
        return self

    def tell(self, offset: int) -> None:
        """A client was told ``offset``: everything before it is there, and the byte behind it is not."""
        assert offset in self.offsets
        assert offset == self.total or self._state[offset] != _YES
        self.told = max(self.told, offset)
        self._fill(0, offset, _YES)
        if offset < self.total:
            self._state[offset] = _NO

    def doubt(self, *, even_told: bool = False) -> None:
        """What nobody was told may be gone. Args: even_told: what somebody was told, too: all of it may have ended."""
        self.told = 0 if even_told else self.told
        for state, low, high in self._runs(self.told, self.total):
            if state == _YES:
                self._fill(low, high, _MAYBE)

    def settle(self, file: bytes) -> None:
        """It was seen: it is ``file`` for ever."""
        assert self.allows(file)
        self._value[:] = file
        self._rivals.clear()
        self._fill(0, self.total, _YES)

    def _fill(self, low: int, high: int, state: int) -> None:
        self._state[low:high] = bytes((state,)) * (high - low)

    def _runs(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        for match in _RUNS.finditer(bytes(self._state[low:high])):
            yield match.group()[0], low + match.start(), low + match.end()
