"""request.stream as something that fills buffers; what goes wrong with it becomes our errors, once."""

from typing import IO

from hmacfs.errors import BadBody, BodyTimeout, RequestError, Truncated


class StreamBody:
    """The body of one request, read straight from the WSGI server and never collected.

    Args:
        stream: ``flask.request.stream``. Where it can fill a buffer itself, nothing is copied.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._read = stream.read
        self._readinto = getattr(stream, "readinto", None)

    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer`` from its start; the bytes read, 0 at the end. Raises BadBody, BodyTimeout or Truncated."""
        try:
            if self._readinto is not None:
                return int(self._readinto(buffer))
            data = self._read(len(buffer))
        except RequestError:
            raise
        except TimeoutError as error:
            raise BodyTimeout from error
        except OSError as error:  # the connection broke, or a chunk did
            raise Truncated(type(error).__name__) from error
        except Exception as error:  # gunicorn's chunk errors are plain exceptions, one class for each fault
            raise BadBody(type(error).__name__) from error
        buffer[: len(data)] = data
        return len(data)
