"""The audit log (AuditLog): who changed what, one JSON object a line, in a file of its own beside the log.

Written by the server, and by the commands that change something themselves. A line tells ``time`` and ``event``; which
further keys it has is in docs/logging.md. Nobody waits for this file, and nobody fails because of it.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from hmacfs.errors import ConfigError
from hmacfs.services.observer import Observer
from hmacfs.telemetry import logs
from hmacfs.telemetry.linefile import LineFile, shut
from hmacfs.telemetry.lines import stamp, whole

_LOGGER = logging.getLogger("hmacfs.audit")
"""Only holds the file: gunicorn opens anew what hangs on named loggers."""


@contextmanager
def opened(path: str) -> Iterator[Callable[[], None]]:
    """Open the file at ``path`` without writing to it yet. Calling what the block gets makes it the audit log, or ends
    that where ``path`` is empty, and cannot fail; where the block ends without that, everything stays as it was.

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
    try:
        yield partial(_use, handlers)
    finally:
        for handler in handlers:
            if handler not in _LOGGER.handlers:
                handler.close()


def _use(handlers: Sequence[logging.Handler]) -> None:
    old = list(_LOGGER.handlers)
    _LOGGER.handlers[:] = handlers
    _LOGGER.propagate = False
    for each in old:
        shut(each)


def configure(path: str) -> None:
    """``opened``, and used at once. Repeating it is harmless.

    Raises:
        ConfigError: the file cannot be opened.
    """
    with opened(path) as use:
        use()


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

    def version_removed(self, name: str, number: int, size: int, freed: int, reason: str) -> None:
        write("delete", path=name, size=size, reason=reason, version=number)

    def swept(self, files: int, stored: int, removed: int, freed: int, seconds: float) -> None:
        write("sweep", files=files, stored=stored, removed=removed, freed=freed)

    def banned(self, address: str, seconds: int, times: int) -> None:
        write("ban", address=address, seconds=seconds or "until-lifted", times=times, reason="wrong signatures")

    def bans_lifted(self, count: int) -> None:
        write("lift", count=count, reason="the secret has changed")
