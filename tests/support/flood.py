"""Traffic from processes of its own, and pings beside it: a busy client must not slow down the one that measures.

Run as a module it sends a request head from standard input and a body of zeros, all of it whatever the server says,
and prints what it read.
"""

import socket
import subprocess
import sys
import threading
import time

from tests.support.http import TIMEOUT, Connection, Site, head_of
from tests.support.server import ROOT

_BLOCK = bytes(1024 * 1024)


def flood(site: Site, head: bytes, size: int) -> bytes:
    """Send ``head`` and ``size`` zeros from another process; the answer."""
    assert not isinstance(site.address, str)
    host, port = site.address
    command = [sys.executable, "-m", "tests.support.flood", host, str(port), str(size)]
    return subprocess.run(command, cwd=ROOT, input=head, stdout=subprocess.PIPE, timeout=120, check=True).stdout


class Pings:
    """``with Pings(site) as pings:`` asks again and again on one connection, and keeps the seconds of each round."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.seconds: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Pings":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(TIMEOUT)

    def quantile(self, share: float) -> float:
        assert len(self.seconds) >= 20, "too few pings to judge"
        return sorted(self.seconds)[int(len(self.seconds) * share)]

    def _run(self) -> None:
        head = head_of("OPTIONS", self._site.prefix, [("Connection", "keep-alive")])
        with Connection(self._site.address) as connection:
            while not self._ended.wait(0.002):
                started = time.perf_counter()
                connection.send(head)
                assert connection.read_answer().status == 204
                self.seconds.append(time.perf_counter() - started)


def _main(host: str, port: str, size: str) -> None:
    head = sys.stdin.buffer.read()
    left = int(size)
    with socket.create_connection((host, int(port)), TIMEOUT) as sock:
        sock.sendall(head)
        try:
            while left > 0:
                sock.sendall(_BLOCK[:left])
                left -= len(_BLOCK)
        except OSError as error:
            print(f"while sending: {error!r}")
        try:
            while data := sock.recv(65536):
                sys.stdout.buffer.write(data)
        except OSError as error:
            print(f"while reading: {error!r}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
