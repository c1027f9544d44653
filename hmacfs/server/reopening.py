"""gunicorn's logger, whose SIGUSR1 cannot end the server.

gunicorn closes every file before it opens it anew, without a net: a folder that is gone, or a file that logrotate made
for another user, ended the master with all its workers, at SIGUSR1 as at SIGHUP. Here a file opens itself anew.
"""

from typing import Protocol, runtime_checkable

from gunicorn.glogging import Logger, loggers


@runtime_checkable
class Reopened(Protocol):
    """A handler of log lines that writes to a file."""

    def acquire(self) -> None: ...
    def release(self) -> None: ...
    def reopen(self) -> None:
        """Write to the file that is at the path now. Raises nothing."""


class ReopeningLogger(Logger):  # type: ignore[misc]  # gunicorn is not typed
    """For master and workers alike. gunicorn has no file of its own here: ``errorlog`` and ``accesslog`` are off."""

    def reopen_files(self) -> None:
        """Open the file of every named logger anew, each once. Raises nothing."""
        # A set, because our log and gunicorn's share a handler.
        for handler in {each for logger in loggers() for each in logger.handlers if isinstance(each, Reopened)}:
            handler.acquire()
            try:
                handler.reopen()
            finally:
                handler.release()
