"""The audit log (AuditLog): who changed what, one JSON object a line, in a file of its own beside the log.

Written by the server, and by the commands that change something themselves. A line tells ``time`` and ``event``; which
further keys it has is in docs/logging.md. Nobody waits for this file, and nobody fails because of it.
"""

import json
import logging

from hmacfs.errors import ConfigError
from hmacfs.services.observer import Observer
from hmacfs.telemetry import logs
from hmacfs.telemetry.linefile import LineFile
from hmacfs.telemetry.lines import stamp, whole

_LOGGER = logging.getLogger("hmacfs.audit")
"""Only holds the file: gunicorn opens anew what hangs on named loggers."""


def configure(path: str) -> None:
    """Write to the file at ``path`` from now on; nowhere where it is empty. Repeating it is harmless.

    Raises:
        ConfigError: the file cannot be opened.
    """
    handlers = []
    if path:
        try:
            handlers.append(LineFile(path, "AuditLog", lambda sentence: logs.event(logging.ERROR, sentence)))
        except OSError as error:
            problem = f"AuditLog: {path} cannot be written ({error.strerror}). Check its folder and owner."
            raise ConfigError([problem]) from error
    for old in list(_LOGGER.handlers):
        _LOGGER.removeHandler(old)
        old.close()
    for handler in handlers:
        _LOGGER.addHandler(handler)
    _LOGGER.propagate = False


def write(event: str, **fields: str | int) -> None:
    """One line, where there is an audit log. Args: fields: behind time and event; an empty text is left out."""
    for handler in _LOGGER.handlers:
        if isinstance(handler, LineFile):
            shown = {key: whole(value) if isinstance(value, str) else value for key, value in fields.items()}
            told = {key: value for key, value in shown.items() if value != ""}
            handler.write(json.dumps({"time": stamp(), "event": event} | told))


class AuditObserver(Observer):
    """Writes what changes the store, and who is banned."""

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        write("upload", path=name, size=size, uploader=uploader, address=client)

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:
        write("delete", path=name, size=size, reason=reason, version=version or "", address=client)

    def version_removed(self, name: str, number: int, size: int, reason: str) -> None:
        write("delete", path=name, size=size, reason=reason, version=number)

    def swept(self, files: int, stored: int, removed: int, freed: int, seconds: float) -> None:
        write("sweep", files=files, stored=stored, removed=removed, freed=freed)

    def banned(self, address: str, seconds: int, times: int) -> None:
        write("ban", address=address, seconds=seconds or "until-lifted", times=times, reason="wrong signatures")

    def bans_lifted(self, count: int) -> None:
        write("lift", count=count, reason="the secret has changed")
