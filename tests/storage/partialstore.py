"""What tests of unfinished uploads on disk have in common."""

import time
from collections.abc import Callable
from hashlib import sha256

from hmacfs.storage.base import Metadata
from hmacfs.storage.partial import LocalPartial
from tests.support.resuming import TYPE, Shelf

TOKEN = "token-of-client-1"
DIGEST = sha256(TOKEN.encode()).hexdigest()
PUBLISHED = Metadata(TYPE, "", DIGEST)
EXISTED, REFUSED = 11, 12
Open = Callable[..., Shelf]


class Wall:
    """The clock on the wall. Files carry the machine's own time, so it begins there."""

    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


def published(partial: LocalPartial) -> None:
    assert partial.take_over()
    digest = DIGEST if partial.header.face == "session" else ""
    partial.publish(Metadata(partial.header.content_type, "", digest))
    partial.close()
