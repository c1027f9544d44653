"""request.stream as something that fills buffers; what goes wrong with it becomes our errors, once."""

from typing import IO

from werkzeug.exceptions import ClientDisconnected

from hmacfs.errors import BadBody, RequestError, Truncated


class StreamBody:
    """The body of one request, read straight from the WSGI server and never collected.

    Args:
        stream: ``flask.request.stream``. Our own worker's fills buffers and says when a sender pauses; any other is
            read, and waited for, as it comes.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._read = stream.read
        self._fill = getattr(stream, "fill", None)
        self._wait = getattr(stream, "wait", None)

    def read_into(self, buffer: memoryview) -> int | None:
        """As ``services.uploads.Body`` promises."""
        try:
            if self._fill is not None:
                filled: int | None = self._fill(buffer)
                return filled
            data = self._read(len(buffer))
        except RequestError:
            raise
        except (OSError, ClientDisconnected) as error:  # the connection broke, or a chunk did
            raise Truncated(type(error).__name__) from error
        except Exception as error:  # gunicorn's chunk errors are plain exceptions, one class for each fault
            raise BadBody(type(error).__name__) from error
        buffer[: len(data)] = data
        return len(data)

    def wait(self, seconds: float) -> bool:
        """As ``services.uploads.Body`` promises; only our own worker's streams ever need it."""
        return True if self._wait is None else bool(self._wait(seconds))
