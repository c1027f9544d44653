"""One upload, and one published file, as the protocol knows them."""

from dataclasses import dataclass
from enum import IntEnum

from tests.machine.content import Content
from tests.machine.wire import Slot, sha256


class Is(IntEnum):
    """How certain something is."""

    NOT = 0
    MAYBE = 1
    SURELY = 2


@dataclass(eq=False)
class Upload:
    """Attributes:
    face: "session", "tus" or "draft".
    secret: token or path of the upload resource; empty where the client never heard it.
    is_sure: whether the server must know it. An upload of which no byte has arrived need not be known.
    is_scarred: the worker that began it was killed. Its token may be known in its own slot alone.
    is_half_published: its worker was killed after the file got its name.
    must, may: SHA-256 digests of the whole file that the server must, or may, verify before it publishes.
    last_byte, last_touch: when it got a byte, and when somebody last spoke to it.
    """

    face: str
    secret: str
    slot: Slot
    content: Content
    last_byte: int
    last_touch: int
    is_sure: bool = False
    is_published: bool = False
    is_half_published: bool = False
    is_scarred: bool = False
    has_ended: bool = False
    must: frozenset[bytes] = frozenset()
    may: frozenset[bytes] = frozenset()

    def is_good(self, content: Content, whole: bytes | None) -> set[bool]:
        """Whether the complete file has the digests that were declared; both where that is open.

        Args:
            whole: the digest that the completing request declares.
        """
        must = self.must if whole is None else self.must | {whole}
        exact = content.exact()
        if not must and not self.may:
            return {True}
        if exact is None:
            return {True, False}
        digest = sha256(exact)
        if any(each != digest for each in must):
            return {False}
        return {True, False} if any(each != digest for each in self.may) else {True}

    def declare(self, whole: bytes | None, *, is_refused: bool = False) -> None:
        """A request declared a digest of the whole file, which counts whichever request of the upload brings it.

        Args:
            is_refused: the request was wrong in itself. Whether its digest counts is nowhere said.
        """
        digests = frozenset() if whole is None else frozenset((whole,))
        if is_refused:
            self.may |= digests
        else:
            self.must |= digests

    def doubt(self) -> None:
        """It may have ended, and the next request may begin another one under the same token."""
        self.content.doubt(even_told=True)
        self.may, self.must = self.may | self.must, frozenset()
        self.is_sure = False


@dataclass
class File:
    """A published file. Args: token: of the session that it was uploaded with, empty without one."""

    slot: Slot
    content: Content
    token: str = ""
