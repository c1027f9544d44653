"""TCP ports for servers of tests, each given out once."""

import errno
import os
import random
import socket
from collections.abc import Iterator

_PORTS = range(12_000, 32_000)
"""Below those that the kernel gives to clients' connections, of which there are many beside a test."""

_PROCESSES = 8


def _shuffled() -> Iterator[int]:
    """Ports that tests of other processes do not take."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        ports = list(_PORTS[number % _PROCESSES :: _PROCESSES])
        random.shuffle(ports)
        yield from ports


_ports = _shuffled()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has at this moment, on whatever address. Raises OSError where there is no such host."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    """Whether a listening socket could have it on every address."""
    return _can_bind(socket.AF_INET, "0.0.0.0", port) and _can_bind(socket.AF_INET6, "::", port)


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # without IPv6 nobody has it there
    return True
