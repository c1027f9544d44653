"""The secrets of a running server: several processes, one source, a clock of the test's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hmacfs.core.rotation import Ring, Secrets
from hmacfs.errors import ConfigError, StorageFailed
from hmacfs.services import secrets
from hmacfs.services.secrets import Keyring, ReaskRules, Rotation
from hmacfs.storage.ringfile import RingFile
from tests.support.polling import until

GRACE = 100.0


class Source:
    """Where the secret comes from; counts how often it is asked."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.trouble = ""
        self.asked = 0

    def read(self) -> Secrets:
        self.asked += 1
        if self.trouble:
            raise ConfigError([self.trouble])
        return Secrets(self.secret)


class Fleet:
    """Workers of one server, which share a StateDir."""

    def __init__(self, folder: Path, interval: float | None) -> None:
        self.now = 1_000_000.0
        self.source = Source("one")
        self.said: list[tuple[str, bool]] = []
        ring = Ring(Secrets("one"), asked_at=int(self.now))
        store = RingFile(str(folder))
        with store.in_turn():
            store.save(ring)
        self.keyrings = [Keyring(ring, self.now) for _ in range(3)]
        self.workers = [
            Rotation(
                each,
                RingFile(str(folder)),
                self.source.read,
                ReaskRules(interval, GRACE),
                lambda sentence, is_bad: self.said.append((sentence, is_bad)),
                lambda: self.now,
            )
            for each in self.keyrings
        ]

    def tick(self, seconds: float = 0.0) -> None:
        """Time passes, and every worker does what it does once a second."""
        self.now += seconds
        for _ in range(2):  # the second time all of them have seen what one of them wrote
            for worker in self.workers:
                worker.tick()

    @property
    def keys(self) -> set[tuple[bytes, ...]]:
        return {each.keys for each in self.keyrings}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, 60.0)


def test_before_reask_secret_interval_is_over_nobody_asks(fleet: Fleet) -> None:
    fleet.source.secret = "two"

    fleet.tick(59)

    assert fleet.source.asked == 0
    assert fleet.keys == {(b"one",)}


def test_one_worker_asks_and_all_of_them_switch(fleet: Fleet) -> None:
    fleet.source.secret = "two"

    fleet.tick(60)

    assert fleet.source.asked == 1
    assert fleet.keys == {(b"two", b"one")}


def test_the_old_secret_ends_everywhere_with_its_grace(fleet: Fleet) -> None:
    fleet.source.secret = "two"
    fleet.tick(60)

    fleet.tick(GRACE - 1)
    before = fleet.keys
    fleet.tick(1)

    assert before == {(b"two", b"one")}
    assert fleet.keys == {(b"two",)}


def test_a_change_is_told_once_without_a_value(fleet: Fleet) -> None:
    fleet.source.secret = "two"

    fleet.tick(60)
    fleet.tick(60)

    assert fleet.said == [("The secret was replaced; the old one verifies for 100 s more", False)]


def test_a_source_that_cannot_be_read_changes_nothing_and_is_told_once(fleet: Fleet) -> None:
    fleet.source.trouble = "SecretFile: /x cannot be read."

    for _ in range(5):
        fleet.tick(60)

    assert fleet.source.asked == 5
    assert fleet.keys == {(b"one",)}
    ((sentence, is_bad),) = fleet.said
    assert is_bad
    assert "last good one stays" in sentence
    assert "SecretFile: /x cannot be read." in sentence


def test_a_source_that_is_back_is_told_and_counts(fleet: Fleet) -> None:
    fleet.source.trouble = "SecretFile: /x cannot be read."
    fleet.tick(60)
    fleet.source.trouble = ""

    fleet.tick(60)

    assert fleet.said[1:] == [("The secret can be read again", False)]


def test_a_source_that_failed_is_asked_again_sooner_than_the_interval(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 86400.0)
    fleet.source.trouble = "away"
    fleet.tick(86400)
    fleet.source.trouble, fleet.source.secret = "", "two"

    fleet.tick(secrets.RETRY_SECONDS)

    assert fleet.keys == {(b"two", b"one")}


def test_without_reask_secret_enabled_nobody_asks_and_everybody_follows_the_file(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, None)
    fleet.source.secret = "two"
    fleet.tick(10**6)
    store = RingFile(str(tmp_path))
    with store.in_turn():
        store.save(Ring(Secrets("three")))

    fleet.tick()

    assert fleet.source.asked == 0
    assert fleet.keys == {(b"three",)}


def test_a_ring_that_cannot_be_saved_is_taken_by_nobody(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_store: RingFile, _ring: Ring) -> None:
        raise StorageFailed("ENOSPC")

    monkeypatch.setattr(RingFile, "save", fail)
    fleet.source.secret = "two"

    with pytest.raises(StorageFailed):
        fleet.tick(60)

    assert fleet.keys == {(b"one",)}


def test_a_worker_that_finds_another_one_asking_does_not_wait(fleet: Fleet, tmp_path: Path) -> None:
    fleet.source.secret = "two"

    with RingFile(str(tmp_path)).in_turn():
        fleet.tick(60)

    assert fleet.source.asked == 0


def test_who_comes_second_takes_what_the_first_one_learned(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.source.secret = "two"
    alone = RingFile.alone

    @contextmanager
    def after_another(store: RingFile) -> Iterator[bool]:
        monkeypatch.setattr(RingFile, "alone", alone)
        fleet.workers[1].tick()  # between the first one's look and its lock
        with alone(store) as is_ours:
            yield is_ours

    monkeypatch.setattr(RingFile, "alone", after_another)
    fleet.now += 60
    fleet.workers[0].tick()

    assert fleet.source.asked == 1
    assert fleet.keyrings[0].keys == (b"two", b"one")


def test_the_thread_switches_without_being_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "LOOK_SECONDS", 0.01)
    fleet = Fleet(tmp_path, 60.0)
    fleet.source.secret = "two"
    fleet.now += 60

    for worker in fleet.workers:
        worker.start()
        worker.start()
    try:
        until(lambda: fleet.keys == {(b"two", b"one")}, "all workers switch")
    finally:
        for worker in fleet.workers:
            worker.stop()


def test_a_state_dir_that_fails_is_told_once_and_ends_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "LOOK_SECONDS", 0.01)
    fleet = Fleet(tmp_path, 60.0)
    looks = 0

    def fail(_store: RingFile) -> bool:
        nonlocal looks
        looks += 1
        raise StorageFailed("EIO: no disk")

    with monkeypatch.context() as broken:
        broken.setattr(RingFile, "has_changed", fail)
        fleet.workers[0].start()
        until(lambda: looks > 3, "it goes on looking")
    fleet.source.secret = "two"
    fleet.now += 60
    until(lambda: fleet.keyrings[0].keys == (b"two", b"one"), "it works again")
    fleet.workers[0].stop()

    assert [sentence for sentence, is_bad in fleet.said if is_bad] == [
        "StateDir cannot keep a new secret, the last good one stays: EIO: no disk"
    ]


def test_a_keyring_shows_nothing() -> None:
    ring = Keyring(Ring(Secrets("alpha", "beta", "gamma")))

    assert (ring.keys, ring.jwt_keys, ring.delete_secrets) == ((b"alpha",), (b"beta",), (b"gamma",))
    for shown in (repr(ring), str(ring), repr(ring.ring)):
        assert not any(word in shown for word in ("alpha", "beta", "gamma"))
