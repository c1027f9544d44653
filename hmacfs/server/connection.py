"""One client connection: heads by gunicorn's parser, bodies and answers by ours, and a close that lets refusals arrive.

Everything here that belongs to gunicorn's inside is listed in ``worker.TOUCHED`` and tested name by name.
"""

import errno
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import gevent
from gunicorn import http
from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import unquote_to_wsgi_str

from hmacfs.server import operations
from hmacfs.server.body import ChunkedBody, TransferBody
from hmacfs.server.response import TransferResponse, send_file

if TYPE_CHECKING:
    from hmacfs.server.worker import TransferWorker

LINGER_IDLE_SECONDS = 5.0
LINGER_SECONDS = 30.0
MAX_LINGERING = 256
"""Refused clients that may still send, for each worker; one more is cut off."""

CLOSE_AT_ONCE = "hmacfs.close_at_once"
"""What the application puts into the environ where a client is not worth waiting for (``web/files``)."""

_SCRATCH = bytearray(1024 * 1024)
"""Never written to: the kernel throws the bytes away itself (MSG_TRUNC), so these pages are never even touched."""

_KEYS = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}

_GONE = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ECONNABORTED))

_STATUS = {
    errors.LimitRequestLine: (414, "URI Too Long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented"),
    errors.ExpectationFailed: (417, "Expectation Failed"),
}


class PlainConfig:
    """gunicorn's settings as plain attributes. Its own Config looks each one up anew, two dozen times for a head.

    Args:
        cfg: gunicorn's Config.
    """

    def __init__(self, cfg: Any) -> None:
        self.__dict__.update({name: setting.get() for name, setting in cfg.settings.items()})
        self.is_ssl = cfg.is_ssl
        self.forwarded_allow_networks = cfg.forwarded_allow_networks

    def __getattr__(self, name: str) -> Any:  # for mypy: all attributes come from gunicorn
        raise AttributeError(name)


def _face(error: Exception) -> tuple[int, str]:
    """Status and reason phrase for a head that cannot be understood."""
    for kind, face in _STATUS.items():
        if isinstance(error, kind):
            return face
    request = getattr(error, "req", None)
    if isinstance(error, errors.InvalidHeader) and error.hdr == "TRANSFER-ENCODING" and request is not None:
        codings = ",".join(value for name, value in request.headers if name == "TRANSFER-ENCODING").lower()
        if "chunked" not in codings:
            return 501, "Not Implemented"  # protocol, section 3: any coding but chunked
    return 400, "Bad Request"


class _HeadUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn is not typed
    """Starts the clock of the head when its first bytes arrive."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection.sock)
        self._connection = connection

    def chunk(self, size_hint: int | None = None) -> bytes:
        data: bytes = super().chunk(size_hint)
        self._connection.head_begun()
        return data


class Connection:
    """Serves requests on one socket until either side has had enough.

    Args:
        for_operations: it came in on the operations listener.

    Attributes:
        deadline: monotonic seconds after which the worker's clock cuts the connection off; infinite during a request.
        is_idle: nothing of a request has come yet, so that a stopping server may close it.
        is_fresh: nor has any come before: its first one may be on its way.
    """

    __slots__ = (
        *("_addr", "_body", "_head_timeout", "_keepalive", "_listener_name", "_most", "_parser", "_template"),
        "_write_timeout",
        *("deadline", "for_operations", "is_fresh", "is_idle", "sock", "worker"),
    )

    def __init__(
        self, worker: "TransferWorker", sock: Any, addr: Any, listener_name: Any, *, for_operations: bool = False
    ) -> None:
        self.worker = worker
        self.sock = sock
        self._addr = addr
        self._listener_name = listener_name
        self.for_operations = for_operations
        limits, most = worker.limits, operations.SECONDS if for_operations else float("inf")
        self._most = most
        self._keepalive, self._write_timeout = min(limits.keepalive, most), min(limits.write_timeout, most)
        self._head_timeout = min(limits.head_timeout, most)
        self.deadline = time.monotonic() + self._head_timeout
        self.is_idle = self.is_fresh = True
        self._parser: Any = None
        self._body: TransferBody | ChunkedBody | None = None

    def serve(self) -> None:
        try:
            self._parser = http.get_parser(self.worker.plain_cfg, self.sock, self._addr or ("", 0))
            self._parser.unreader = _HeadUnreader(self)
            self._template = self._connection_environ()
            while self._serve_one():
                pass
        except (StopIteration, errors.NoMoreData):
            pass  # the client went away between requests, or in the middle of a head
        except OSError as error:
            if error.errno not in _GONE and not isinstance(error, TimeoutError):
                self.worker.log.error("Connection failed: %s", error)
        except errors.ParseException as error:
            self._refuse_head(error)
        except Exception:
            self.worker.log.exception("Connection failed")
        finally:
            self.sock.close()

    def head_begun(self) -> None:
        if self.is_idle:
            self.is_idle = self.is_fresh = False
            self.deadline = time.monotonic() + self._head_timeout

    def cut(self, how: int = socket.SHUT_RDWR) -> None:
        """End it from another greenlet: whoever waits on the socket sees its end. Closing would free the number."""
        try:
            self.sock.shutdown(how)
        except OSError:
            pass  # it has ended already

    def end(self) -> None:
        """End what is running in order: a body that is being read is over, and its refusal can still be sent."""
        if self._body is not None:
            self._body.end()

    def _serve_one(self) -> bool:
        """Read a head and answer it; whether the connection may carry another request."""
        request = next(self._parser)
        if request.version >= (1, 1) and not any(name == "HOST" for name, _ in request.headers):
            raise errors.InvalidHeader("HOST")  # RFC 9112 section 3.2
        if "#" in request.uri:
            raise errors.InvalidRequestLine("fragment")  # RFC 9112 section 3.2.1: a target has none
        self.deadline = float("inf")
        body = self._body = self._body_of(request)
        request.body = body
        keep = self._answer(request, body)
        if keep is None:
            return False
        if not body.is_at_hand:
            if not body.failed:
                body.release()
                self._linger(body.linger_seconds)
            return False
        body.skip_ahead()
        body.release()
        if not keep or not self.worker.alive:
            return False
        self._rest()
        return True

    def _rest(self) -> None:
        """Wait for the next request, or for the rest of its head where that has begun already."""
        begun = self._parser.unreader.take_buffered()
        if begun:
            self._parser.unreader.unread(begun)
        self.is_idle = not begun  # pipelined: no arrival will tell that the head has begun
        self.deadline = time.monotonic() + (self._head_timeout if begun else self._keepalive)

    def _body_of(self, request: Any) -> TransferBody | ChunkedBody:
        expects, request._expected_100_continue = request._expected_100_continue, False
        reader = request.body.reader
        unreader, least = self._parser.unreader, self.worker.limits.least_read
        if isinstance(reader, ChunkedReader):
            ahead = unreader.take_buffered()
            return ChunkedBody(self.sock, ahead, unreader.unread, expects_continue=expects, least_read=least)
        length: int = reader.length
        ahead = b""
        if length:
            data = unreader.take_buffered()
            ahead = data[:length]
            if len(data) > length:
                unreader.unread(data[length:])
        return TransferBody(self.sock, ahead, length, expects_continue=expects, least_read=least)

    def _answer(self, request: Any, body: TransferBody | ChunkedBody) -> bool | None:
        """Whether the connection may go on; None where it must be closed without a word more."""
        response = TransferResponse(request, self.sock, self.worker.plain_cfg)
        environ = self._environ(request, body)
        chunks = self.worker.wsgi(environ, response.start_response)
        try:
            # The application has read what it wanted. What it left must be skipped before a next request, and unless
            # it is here already nobody knows how long that takes: the client is told that we close.
            body.settle()
            if not body.is_at_hand or not self.worker.alive or CLOSE_AT_ONCE in environ:
                response.force_close()
            self.sock.settimeout(self._write_timeout)
            self._send(response, chunks)
        finally:
            self.sock.settimeout(None)
            if hasattr(chunks, "close"):
                chunks.close()
        if CLOSE_AT_ONCE in environ:
            return None
        return not (response.should_close() or body.failed or body.is_ended)

    def _environ(self, request: Any, body: TransferBody | ChunkedBody) -> dict[str, Any]:
        """The WSGI environ, as gunicorn makes it but for what only its other features need."""
        environ = dict(self._template)
        environ["wsgi.input"] = body
        environ["REQUEST_METHOD"] = request.method
        environ["QUERY_STRING"] = request.query
        environ["RAW_URI"] = request.uri
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.version == (1, 1) else "HTTP/1.0"
        environ["PATH_INFO"] = unquote_to_wsgi_str(request.path)
        for name, value in request.headers:
            key = _KEYS.get(name) or "HTTP_" + name.replace("-", "_")
            # Repeated fields are one list (RFC 9110 section 5.3); gunicorn has refused those that may not repeat.
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ

    def _connection_environ(self) -> dict[str, Any]:
        """What is the same for every request of this connection."""
        name = self._listener_name
        host, port = name[:2] if isinstance(name, tuple) else ("localhost", "")
        environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": self.worker.plain_cfg.workers > 1,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "SCRIPT_NAME": "",
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_SOFTWARE": "hmacfs",
            "REMOTE_ADDR": self._addr[0] if isinstance(self._addr, tuple) else "",
        }
        if isinstance(self._addr, tuple):
            environ["REMOTE_PORT"] = str(self._addr[1])
        if self.for_operations or self.worker.limits.operations_on_main:
            environ[operations.IN_ENVIRON] = True
        return environ

    def _send(self, response: TransferResponse, chunks: Any) -> None:
        piece = getattr(chunks, "file_slice", None)
        if piece is None or response.chunked:
            for chunk in chunks:
                response.write(chunk)
            response.close()
            return
        fd, first, count = piece()
        worker = self.worker
        send_file(self.sock, response.take_head(), fd, first, count, worker.pool, self._write_timeout, chunks.progress)

    def _linger(self, most: float | None = None) -> None:
        """Let a refused client read its answer: closing with unread bytes would reset the connection, and a proxy
        would answer 502. Bounded in time, in silence and in number."""
        if self.worker.lingering >= MAX_LINGERING:
            return
        self.worker.lingering += 1
        self.deadline = float("inf")
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self._discard(time.monotonic() + min(self._most, LINGER_SECONDS if most is None else most))
        except OSError:
            pass  # the client is gone, which is as good
        finally:
            self.worker.lingering -= 1

    def _discard(self, deadline: float) -> None:
        is_tcp = self.sock.family != socket.AF_UNIX
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(min(LINGER_IDLE_SECONDS, left))
            if is_tcp:
                data = self.sock.recv_into(_SCRATCH, len(_SCRATCH), socket.MSG_TRUNC)
            else:  # a Unix socket cannot drop bytes without copying them
                data = len(self.sock.recv(65536))
            if not data:
                return
            gevent.sleep(0)

    def _refuse_head(self, error: Exception) -> None:
        """A head that cannot be understood. The answer repeats nothing of it, nor does the log: it may hold a MAC."""
        status, reason = _face(error)
        self.worker.log.info("Malformed request head: %s", type(error).__name__)
        told = getattr(self.worker.wsgi, "head_refused", None)
        if told is not None:
            told()
        text = f"{reason}\n".encode()
        lines = (
            f"HTTP/1.1 {status} {reason}",
            "Connection: close",
            "Content-Type: text/plain; charset=utf-8",
            "X-Error-Code: bad-head",
            *self.worker.limits.error_headers,
            f"Content-Length: {len(text)}",
            "\r\n",
        )
        try:
            self.sock.sendall("\r\n".join(lines).encode() + text)
        except OSError:
            return  # nobody is there to read it
        self._linger()
