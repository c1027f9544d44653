"""A body on its way into an upload that goes on: what of it is written, hashed, judged and recorded, and when."""

from collections.abc import Callable

from hmacfs.core import checksum
from hmacfs.core.checksum import Hasher, Wanted
from hmacfs.core.policy import FirstBlock
from hmacfs.errors import TakenOver
from hmacfs.services.intake import Body, both
from hmacfs.storage.base import UploadClaim

_ALIVE_SECONDS = 1.0


class Writing:
    """A body on its way into a claim.

    Args:
        at: where the body begins in the file.
        wrote: told how many bytes of the body have been dealt with.
        judge: of the content, where the body begins with its first byte.

    Attributes:
        kept: bytes that were recorded and had not been there.
    """

    def __init__(
        self,
        claim: UploadClaim,
        at: int,
        wanted: Wanted,
        wrote: Callable[[int], None],
        now: Callable[[], float],
        judge: FirstBlock | None,
    ) -> None:
        self._now = now
        self._alive_at = now()
        self._claim = claim
        self._at = at
        self._new = 0
        self.kept = 0
        self._expected = wanted.piece
        self._hasher = Hasher(checksum.algorithms(wanted.piece)) if wanted.piece else None
        self._wrote = wrote
        hash_it = None if self._hasher is None else self._hasher.update
        self._watch = both(hash_it, None if judge is None else judge.update)

    def write(self, block: memoryview) -> None:
        is_wanted = self._claim.write(block, self._at, record=self._hasher is None, watch=self._watch)
        end = self._at + len(block)
        self._new += sum(max(0, min(end, last) - max(self._at, first)) for first, last in self._claim.missing)
        if self._hasher is None:
            self.kept = self._new
        self._at = end
        self._wrote(len(block))
        if is_wanted:
            raise TakenOver
        if self._now() - self._alive_at > _ALIVE_SECONDS:  # bytes that are not recorded are bytes too: SessionTTL
            self._alive_at = self._now()
            self._claim.touch()
            self.tick()

    def tick(self) -> None:
        if self._claim.is_wanted():
            raise TakenOver

    def finish(self) -> None:
        """The body is whole. A piece with a checksum counts only now, and only if it has it."""
        if self._hasher is not None:
            self._hasher.verify(self._expected)
            self._claim.record(self._at)
            self.kept = self._new


class Taken:
    """A body that tells whether anything of it was asked for. Args: body: the real one."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.begun = False

    @property
    def kept(self) -> int:
        return self._body.kept

    @kept.setter
    def kept(self, count: int) -> None:
        self._body.kept = count

    def read_into(self, buffer: memoryview) -> int | None:
        self.begun = True
        return self._body.read_into(buffer)

    def wait(self, seconds: float) -> bool:
        return self._body.wait(seconds)
