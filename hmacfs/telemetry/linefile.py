"""Where lines end: a file that logrotate may move, or a stream. No request ends because one takes them no more."""

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

_TELL_SECONDS = 60.0
_MODE = 0o640
"""Of a new file: who may read it can download what it names, whatever the umask is."""


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def shut(handler: logging.Handler) -> None:
    """Close it. What a full disk has not taken yet is lost, and no error."""
    with suppress(OSError, ValueError):
        handler.close()


class LineStream(logging.StreamHandler[TextIO]):
    """Lines to a stream of any encoding: what it has not is escaped, as in ``\\u65e5``."""

    def write(self, line: str) -> None:
        """One line that needs no formatting. It is on its way when this returns, or it is lost."""
        try:
            try:
                self.stream.write(line + "\n")
            except UnicodeEncodeError as error:
                escaped = line.encode(error.encoding, "backslashreplace").decode(error.encoding)
                self.stream.write(escaped + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            self.handleError(logging.makeLogRecord({"msg": line}))

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))


class LineFile(logging.FileHandler):
    """Appends lines.

    Args:
        path: absolute.
        key: which key of the configuration names it.
        tell: gets a sentence when lines are lost, once a minute at most, and when ``reopen`` had to keep the old file.
            It may write to this file.

    Raises:
        OSError: the file cannot be opened. Later on it is tried again with every line.
    """

    def __init__(self, path: str, key: str, tell: Callable[[str], None] = _to_stderr) -> None:
        super().__init__(path, encoding="utf-8")
        self._key = key
        self._tell = tell
        self._told_at = float("-inf")
        self._is_behind = False  # the file at the path is another one, which could not be opened

    def write(self, line: str) -> None:
        """One line that needs no formatting. It is with the kernel when this returns, or it is lost."""
        try:
            if self._is_behind:
                self._try_again()
            stream = self.stream
            if stream is None:  # closed, and needed once more
                stream = self.stream = self._open()
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            self._lost()

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))

    def reopen(self) -> None:
        """Write to the file that is at the path now; make it where there is none. Raises nothing: where it cannot be
        opened the old one is written on, and every line tries again."""
        try:
            self._switch()
        except OSError as error:
            self._is_behind = True
            self._tell(
                f"{self._key}: {self.baseFilename} cannot be opened anew ({error.strerror}), the old file is written on"
            )

    def _try_again(self) -> None:
        try:
            self._switch()
        except OSError:
            pass  # told when it was asked for

    def _switch(self) -> None:
        fresh = self._open()
        old, self.stream, self._is_behind = self.stream, fresh, False
        try:
            if old is not None:
                old.close()
        except (OSError, ValueError):
            self._lost()  # what a full disk had not taken yet

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_opened)

    def _lost(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            error = sys.exc_info()[1]
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            self._tell(f"{self._key}: {self.baseFilename} cannot be written ({reason}), lines are lost")


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, _MODE)
