"""Where log lines go, standard output or a file that is opened anew on SIGUSR1, and the observer that writes them.

Handlers hang on named loggers and never on the root: gunicorn reopens files on SIGUSR1 for named loggers only.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hmacfs.core import paths
from hmacfs.errors import ConfigError, RequestError, StorageFailed
from hmacfs.services.observer import Exchange, Observer
from hmacfs.telemetry.linefile import LineFile, LineStream, shut
from hmacfs.telemetry.lines import FORMS, Form

LOGGER = logging.getLogger("hmacfs")
_SERVER_LOGGER = logging.getLogger("gunicorn.error")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_METHODS = frozenset(("GET", "HEAD", "PUT", "OPTIONS", "POST", "PATCH", "DELETE"))
_QUOTING = ("Invalid request from ip=", "Error handling request", "Ignored premature client disconnection")
"""How messages begin in which gunicorn repeats what a client sent."""


class _Chosen:
    """What ``configure`` was told last."""

    form: Form = FORMS["text"]


class NoRequestText(logging.Filter):
    """Takes the client's own words out of gunicorn's messages: they may hold a query string, and so a MAC."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        for start in _QUOTING:
            if message.startswith(start):
                record.msg, record.args = start.rstrip(" =:."), ()
        return True


@contextmanager
def opened(level: str, file: str, form: str = "text") -> Iterator[Callable[[], None]]:
    """Open ``file`` without writing to it yet. Calling what the block gets sends our log and the server's there, and
    cannot fail; where the block ends without that, everything stays as it was.

    Args:
        level, file, form: LogLevel, LogFile (empty for standard output), LogFormat.

    Raises:
        ConfigError: the file cannot be opened.
    """
    handler: logging.Handler
    try:
        handler = LineFile(file, "LogFile", _tell_twice) if file else LineStream(sys.stdout)
    except OSError as error:
        raise ConfigError(
            [f"LogFile: {file} cannot be written ({error.strerror}). Check its folder and owner."]
        ) from error
    try:
        yield partial(_use, handler, level, FORMS[form])
    finally:
        if handler not in LOGGER.handlers:
            handler.close()


def _use(handler: logging.Handler, level: str, form: Form) -> None:
    _Chosen.form = form
    handler.setFormatter(form.formatter)
    for logger, filters in ((LOGGER, ()), (_SERVER_LOGGER, (NoRequestText(),))):
        old = list(logger.handlers)
        logger.filters[:] = filters
        logger.handlers[:] = [handler]
        logger.propagate = False
        for each in old:
            shut(each)
    LOGGER.setLevel(_LEVELS[level])


def configure(level: str, file: str, form: str = "text") -> None:
    """``opened``, and used at once. Repeating it is harmless.

    Raises:
        ConfigError: the file cannot be opened.
    """
    with opened(level, file, form) as use:
        use()


def _tell_twice(sentence: str) -> None:
    """What is wrong with LogFile, where people look when it is not there, and in it, as far as that works."""
    print(sentence, file=sys.stderr, flush=True)
    event(logging.ERROR, sentence)


def is_configured() -> bool:
    return bool(LOGGER.handlers)


def write_line(line: str) -> None:
    """One line that needs no formatting, to where the log goes. It is in the file, or on its way, when this returns."""
    for handler in LOGGER.handlers:
        if isinstance(handler, LineFile | LineStream):
            handler.write(line)


def event(level: int, message: str, **fields: Any) -> None:
    """One line: the message, then the fields in their order."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, message, extra={"fields": fields})


def _tell(message: str, **fields: Any) -> None:
    """As ``event`` at info, for what happens often. Args: message: of text that ``core.paths.shown`` has written."""
    if LOGGER.isEnabledFor(logging.INFO):
        write_line(_Chosen.form.line("INFO", message, fields))


def _path(shown: str) -> str:
    return _Chosen.form.path(shown)


class LogObserver(Observer):
    """Writes what happens to the log: the request line at its end, and why a signature failed."""

    def answered(self, exchange: Exchange) -> None:
        # Written without a LogRecord: for a small file that would cost as much as serving it.
        if not LOGGER.isEnabledFor(logging.INFO):
            return
        method = exchange.method if exchange.method in _METHODS else paths.shown(exchange.method.encode())
        write_line(_Chosen.form.request(exchange, method))

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        _tell(f"Upload completed: {_path(name)} in {seconds:.1f}s", size=size)

    def upload_expired(self, name: str) -> None:
        event(logging.INFO, f"Unfinished upload removed: {_path(name)}", reason="SessionTTL")

    def version_removed(self, name: str, number: int, size: int, freed: int, reason: str) -> None:
        event(logging.INFO, f"Version removed: {_path(name)}", version=number, size=size, freed=freed, reason=reason)

    def content_shared(self, name: str, saved: int) -> None:
        event(logging.INFO, f"Content shared: {_path(name)}", saved=saved)

    def sharing_failed(self, name: str, error: RequestError) -> None:
        event(logging.WARNING, f"Content not shared: {_path(name)}", code=error.code, detail=error.detail)

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:
        which = {"version": version} if version else {}
        _tell(f"File removed: {_path(name)}", reason=reason, size=size, **which)

    def leftover_removed(self, kind: str, name: str) -> None:
        reason = "empty" if kind == "folder" else "orphan"
        event(logging.INFO, f"{kind.capitalize()} removed: {_path(name)}", reason=reason)

    def swept(self, files: int, stored: int, removed: int, freed: int, seconds: float) -> None:
        level = logging.INFO if removed else logging.DEBUG
        took = round(seconds, 1)
        event(level, "Sweep done", files=files, stored=stored, removed=removed, freed=freed, seconds=took)

    def clock_doubted(self, expired: int, files: int) -> None:
        event(
            logging.ERROR,
            "The clock has run ahead since the last sweep, so nothing is deleted by age. Set it right, or run "
            "`hmacfs sweep --force` where it is",
            expired=expired,
            files=files,
        )

    def sweep_failed(self, error: BaseException) -> None:
        message = "Sweep failed, the next one tries again"
        if not isinstance(error, RequestError):
            LOGGER.error(message, exc_info=error)
            return
        place = {"path": where} if (where := place_of(error)) else {}
        event(logging.ERROR, message, detail=error.detail, **place)

    def signature_refused(self, exchange: Exchange, reason: str, size: int, content_type: str) -> None:
        fields = {
            "reason": reason,
            "protocol": exchange.protocol,
            "path": exchange.path,
            "size": size,
            "type": content_type,
        }
        for number, hint in enumerate(exchange.hints, start=1):
            fields[f"hint{number}"] = hint
        fields["request_id"] = exchange.request_id or "-"
        # The address stands last: fail2ban relies on it (contrib/fail2ban).
        event(logging.WARNING, "Signature refused", **fields, client=exchange.client or "-")

    def banned(self, address: str, seconds: int, times: int) -> None:
        event(logging.WARNING, "Address banned", address=address, seconds=seconds or "until-lifted", times=times)

    def bans_lifted(self, count: int) -> None:
        event(logging.WARNING, "All bans lifted: the secret has changed", count=count)

    def secret_suspected(self) -> None:
        event(
            logging.WARNING,
            "Nobody is banned for now: signatures of several addresses are wrong, and none was right since the start. "
            "The secret is probably another one than the XMPP server's",
        )

    def bans_failed(self, error: BaseException) -> None:
        LOGGER.error("Bans could not be shared", exc_info=error)

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, StorageFailed):
            place = f"{paths.shown(exchange.method.encode())} {_path(exchange.path)}"
            is_denied = "EACCES" in error.detail
            advice = "this user may not use it: change its owner" if is_denied else "look after the disk"
            told = {"detail": error.detail, "advice": advice, "request_id": exchange.request_id or "-"}
            event(logging.ERROR, f"Storage failed in {place}", **told)
            return
        message = f"Unforeseen error in {paths.shown(exchange.method.encode())} {_path(exchange.path)}"
        LOGGER.error(message, exc_info=error, extra={"fields": {"request_id": exchange.request_id or "-"}})

    def collecting(self) -> None:
        event(logging.DEBUG, "Running manual garbage collection...", pid=os.getpid())

    def collected(self, seconds: float, found: int) -> None:
        event(logging.DEBUG, "Garbage collection completed.", found=found, seconds=round(seconds, 4), pid=os.getpid())


def place_of(error: BaseException) -> str:
    """The file that an error of the operating system was about, where it tells; for a log, never for an answer."""
    cause = error if isinstance(error, OSError) else error.__cause__
    name = cause.filename if isinstance(cause, OSError) else None
    return paths.shown(os.fsencode(name)) if isinstance(name, str | bytes) else ""
