"""The composition root: the one place that knows every layer and puts them together."""

import atexit
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask

from hmacfs import boot, configfile, guards, operations, places, resumption, retention, secretring, watching
from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.core.rotation import Ring
from hmacfs.errors import StorageFailed
from hmacfs.monitoring import Watch
from hmacfs.operations import Counting, Sources
from hmacfs.services.admission import Admission
from hmacfs.services.bans import BanList
from hmacfs.services.deduplicator import Deduplicator
from hmacfs.services.deletions import Deletions
from hmacfs.services.downloads import DownloadRules, Downloads
from hmacfs.services.history import History
from hmacfs.services.janitor import Janitor
from hmacfs.services.observer import Observer
from hmacfs.services.publishing import Publishing
from hmacfs.services.quotas import Quotas
from hmacfs.services.recorder import Recorder
from hmacfs.services.secrets import Keyring, ReaskRules, Rotation
from hmacfs.services.uploads import Uploads
from hmacfs.settings import Settings
from hmacfs.state.failover import SharedState
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import storedir
from hmacfs.storage.partials import LocalPartials
from hmacfs.storage.ringfile import RingFile
from hmacfs.storage.versions import LocalVersions
from hmacfs.telemetry import audit, logs
from hmacfs.web import files
from hmacfs.web.cors import Cors
from hmacfs.web.face import Resources
from hmacfs.web.operations import Operations
from hmacfs.web.responses import Offload
from hmacfs.workshop import Workshop, workshop

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_SHORT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"))


class Application(Flask):
    """The WSGI application.

    What every client sends goes the short way: it needs nothing of Flask's contexts, hooks and routing, which cost
    more than all of our own work on a small file (90 of 130 microseconds for a GET). Everything else takes Flask's
    way to the blueprint, whose rule leads to the very same ``Files.answer``.

    Attributes:
        files: answers requests on slots.
        admission: told when the server is about to stop.
        state: what workers and servers share.
        recorder: writes it behind the answers.
        janitor: removes what is over.
        rotation: keeps the secrets current.
        bans: who is refused.
        quotas: the bytes of uploaders.
        deduplicator: shares equal content; None where that is off.
        operations: answers requests for metrics and health.
        counting: what is counted in this process.
        watch: what is told of it.
    """

    files: files.Files
    operations: Operations
    counting: Counting
    watch: Watch
    admission: Admission
    state: SharedState
    recorder: Recorder
    janitor: Janitor
    rotation: Rotation
    bans: BanList
    quotas: Quotas
    deduplicator: Deduplicator | None

    def wsgi_app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        if self.operations.takes(environ):
            return self.operations.answer(environ).wsgi(start_response)
        if environ["REQUEST_METHOD"] in _SHORT:
            return self.files.answer(environ).wsgi(start_response)
        return super().wsgi_app(environ, start_response)

    def drain(self, seconds: float = 0.0) -> None:
        """This process is about to end: new uploads are refused (at a reload later than at a stop, see
        ``Admission.drain``); what runs goes on, but for a sweep. The server calls this.

        Args:
            seconds: until what still runs is ended.
        """
        self.admission.drain(seconds)
        self.janitor.stop()

    def tick(self) -> None:
        """The server calls this once a second."""
        self.counting.tick()
        self.watch.tick()

    def head_refused(self) -> None:
        """The server calls this for a request head that it answers itself, because it cannot be understood."""
        self.counting.head_refused()

    def start(self) -> None:
        """Begin what runs beside the requests, until the process ends. Call it once, in the process that serves."""
        self.state.start()
        self.recorder.start()
        self.rotation.start()
        self.bans.start()
        self.quotas.start()
        if self.deduplicator is not None:
            self.deduplicator.start()
        self.janitor.start()
        # Not at the drain: uploads that finish during it are recorded too.
        atexit.register(self.stop)
        self.watch.start()

    def stop(self) -> None:
        """Write what is still to be recorded, for 2 seconds at most, and leave the tiers."""
        self.janitor.stop()
        self.rotation.stop()
        if self.deduplicator is not None:
            self.deduplicator.stop()
        self.bans.stop()
        self.quotas.stop()
        self.recorder.stop()
        self.state.stop()
        self.counting.tick()


def create_app(
    settings: Settings,
    observer: Observer | None = None,
    board: Scoreboard | None = None,
    ring: Ring | None = None,
    metrics_folder: str = "",
) -> Application:
    """The WSGI application for ``settings``. Call it in the process that serves: it makes thread pools.

    Args:
        board: shared with the other workers; one of its own where there are none.
        ring: the secrets to begin with; None to read them from their sources.
        metrics_folder: where the workers count; empty where nobody does.

    Raises:
        ConfigError: StoreDir or the secret cannot be used.
    """
    storedir.prepare(settings.store_dir)
    keyring = Keyring(ring or Ring(secretring.read(settings)), time.time())
    board = board or Scoreboard()
    counting = Counting(settings, metrics_folder, board)
    watch = Watch(settings, counting.observing(observer or logs.LogObserver()), board)
    shop = workshop(settings, watch.observer, board, keyring)
    cases = _cases(settings, shop)
    app = _application(_site(settings, shop, cases), shop.admission)
    sources = Sources(board, shop.bans, shop.state, operations.store_figures(settings))
    answers = watching.answers(settings, shop, sources, counting.completed)
    app.counting, app.operations = counting, counting.operations(sources, answers)
    app.watch = watch
    app.state, app.recorder, app.deduplicator = shop.state, shop.recorder, cases.deduplicator
    app.rotation, app.bans, app.quotas = _rotation(settings, keyring), shop.bans, cases.quotas
    app.janitor = retention.janitor(
        settings,
        shop.storage,
        shop.kept,
        cases.unfinished,
        shop.state,
        shop.recorder,
        shop.observer,
        counted=board.note_counted,
    )
    return app


@dataclass(frozen=True)
class _Cases:
    """The use cases of files, and what only some of them work with."""

    uploads: Uploads
    downloads: Downloads
    versions: LocalVersions | None
    deduplicator: Deduplicator | None
    unfinished: LocalPartials | None
    quotas: Quotas


def _cases(settings: Settings, shop: Workshop) -> _Cases:
    versions = shop.kept.versions if settings.enable_versioning else None
    content = shop.kept.content if settings.deduplication_enabled else None
    deduplicator = Deduplicator(content, shop.observer) if content else None
    unfinished = resumption.unfinished(settings, shop.storage) if settings.resumable_uploads_enabled else None
    quotas = guards.quotas(settings, shop.state, shop.recorder, shop.storage, unfinished)
    shop.admission.check_rate = guards.check_rate(settings, shop.state)
    uploads = Uploads(
        shop.storage,
        shop.authority,
        shop.admission,
        shop.intake,
        shop.observer,
        shop.clocks,
        shop.recorder,
        shop.retries,
        unfinished.count if unfinished else None,
        settings.max_sessions_per_slot,
        versions,
        deduplicator,
        quotas,
    )
    downloads = _downloads(settings, shop, uploads.publishing)
    return _Cases(uploads, downloads, versions, deduplicator, unfinished, quotas)


def _site(settings: Settings, shop: Workshop, cases: _Cases) -> files.Site:
    rate = shop.admission.check_rate
    history = None
    if cases.versions is not None:
        history = History(cases.versions, cases.downloads, shop.authority.check_download)
    return files.Site(
        uploads=cases.uploads,
        downloads=cases.downloads,
        deletions=Deletions(
            shop.storage, shop.authority, shop.recorder, shop.kept.graves, shop.retries, rate, shop.observer
        ),
        authority=shop.authority,
        prefix=settings.upload_sub_dir,
        trust=ProxyTrust(settings.trusted_proxies),
        cors=Cors(settings.cors_origins),
        offload=Offload(settings.direct_downloads, settings.store_dir),
        observer=shop.observer,
        bans=shop.bans,
        clock=time.monotonic,
        verify_checksums=settings.checksum_verification,
        resources=_resources(settings, shop, cases),
        history=history,
    )


def _downloads(settings: Settings, shop: Workshop, publishing: Publishing) -> Downloads:
    rules = DownloadRules(
        signed=settings.require_signed_downloads,
        may_change=lambda: settings.enable_versioning or bool(shop.authority.accepts_deleting),
        age=retention.policy(settings).age,
    )
    return Downloads(shop.storage, shop.admission, shop.get_retries, shop.authority, rules, publishing=publishing)


def _rotation(settings: Settings, keyring: Keyring) -> Rotation:
    """Sources are asked again with the configuration as it is then; it may name another one."""
    interval = settings.reask_secret_interval if settings.reask_secret_enabled else None
    rules = ReaskRules(interval, settings.secret_grace)
    return Rotation(
        keyring, RingFile(settings.state_dir), partial(secretring.reread, settings), rules, _tell_secret, time.time
    )


def _tell_secret(sentence: str, is_bad: bool) -> None:
    logs.event(logging.ERROR if is_bad else logging.INFO, sentence)


def _resources(settings: Settings, shop: Workshop, cases: _Cases) -> Resources | None:
    """What the faces of resumable uploads work with; None where they are off."""
    if cases.unfinished is None:
        return None
    resuming = resumption.resumption(settings, shop, cases.uploads, cases.unfinished, cases.quotas)
    prefix, most, interim = settings.upload_sub_dir, settings.upload_max_size, settings.enable_interim_responses
    return Resources(resuming.sessions, resuming.resumable, cases.uploads, prefix, most, interim, shop.authority)


def create_app_from_environment() -> Application:
    """The application for the file that HMACFS_CONFIG names, for any WSGI server.

    In a worker of ours the settings are the master's: the file may have been broken since it read it.
    """
    inherited = boot.current_settings()
    if inherited is not None:
        # The ring as it is now: it may have been read again since the master did.
        ring = _kept_ring(inherited) or boot.current_ring()
        folder = boot.current_metrics_folder()
        return _started(create_app(inherited, board=boot.current_board(), ring=ring, metrics_folder=folder))
    loaded = configfile.load()
    settings = configfile.usable(loaded)
    places.check(settings, loaded.path)
    if not logs.is_configured():
        logs.configure(settings.log_level, settings.log_file, settings.log_format)
        audit.configure(settings.audit_log)
        for warning in loaded.warnings:
            logs.event(logging.WARNING, warning)
    return _started(create_app(settings, ring=secretring.committed(settings, partial(logs.event, logging.WARNING))))


def _kept_ring(settings: Settings) -> Ring | None:
    try:
        return RingFile(settings.state_dir).load()
    except StorageFailed:
        return None


def _started(app: Application) -> Application:
    app.start()
    return app


def _application(site: files.Site, admission: Admission) -> Application:
    app = Application("hmacfs", static_folder=None)
    app.files = files.Files(site)
    app.admission = admission
    app.url_map.merge_slashes = False  # "//" is a 400, never a 308
    app.url_map.strict_slashes = False
    app.register_blueprint(files.blueprint(app.files))
    return app
