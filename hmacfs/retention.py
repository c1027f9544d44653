"""Settings to a sweep of the store; the server and ``hmacfs sweep`` use the same one."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hmacfs.core import retention
from hmacfs.core.retention import Policy
from hmacfs.core.wallclock import Moment
from hmacfs.services.grounds import Grounds, Ledger, Means
from hmacfs.services.janitor import Janitor, Schedule
from hmacfs.services.observer import Observer
from hmacfs.settings import Settings
from hmacfs.state.base import Upkeep
from hmacfs.storage import sharing, sweepfile, versionfolders
from hmacfs.storage.base import Partials
from hmacfs.storage.graves import LocalGraves
from hmacfs.storage.leftovers import LocalLeftovers
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.sharing import LocalContent
from hmacfs.storage.shelf import LocalShelf
from hmacfs.storage.sweepfile import SweepFile
from hmacfs.storage.versions import LocalVersions
from hmacfs.storage.versionshelf import VersionShelf


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


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept beside the current files.

    Attributes:
        content: None where nothing is shared, and nothing was.
    """

    graves: LocalGraves
    versions: LocalVersions
    content: LocalContent | None


def kept(settings: Settings, storage: LocalStorage) -> Kept:
    """What ``storage`` works with from now on; call it once, and beside it whoever else removes files of the store.

    Also where versioning or deduplication is off: a file that goes takes along what was kept of it when it was on.

    Raises:
        ConfigError: StoreDir cannot be used.
    """
    graves = LocalGraves(settings.store_dir, storage.disk)
    storage.is_buried = graves.buried_now
    age = policy(settings).age
    storage.is_over = lambda held: bool(retention.reason_to_go(held, age, time.time()))
    versionfolders.prepare(settings.store_dir)
    old = LocalVersions(
        storage,
        settings.store_dir,
        most=settings.max_versions,
        per_day=settings.versions_per_day,
        clock=time.time,
        replaces=settings.enable_versioning,
    )
    if settings.deduplication_enabled:
        sharing.prepare(settings.store_dir)
    content = LocalContent(storage, settings.store_dir) if sharing.is_prepared(settings.store_dir) else None
    return Kept(graves, old, content)


def janitor(
    settings: Settings,
    storage: LocalStorage,
    beside: Kept,
    partials: Partials | None,
    state: Upkeep,
    ledger: Ledger,
    observer: Observer,
    *,
    removes: bool = True,
    clocks: Callable[[], Moment] | None = None,
    counted: Callable[[int], None] | None = None,
) -> Janitor:
    """Who sweeps the store.

    Args:
        partials: None where uploads cannot be resumed.
        removes: False only to plan.
        clocks: None for those of this machine.
        counted: as of Janitor.
    """
    grounds = Grounds(
        files=LocalShelf(storage, settings.store_dir, beside.graves),
        leftovers=LocalLeftovers(settings.store_dir, storage.disk, time.time),
        graves=beside.graves,
        partials=partials,
        versions=VersionShelf(beside.versions),
    )
    # Unfinished uploads go soon after their time, also where it is shorter than SweepInterval.
    schedule = Schedule(settings.sweep_interval, min(settings.sweep_interval, settings.session_ttl / 4))
    means = Means(grounds, policy(settings), ledger, observer, time.monotonic, removes)
    notes = SweepFile(settings.store_dir)
    chores: list[Callable[[], Iterator[object]]] = [beside.versions.sweep]
    if beside.content is not None:
        chores.append(beside.content.sweep)
    holder = secrets.token_hex(8)
    return Janitor(means, notes, state, holder, schedule, clocks or sweepfile.clocks(), chores, counted)
