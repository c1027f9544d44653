"""The operations listener (MetricsPort): metrics and health apart from what the public reaches.

A second socket of the same workers, so that reload, drain and binary upgrade hold for it too. Which of several sockets
it is, is told by its place; nothing here knows what is answered there.
"""

import socket
from collections.abc import Mapping
from typing import Any

from hmacfs.errors import ConfigError
from hmacfs.server import listeners
from hmacfs.settings import Settings, operations_address
from hmacfs.units import Address

IN_ENVIRON = "hmacfs.operations"
"""In the environ of a request that came in where operations are answered. Only our own server sets it."""

MOST_CONNECTIONS = 64
"""Of all workers together, on a listener of its own: nobody who keeps them all busy takes anything from transfers."""

SECONDS = 10.0
"""How long a receiver may pause there, a head take, a refused body go on, and an idle connection stay open: places are
few."""


_ADVICE = (
    'Stop it, write another address, for example MetricsPort = "127.0.0.1:9091" where a second server runs on this '
    'machine, or MetricsPort = "" to serve metrics and health on ListenPort.'
)


def bind(settings: Settings) -> list[socket.socket]:
    """Listening sockets for MetricsPort; none where that is no listener of its own.

    Raises:
        ConfigError: one sentence that names the key and says what to do.
    """
    address = operations_address(settings)
    if address is None:
        return []
    return listeners.bind_to(address, "MetricsPort", _ADVICE, mode=settings.unix_socket_mode)


def check(settings: Settings) -> None:
    """Raises ConfigError for what ``bind`` would refuse whoever listens now: an unknown host or address."""
    address = operations_address(settings)
    if address is not None:
        listeners.check_address(address, "MetricsPort")


def among_inherited(settings: Settings, environ: Mapping[str, str]) -> frozenset[int]:
    """Places of the operations listener's sockets among those that somebody hands us (``listeners.are_inherited``).

    By address, where one is bound to MetricsPort. Else systemd's first socket is the main one, and every further one is
    for operations; an old master's are all for slots.

    Raises:
        ConfigError: nothing would be left for slots.
    """
    address = operations_address(settings)
    if address is None:
        return frozenset()
    names = listeners.inherited_names(environ)
    ours = [place for place, name in enumerate(names) if _has_port(address, name)]
    # The port alone tells where systemd's unit has another address than the configuration.
    fitting = frozenset([place for place in ours if _is(address, names[place])] or ours)
    if len(fitting) == len(names):
        raise ConfigError([f"MetricsPort: {address} is the only inherited socket, and none is left for ListenPort."])
    return fitting or (frozenset() if "GUNICORN_FD" in environ else frozenset(range(1, len(names))))


def _has_port(address: Address, name: Any) -> bool:
    if isinstance(name, str):
        return name == address.path
    return not address.path and bool(name[1] == address.port)


def _is(address: Address, name: Any) -> bool:
    """Whether a socket that ``_has_port`` listens on the very host: ListenPort may have the port on another one."""
    if isinstance(name, str):
        return True
    if not address.host:
        return name[0] in ("::", "0.0.0.0")  # noqa: S104 - what ":9090" was bound to
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return name[0] in {target[0] for *_, target in found}
