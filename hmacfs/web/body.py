"""request.stream as something that fills buffers; what goes wrong with it becomes our errors, once."""

from collections.abc import Iterable
from typing import IO, Any

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from hmacfs.errors import BadBody, RequestError, Truncated
from hmacfs.services.observer import Exchange

_INTERIM = {104: "Upload Resumption Supported"}


class StreamBody:
    """The body of one request, read straight from the WSGI server and never collected.

    Args:
        stream: ``flask.request.stream``. Our own worker's fills buffers and says when a sender pauses; any other is
            read, and waited for, as it comes.
        exchange: told what arrives, and what is kept of it.
    """

    def __init__(self, stream: IO[bytes], exchange: Exchange | None = None) -> None:
        self._exchange = Exchange("", "-", "") if exchange is None else exchange
        self._read = stream.read
        self._fill = getattr(stream, "fill", None)
        self._wait = getattr(stream, "wait", None)

    def read_into(self, buffer: memoryview) -> int | None:
        """As ``services.uploads.Body`` promises."""
        try:
            if self._fill is not None:
                filled: int | None = self._fill(buffer)
                if filled:
                    self._exchange.received += filled
                return filled
            data = self._read(len(buffer))
        except RequestError:
            raise
        except (OSError, ClientDisconnected) as error:  # the connection broke, or a chunk did
            raise Truncated(type(error).__name__) from error
        except Exception as error:  # gunicorn's chunk errors are plain exceptions, one class for each fault
            raise BadBody(type(error).__name__) from error
        self._exchange.received += len(data)
        buffer[: len(data)] = data
        return len(data)

    @property
    def kept(self) -> int:
        return self._exchange.kept

    @kept.setter
    def kept(self, count: int) -> None:
        self._exchange.kept = count

    def wait(self, seconds: float) -> bool:
        """As ``services.uploads.Body`` promises; only our own worker's streams ever need it."""
        return True if self._wait is None else bool(self._wait(seconds))


def body_of(environ: dict[str, Any], exchange: Exchange) -> StreamBody:
    """The body of the request that ``environ`` describes."""
    return StreamBody(get_input_stream(environ), exchange)


def send_interim(environ: dict[str, Any], status: int, headers: Iterable[tuple[str, str]]) -> None:
    """A 1xx answer before the real one; nothing under a server that cannot send one."""
    interim = getattr(environ["wsgi.input"], "interim", None)
    if interim is None:
        return
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    try:
        interim(f"HTTP/1.1 {status} {_INTERIM[status]}\r\n{lines}\r\n".encode("latin-1"))
    except OSError as error:
        raise Truncated(type(error).__name__) from error


def leave_soon(environ: dict[str, Any]) -> None:
    """Somebody else continues the upload: its socket closes within seconds, whatever the client still sends (protocol,
    section 5, "Taking over"). Nothing under a server that does not linger."""
    stream = environ["wsgi.input"]
    if hasattr(stream, "linger_seconds"):
        stream.linger_seconds = 3.0
