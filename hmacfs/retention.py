"""Settings to a sweep of the store; the server and ``hmacfs sweep`` use the same one."""

import secrets
import time
from collections.abc import Callable, Sequence

from hmacfs.core import retention
from hmacfs.core.retention import Policy
from hmacfs.core.wallclock import Moment
from hmacfs.services.grounds import Grounds, Ledger, Means, Shelf
from hmacfs.services.janitor import Janitor, Schedule
from hmacfs.services.observer import Observer
from hmacfs.settings import Settings
from hmacfs.state.base import Upkeep
from hmacfs.storage import sweepfile
from hmacfs.storage.base import Partials
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.leftovers import LocalLeftovers
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.shelf import LocalShelf
from hmacfs.storage.sweepfile import SweepFile


def policy(settings: Settings) -> Policy:
    """What the keys say of how long files live."""
    ages = retention.age_rules(
        file_ttl=settings.file_ttl,
        delete_files=settings.delete_files,
        delete_after=settings.delete_files_after_period,
        policy_enabled=settings.retention_policy_enabled,
        most_time=settings.max_retention_time,
    )
    return Policy(ages, settings.max_retention_size if settings.retention_policy_enabled else 0)


def told(settings: Settings) -> list[str]:
    """What the log says of it at start."""
    return retention.told(policy(settings))


def graves(settings: Settings, storage: LocalStorage) -> LocalGraves:
    """The graves of the store, which ``storage`` asks from now on."""
    made = LocalGraves(settings.store_dir, storage.disk)
    storage.is_buried = made.buried_now
    return made


def janitor(
    settings: Settings,
    storage: LocalStorage,
    dead: LocalGraves,
    partials: Partials | None,
    state: Upkeep,
    ledger: Ledger,
    observer: Observer,
    *,
    versions: Shelf | None = None,
    chores: Sequence[Callable[[], object]] = (),
    removes: bool = True,
    clocks: Callable[[], Moment] | None = None,
) -> Janitor:
    """Who sweeps the store.

    Args:
        partials: None where uploads cannot be resumed.
        versions: None where no old versions are kept.
        chores: what else is to be done with each sweep.
        removes: False only to plan.
        clocks: None for those of this machine.
    """
    grounds = Grounds(
        files=LocalShelf(storage, settings.store_dir, dead),
        leftovers=LocalLeftovers(settings.store_dir, storage.disk, time.time),
        graves=dead,
        partials=partials,
        versions=versions,
    )
    # Unfinished uploads go soon after their time, also where it is shorter than SweepInterval.
    schedule = Schedule(settings.sweep_interval, min(settings.sweep_interval, settings.session_ttl / 4))
    means = Means(grounds, policy(settings), ledger, observer, time.monotonic, removes)
    notes = SweepFile(settings.store_dir)
    return Janitor(means, notes, state, secrets.token_hex(8), schedule, clocks or sweepfile.clocks(), chores)
