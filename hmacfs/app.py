"""The composition root: the one place that knows every layer and puts them together."""

import logging
import time

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from hmacfs import boot, configfile
from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.errors import BadRequest, RequestError
from hmacfs.offload import make_pool
from hmacfs.services.buffers import BufferPool
from hmacfs.services.downloads import Downloads
from hmacfs.services.observer import Observer
from hmacfs.services.secrets import Keyring
from hmacfs.services.uploads import UploadRules, Uploads
from hmacfs.settings import Settings
from hmacfs.storage import secretfile
from hmacfs.storage.local import LocalStorage, prepare
from hmacfs.telemetry import logs
from hmacfs.web import errors, files, requests
from hmacfs.web.cors import Cors

DISK_THREADS = 8


def create_app(settings: Settings, observer: Observer | None = None) -> Flask:
    """The WSGI application for ``settings``. Call it in the process that serves: it makes thread pools.

    Raises:
        ConfigError: StoreDir or the secret cannot be used.
    """
    prepare(settings.store_dir)
    disk = make_pool(DISK_THREADS)
    storage = LocalStorage(
        settings.store_dir,
        disk,
        durability=settings.durability,
        file_mode=settings.file_mode,
        dir_mode=settings.dir_mode,
    )
    if observer is None:
        observer = logs.LogObserver()
    uploads = Uploads(
        storage,
        Keyring(settings.secret or secretfile.load_or_make(settings.state_dir)),
        UploadRules(settings.upload_max_size, settings.content_type_from_extension, settings.upload_sub_dir),
        BufferPool(settings.chunk_size),
        observer,
        time.monotonic,
    )
    site = files.Site(
        uploads=uploads,
        downloads=Downloads(storage),
        prefix=settings.upload_sub_dir,
        trust=ProxyTrust(settings.trusted_proxies),
        cors=Cors(settings.cors_origins),
        observer=observer,
        clock=time.monotonic,
    )
    return _flask(site)


def create_app_from_environment() -> Flask:
    """The application for the file that HMACFS_CONFIG names, for any WSGI server.

    In a worker of ours the settings are the master's: the file may have been broken since it read it.
    """
    inherited = boot.current_settings()
    if inherited is not None:
        return create_app(inherited)
    loaded = configfile.load()
    settings = configfile.usable(loaded)
    if not logs.is_configured():
        logs.configure(settings.log_level, settings.log_file)
        for warning in loaded.warnings:
            logs.event(logging.WARNING, warning)
    return create_app(settings)


def _flask(site: files.Site) -> Flask:
    app = Flask("hmacfs", static_folder=None)
    app.url_map.merge_slashes = False  # "//" is a 400, never a 308
    app.url_map.strict_slashes = False

    def unforeseen(error: Exception) -> Response:
        """What happens outside our own view: in werkzeug's parsing, or nowhere."""
        refused = isinstance(error, HTTPException) and (error.code or 500) < 500
        known = BadRequest() if refused else RequestError()
        if not refused:
            logs.LOGGER.error("Unforeseen error", exc_info=error)
        answer = errors.response(known, files.METHODS, as_json=requests.wants_json(request.environ))
        answer.headers.extend(site.cors.headers(request.environ.get("HTTP_ORIGIN", "")))
        return answer

    app.register_error_handler(Exception, unforeseen)
    app.register_blueprint(files.blueprint(site))
    return app
