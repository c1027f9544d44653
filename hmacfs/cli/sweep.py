"""hmacfs sweep: what the server does every SweepInterval, now and with the plan on the screen."""

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from hmacfs import units
from hmacfs.cli import store
from hmacfs.cli.common import (
    config_errors_told,
    config_option,
    fail,
    open_audit_log,
    open_log,
    settings_of,
    shared_state,
)
from hmacfs.errors import StorageBusy, StorageFailed
from hmacfs.services.observer import Observer
from hmacfs.services.observers import Observers
from hmacfs.services.sweep import Report
from hmacfs.settings import Settings
from hmacfs.storage import partialfolders
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.partials import LocalPartials
from hmacfs.telemetry import logs
from hmacfs.telemetry.audit import AuditObserver
from hmacfs.telemetry.logs import LogObserver

if TYPE_CHECKING:
    from hmacfs.services.recorder import Recorder
    from hmacfs.state.failover import SharedState


@click.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Delete by age even where the clock has run ahead since the last sweep.")
@config_errors_told
def sweep(config_path: str | None, dry_run: bool, force: bool) -> None:
    """Delete what is over: files by age and size, unfinished uploads, what crashes left.

    The server may run meanwhile; only one process sweeps a store at a time.
    """
    settings = settings_of(config_path)
    if not os.path.isdir(settings.store_dir):
        fail(f"StoreDir: {settings.store_dir} does not exist.")
    observer = Printing("would remove" if dry_run else "removed")
    try:
        with shared_state(settings) as state:
            told: Observer = observer
            if not dry_run:
                open_audit_log(settings)
                open_log(settings)  # else what went would stand in no log of the server's
                listening = (LogObserver(),) if logs.is_configured() else ()
                told = Observers((observer, AuditObserver(), *listening))
            report = _sweep(settings, state, told, dry_run=dry_run, force=force)
    except (StorageBusy, StorageFailed) as error:
        place = logs.place_of(error)
        fail(f"the store cannot be swept: {f'{place}: ' if place else ''}{error}.")
    if report is None:
        fail("another process sweeps this store now.")
    click.echo(_summary(report, "to be removed" if dry_run else "removed"))
    if observer.has_doubts:
        fail("the clock has run ahead since the last sweep, so nothing goes by age: set it right, or use --force.")
    if not report.is_complete:
        fail("the sweep was ended before its time.")


class Printing(Observer):
    """Args: verb: what happens to a file."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self.has_doubts = False

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:  # noqa: ARG002
        which = f" version {version}" if version else ""
        click.echo(f"{self._verb} {name}{which} ({reason}, {units.shown_size(size)})")

    def upload_expired(self, name: str) -> None:
        click.echo(f"{self._verb} {name} (unfinished, SessionTTL)")

    def leftover_removed(self, kind: str, name: str) -> None:
        click.echo(f"{self._verb} {kind} {name}")

    def clock_doubted(self, expired: int, files: int) -> None:
        self.has_doubts = True
        click.echo(f"{expired} of {files} files would go by age.")


def _sweep(
    settings: Settings, state: "SharedState", observer: Observer, *, dry_run: bool, force: bool
) -> Report | None:
    from hmacfs import retention

    storage, recorder = store.opened(settings), _recorder(state)
    kept, unfinished = retention.kept(settings, storage), _partials(settings, storage)
    work = retention.janitor(settings, storage, kept, unfinished, state, recorder, observer, removes=not dry_run)
    if dry_run:
        return work.plan(force=force)

    def end(_number: int, _frame: Any) -> None:
        work.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    recorder.start()
    try:
        return work.sweep(force=force)
    finally:
        recorder.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _recorder(state: "SharedState") -> "Recorder":
    from hmacfs.core.retry import Schedule
    from hmacfs.services.recorder import Recorder

    return Recorder(state, Schedule(0, 0), lambda: 0.0, lambda sentence: click.echo(f"hmacfs: {sentence}", err=True))


def _partials(settings: Settings, storage: LocalStorage) -> LocalPartials:
    partialfolders.prepare(settings.store_dir)
    most, ttl = settings.max_sessions_per_slot, settings.session_ttl
    return LocalPartials(storage, settings.store_dir, most=most, ttl=ttl, clock=time.time)


def _summary(report: Report, verb: str) -> str:
    left = f"{report.files} files and versions stay, {units.shown_size(report.stored)} with unfinished uploads."
    return (
        f"{report.removed} files and versions ({units.shown_size(report.freed)}), {report.uploads} unfinished uploads, "
        f"{report.folders} empty folders and {report.sidecars} sidecars {verb}; {left}"
    )
