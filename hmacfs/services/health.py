"""How this server is: the facts as they are now, each found out in bounded time.

What workers know of each other lies in memory; only the store is asked. One that does not answer in time is one that
cannot be written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hmacfs.core import health
from hmacfs.core.health import Facts, Store, Verdict

STORE_SECONDS = 1.0
"""How long the store has to answer."""

FRESH_SECONDS = 1.0
"""For so long an answer of the store stands for all who ask."""

SILENT = f"it did not answer within {STORE_SECONDS:g} s"


@dataclass(frozen=True, slots=True)
class Limits:
    """Attributes: as in ``Facts``."""

    least_free: int = 0
    most_memory: int = 0


@dataclass(frozen=True, slots=True)
class Sources:
    """Who knows what. All but ``look`` answer at once and without a disk.

    Attributes:
        look: the store, at most ``FRESH_SECONDS`` old. At most one look runs at a time, in threads of its own, and
            TimeoutError is raised after ``STORE_SECONDS``.
        is_draining, down, secret_trouble, memory: as in ``Facts``.
    """

    look: Callable[[], Store]
    is_draining: Callable[[], bool]
    down: Callable[[], Mapping[str, str]]
    secret_trouble: Callable[[], str]
    memory: Callable[[], int]


class Health:
    """Answers for the whole server, whichever worker is asked."""

    def __init__(self, sources: Sources, limits: Limits) -> None:
        self._sources = sources
        self._limits = limits

    def verdict(self) -> Verdict:
        """Whether requests may come. Takes ``STORE_SECONDS`` at most."""
        return health.judge(self.facts())

    def facts(self) -> Facts:
        """What the verdict is made of, in the same time."""
        store, sources = self._store(), self._sources  # first, since it takes a while
        return Facts(
            store=store,
            least_free=self._limits.least_free,
            is_draining=sources.is_draining(),
            down=dict(sources.down()),
            secret_trouble=sources.secret_trouble(),
            memory=sources.memory(),
            most_memory=self._limits.most_memory,
        )

    def _store(self) -> Store:
        try:
            return self._sources.look()
        except TimeoutError:
            return Store(SILENT)
        except OSError as error:  # there is no thread to look with
            return Store(error.strerror or type(error).__name__)
