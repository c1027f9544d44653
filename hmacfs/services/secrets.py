"""The secrets that verify signatures, and keeping them current in every worker.

One process of a server asks the sources when their time has come, and writes what it learned where all of them look
once a second. A secret that cannot be read changes nothing.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from hmacfs.core import rotation
from hmacfs.core.rotation import Kind, Ring, Secrets
from hmacfs.errors import ConfigError, StorageFailed

LOOK_SECONDS = 1.0
"""How soon all workers have a new secret."""

RETRY_SECONDS = 60.0
"""A source that cannot be read is asked again after this, or after ReaskSecretInterval where that is shorter."""


class Keyring:
    """Keys for verification. It has no repr that could show one.

    Args:
        ring: or the one secret that signs and verifies, as text; UTF-8 bytes are the keys.
        now: Unix seconds.
    """

    def __init__(self, ring: Ring | str, now: float = 0.0) -> None:
        self.take(Ring(Secrets(ring)) if isinstance(ring, str) else ring, now)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Every key that verifies, the current one first."""
        return self._keys

    @property
    def current_keys(self) -> tuple[bytes, ...]:
        """What is current of everything that signs uploads."""
        return tuple(value.encode() for value in (self.ring.current.secret, self.ring.current.jwt) if value)

    @property
    def jwt_keys(self) -> tuple[bytes, ...]:
        """Every key of Bearer tokens; none where they are off."""
        return self._jwt_keys

    @property
    def delete_secrets(self) -> tuple[bytes, ...]:
        """What Metronome's DELETE may sign; none where it is off."""
        return self._delete_secrets

    def take(self, ring: Ring, now: float) -> None:
        """From now on these are the secrets."""
        self.ring = ring
        self.next_end = ring.next_end(now)
        self._keys = _bytes(ring, Kind.SECRET, now)
        self._jwt_keys = _bytes(ring, Kind.JWT, now)
        self._delete_secrets = _bytes(ring, Kind.DELETE, now)


class RingStore(Protocol):
    """Where the processes of a server keep their ring. Methods raise StorageFailed or StorageFull."""

    def load(self) -> Ring | None:
        """None where there is none, or none that can be read."""

    def has_changed(self) -> bool:
        """Whether another process has saved a ring since ``load`` or ``save`` was called here."""

    def alone(self) -> AbstractContextManager[bool]:
        """A ``with`` block that says whether this process is the only one in it. Does not wait."""

    def save(self, ring: Ring) -> None:
        """For all processes, durable, and for the owner's eyes only."""


@dataclass(frozen=True, slots=True)
class ReaskRules:
    """Attributes:
    interval: seconds, ReaskSecretInterval; None where the sources are not asked again.
    grace: seconds, SecretGrace.
    """

    interval: float | None = None
    grace: float = 86400.0


class Rotation:
    """Keeps a keyring current from a thread of its own (under gevent: a greenlet).

    Args:
        read: what the sources say now; raises ConfigError where they cannot be read or say what is refused.
        tell: given one sentence and whether it is bad news.
        clock: Unix seconds.
    """

    def __init__(
        self,
        keyring: Keyring,
        store: RingStore,
        read: Callable[[], Secrets],
        rules: ReaskRules,
        tell: Callable[[str, bool], None],
        clock: Callable[[], float],
    ) -> None:
        self._keyring = keyring
        self._store = store
        self._read = read
        self._rules = rules
        self._tell = tell
        self._clock = clock
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Twice is harmless."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="secrets", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """A source that is being read is not waited for."""
        self._ending.set()

    def tick(self) -> None:
        """What is done once a second: follow the other processes, let replaced secrets end, ask when it is time."""
        now = self._clock()
        ring = self._store.load() if self._store.has_changed() else None
        if ring is not None or now >= self._keyring.next_end:
            self._keyring.take(ring or self._keyring.ring, now)
        if self._is_due(self._keyring.ring, now):
            with self._store.alone() as is_ours:
                if is_ours:
                    self._ask(now)

    def _is_due(self, ring: Ring, now: float) -> bool:
        interval = self._rules.interval
        if interval is None:
            return False
        return rotation.is_due(ring, now, min(interval, RETRY_SECONDS) if ring.trouble else interval)

    def _ask(self, now: float) -> None:
        ring = self._store.load() or self._keyring.ring
        if not self._is_due(ring, now):  # another process was faster
            return self._keyring.take(ring, now)
        try:
            fresh = self._read()
        except ConfigError as error:
            trouble = error.problems[0]
            if trouble != ring.trouble:
                self._tell(f"The secret cannot be read again, the last good one stays: {trouble}", True)
            return self._keep(rotation.failed(ring, trouble, now), now)
        self._keep(rotation.rotated(ring, fresh, now, self._rules.grace), now)
        sentences = rotation.told(ring, fresh, self._rules.grace)
        if not sentences and ring.trouble:
            sentences = ["The secret can be read again"]
        for sentence in sentences:
            self._tell(sentence, False)
        return None

    def _keep(self, ring: Ring, now: float) -> None:
        self._store.save(ring)  # first: a secret that one worker has alone would refuse what another accepts
        self._keyring.take(ring, now)

    def _run(self) -> None:
        has_failed = False
        while not self._ending.wait(LOOK_SECONDS):
            try:
                self.tick()
            except StorageFailed as error:  # StateDir is full or broken: everything stays as it is
                if not has_failed:
                    self._tell(f"StateDir cannot keep a new secret, the last good one stays: {error.detail}", True)
                has_failed = True
            else:
                has_failed = False


def _bytes(ring: Ring, kind: Kind, now: float) -> tuple[bytes, ...]:
    return tuple(value.encode() for value in ring.values(kind, now))
