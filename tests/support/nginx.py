"""A real nginx in front of a server of ours, with a configuration made for the test."""

import itertools
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.support.ending import end
from tests.support.http import Connection, head_of
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.skipping import skip_or_fail

_numbers = itertools.count()


@dataclass(frozen=True)
class Mode:
    """How nginx hands a request on. Args: version: HTTP to the server. buffered: it collects the body first."""

    version: str
    buffered: bool

    def __str__(self) -> str:
        return f"{self.version}-{'buffered' if self.buffered else 'unbuffered'}"


MODES = [Mode("1.0", True), Mode("1.1", True), Mode("1.1", False), Mode("1.0", False)]
STREAMING = Mode("1.1", False)
"""What our documentation recommends."""


class Nginx:
    """``with Nginx(server) as proxy:``; in tests it can stand in the place of its server.

    Args:
        internal: the location that X-Accel-Redirect points to, "/stored/"; it serves the store. Empty for none.
    """

    def __init__(self, server: Server, mode: Mode = STREAMING, *, internal: str = "") -> None:
        self.server = server
        self.address = ("127.0.0.1", free_port())
        self.prefix = server.prefix
        self.secret = server.secret
        self._folder = server.folder / f"nginx-{next(_numbers)}"
        self._mode = mode
        self._internal = internal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    @property
    def log(self) -> Path:
        return self._folder / "error.log"

    def __enter__(self) -> "Nginx":
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            skip_or_fail("nginx is not installed")
        self._folder.mkdir()
        configuration = self._folder / "nginx.conf"
        configuration.write_text(self._configuration(), encoding="utf-8")
        command = [program, "-p", str(self._folder), "-e", str(self.log), "-c", str(configuration)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(self._answers, "nginx answers")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        end(self._process, signal.SIGTERM)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"nginx ended:\n{self.log.read_text(encoding='utf-8')}"
        try:
            with Connection(self.address, timeout=5) as connection:
                connection.send(head_of("OPTIONS", self.prefix))
                return connection.read_answer().status == 204
        except (OSError, EOFError):
            return False

    def _configuration(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"    {kind}_temp_path {self._folder}/{kind};" for kind in kinds)
        keepalive = "keepalive 32;" if self._mode.version == "1.1" else ""
        # One process, which runs as we do and so can read the store
        return f"""
daemon off;
master_process off;
pid {self._folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
{temporary}
    upstream hmacfs {{
        server 127.0.0.1:{self.server.port};
        {keepalive}
    }}
    server {{
        listen 127.0.0.1:{self.address[1]};
        client_max_body_size 0;
        merge_slashes off;
        location {self.prefix} {{
            proxy_pass http://hmacfs;
            proxy_http_version {self._mode.version};
            proxy_set_header Connection "{"" if self._mode.version == "1.1" else "close"}";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering {"on" if self._mode.buffered else "off"};
        }}
        {self._internal_location()}
    }}
}}
"""

    def _internal_location(self) -> str:
        if not self._internal:
            return ""
        return f"location {self._internal} {{ internal; alias {self.server.store_dir}/; }}"
