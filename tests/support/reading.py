"""Our worker with an application that reads any body as an upload is read, and tells what came.

``with Reading() as reading:`` runs it until the block ends. Run as a module it is the server: host and port, then the
seconds of a drain. The request header X-Wanted bounds how many bytes it reads.
"""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from tests.support.ending import end
from tests.support.http import Connection, head_of
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import ROOT

SILENCE_SECONDS = 2.0


class Reading:
    """Args: drain: seconds that running transfers have after SIGTERM."""

    prefix = "/"
    secret = ""

    def __init__(self, drain: float = 30.0) -> None:
        self.address: tuple[str, int] = ("127.0.0.1", free_port())
        self._drain = drain
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> "Reading":
        host, port = self.address
        command = [sys.executable, "-m", "tests.support.reading", host, str(port), str(self._drain)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        try:
            until(self._answers, "the server answers")
        except BaseException:
            end(self.process, signal.SIGTERM)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end(self.process, signal.SIGTERM)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
        try:
            with Connection(self.address, timeout=0.5) as connection:
                connection.send(head_of("OPTIONS", "/"))
                return connection.read_answer().status == 204
        except (OSError, EOFError):
            return False


def _read(environ: dict[str, Any]) -> tuple[int, str]:
    """Bytes that came, and their SHA-256. Raises RequestError."""
    from hmacfs.errors import BodyTimeout
    from hmacfs.web.body import StreamBody

    body = StreamBody(environ["wsgi.input"])
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(256 * 1024))
    count, wanted = 0, int(environ.get("HTTP_X_WANTED", sys.maxsize))
    while count < wanted:
        filled = body.read_into(buffer[: wanted - count])
        if filled is None:
            if not body.wait(SILENCE_SECONDS):
                raise BodyTimeout("silence")
        elif not filled:
            break
        else:
            digest.update(buffer[:filled])
            count += filled
    return count, digest.hexdigest()


def _application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    from hmacfs.errors import RequestError

    if environ["REQUEST_METHOD"] == "OPTIONS":
        start_response("204 No Content", [])
        return []
    try:
        status, code, text = 200, "", "{} {}".format(*_read(environ))
    except RequestError as error:
        status, code, text = error.status, error.code, ""
    start_response(f"{status} X", [("Content-Length", str(len(text))), ("X-Error-Code", code)])
    return [text.encode()]


def _main(host: str, port: str, drain: str) -> None:
    from hmacfs.server.master import Master
    from hmacfs.server.worker import WorkerLimits, worker_class

    options = {
        "bind": f"{host}:{port}",
        "worker_class": worker_class(WorkerLimits(drain=float(drain)), None),
        "graceful_timeout": int(float(drain)) + 5,
        "control_socket_disable": True,
        "http_parser": "python",
        "loglevel": "error",
    }
    Master(lambda: options, lambda: _application).run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
