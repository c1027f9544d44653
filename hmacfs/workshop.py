"""Settings to what several use cases work with."""

import logging
import os
import random
import time
from dataclasses import dataclass
from functools import partial

from hmacfs import guards, retention, tiers
from hmacfs.core import policy
from hmacfs.core.retry import Schedule
from hmacfs.offload import make_pool
from hmacfs.retention import Kept
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.authority import Authority
from hmacfs.services.bans import BanList
from hmacfs.services.buffers import BufferPool
from hmacfs.services.intake import Clocks, Intake, Pace
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.services.retrying import GET_FIRST_SECONDS, GET_SECONDS, Retries, may_pass
from hmacfs.services.secrets import Keyring
from hmacfs.settings import Settings
from hmacfs.state.failover import SharedState
from hmacfs.state.members import Serving
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage.local import LocalStorage
from hmacfs.telemetry import logs

DISK_THREADS = 8
DEFAULT_TRANSFERS = 1000
"""MaxWorkers = "auto"."""


@dataclass(frozen=True)
class Workshop:
    """What several use cases work with."""

    storage: LocalStorage
    kept: Kept
    keyring: Keyring
    authority: Authority
    admission: Admission
    intake: Intake
    observer: Observer
    state: SharedState
    recorder: Recorder
    retries: Retries
    get_retries: Retries
    clocks: Clocks
    bans: BanList


def workshop(settings: Settings, observer: Observer, board: Scoreboard, keyring: Keyring) -> Workshop:
    """Call it in the process that serves: it makes thread pools.

    Args:
        board: shared with the other workers.

    Raises:
        ConfigError: StoreDir cannot be used.
    """
    storage = LocalStorage(
        settings.store_dir,
        make_pool(DISK_THREADS, is_timed=True),
        durability=settings.durability,
        file_mode=settings.file_mode,
        dir_mode=settings.dir_mode,
    )
    authority = Authority(
        keyring,
        max_size=settings.upload_max_size,
        type_from_extension=settings.content_type_from_extension,
        prefix=settings.upload_sub_dir,
        v3=settings.enable_v3,
        policy=policy.make(settings.allowed_extensions, settings.blocked_extensions, settings.blocked_types),
    )
    admission = Admission(_limits(settings), board, storage.free_bytes, time.monotonic)
    clocks = Clocks(time.monotonic, time.sleep, time.time)
    intake = Intake(_pace(settings), BufferPool(settings.chunk_size), admission, clocks)
    schedule = Schedule(settings.max_retries, settings.retry_delay)
    state = tiers.shared_state(settings, partial(_tell_tiers, observer))
    recorder = Recorder(state, schedule, random.random, partial(logs.event, logging.WARNING))
    retries = Retries(schedule, time.monotonic, time.sleep, random.random)
    kept = retention.kept(settings, storage)
    bans = guards.bans(settings, keyring, state, board, observer)
    authority.on_success = bans.succeeded
    return Workshop(
        storage,
        kept,
        keyring,
        authority,
        admission,
        intake,
        observer,
        state,
        recorder,
        retries,
        _get_retries(settings),
        clocks,
        bans,
    )


def _get_retries(settings: Settings) -> Retries:
    """EnableGetRetries: as often as MaxRetries says, but in much less time."""
    times = settings.max_retries if settings.enable_get_retries else 0
    schedule = Schedule(times, min(GET_FIRST_SECONDS, settings.retry_delay))
    return Retries(schedule, time.monotonic, time.sleep, random.random, longest=GET_SECONDS, repeats=may_pass)


def _tell_tiers(observer: Observer, serving: Serving) -> None:
    """One line for each change, and the first one at start. Each worker has a view of its own, so it says which."""
    observer.tiers_changed(serving.sessions, serving.catalog, frozenset(serving.down))
    logs.event(logging.WARNING if serving.down else logging.INFO, tiers.told(serving), pid=os.getpid())


def _limits(settings: Settings) -> Limits:
    return Limits(
        transfers=settings.max_workers or DEFAULT_TRANSFERS,
        uploads_per_client=settings.max_uploads_per_client,
        memory=settings.max_memory_mb * 1024 * 1024,
        free_space=settings.min_free_space,
    )


def _pace(settings: Settings) -> Pace:
    return Pace(
        silence=settings.read_timeout,
        max_rate=settings.max_bytes_per_second,
        min_rate=settings.min_bytes_per_second,
        least_block=settings.buffer_size,
    )
