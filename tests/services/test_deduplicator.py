"""Equal content is looked for behind the answer: nothing waits, nothing piles up, a failure changes nothing."""

import pytest

from hmacfs.core.paths import SlotPath
from hmacfs.errors import RequestError, StorageFull
from hmacfs.services import deduplicator
from hmacfs.services.deduplicator import Deduplicator
from hmacfs.services.observer import Observer
from hmacfs.storage.base import Entity, Metadata
from tests.support.polling import until
from tests.support.versioned import slot

ENTITY, METADATA = Entity(1, 100, 0), Metadata("text/plain", "ab" * 32)


class Content:
    """Remembers what it was asked to share; fails for paths that begin with "bad"."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def share(self, path: SlotPath, entity: Entity, metadata: Metadata) -> int:
        assert (entity, metadata) == (ENTITY, METADATA)
        self.asked.append(str(path))
        if str(path).startswith("bad"):
            raise StorageFull("ENOSPC")
        return 0 if str(path).startswith("first") else entity.size


class Told(Observer):
    def __init__(self) -> None:
        self.shared: list[tuple[str, int]] = []
        self.failed_ones: list[str] = []

    def content_shared(self, name: str, saved: int) -> None:
        self.shared.append((name, saved))

    def sharing_failed(self, name: str, error: RequestError) -> None:
        self.failed_ones.append(name)


def test_what_was_saved_is_told_and_what_is_new_is_not() -> None:
    told = Told()
    dedup = Deduplicator(Content(), told)
    for name in ("first", "second"):
        dedup.published(slot(name), ENTITY, METADATA)

    dedup.share_waiting()

    assert told.shared == [("second", 100)]


def test_a_failure_is_told_and_the_next_one_goes_on() -> None:
    told = Told()
    dedup = Deduplicator(Content(), told)
    for name in ("bad", "good"):
        dedup.published(slot(name), ENTITY, METADATA)

    dedup.share_waiting()

    assert (told.failed_ones, told.shared) == (["bad"], [("good", 100)])


def test_what_is_too_much_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplicator, "MOST_WAITING", 3)
    content = Content()
    dedup = Deduplicator(content, Told())

    for number in range(10):
        dedup.published(slot(f"n{number}"), ENTITY, METADATA)
    dedup.share_waiting()

    assert content.asked == ["n0", "n1", "n2"]


def test_it_works_beside_the_requests_until_it_is_stopped() -> None:
    content = Content()
    dedup = Deduplicator(content, Told())
    dedup.start()
    dedup.start()

    dedup.published(slot("one"), ENTITY, METADATA)
    until(lambda: content.asked == ["one"], "it was shared")
    dedup.stop()

    assert dedup._thread is not None
    dedup._thread.join(10)
    assert not dedup._thread.is_alive()
