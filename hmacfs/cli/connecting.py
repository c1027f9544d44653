"""Connections of ``hmacfs put`` and ``hmacfs get``, and what they say when one fails or is refused."""

import http.client
import socket
import ssl
from dataclasses import dataclass

from hmacfs import __version__
from hmacfs.cli.common import reachable
from hmacfs.settings import Settings
from hmacfs.units import Address

TIMEOUT = 900.0
"""Seconds of silence, as the server's own ReadTimeout and WriteTimeout are by default."""

BLOCK = 1024 * 1024
AGENT = {"User-Agent": f"hmacfs/{__version__}"}


class _UnixConnection(http.client.HTTPConnection):
    """Args: path: of the server's Unix socket. seconds: of silence."""

    def __init__(self, path: str, seconds: float = TIMEOUT) -> None:
        super().__init__("localhost", timeout=seconds, blocksize=BLOCK)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclass(frozen=True)
class Trouble:
    """Why a connection failed.

    Attributes:
        sentence: for people.
        may_pass: the next attempt may find the server back.
    """

    sentence: str
    may_pass: bool


def connection(settings: Settings | None, scheme: str, netloc: str) -> http.client.HTTPConnection:
    """A connection that is made with its first request.

    Args:
        settings: of the server, for what is sent to its own ListenPort; None for any URL.

    Raises:
        http.client.InvalidURL: the port is no number.
    """
    if settings is not None and settings.listen_port.path and not settings.base_url:
        return _UnixConnection(settings.listen_port.path)
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(netloc, timeout=TIMEOUT, blocksize=BLOCK, context=context)
    return http.client.HTTPConnection(netloc, timeout=TIMEOUT, blocksize=BLOCK)


def connection_to(address: Address, seconds: float) -> http.client.HTTPConnection:
    """Likewise, to a server of this machine.

    Args:
        address: that it listens on.
        seconds: of silence after which it counts as dead.
    """
    if address.path:
        return _UnixConnection(address.path, seconds)
    return http.client.HTTPConnection(reachable(address), timeout=seconds)


def trouble(connection: http.client.HTTPConnection, error: OSError | http.client.HTTPException) -> Trouble:
    """What to say about an error of a connection, and whether trying again can help."""
    path = connection.path if isinstance(connection, _UnixConnection) else ""
    if isinstance(error, ConnectionRefusedError) or (path and isinstance(error, FileNotFoundError)):
        place = path or f"{connection.host}:{connection.port}"
        return Trouble(f"nobody listens at {place}. Is the server running?", may_pass=True)
    told = printable(str(error)) or type(error).__name__
    return Trouble(f"the connection to {path or connection.host} failed: {told}.", may_pass=_may_pass(error))


def _may_pass(error: OSError | http.client.HTTPException) -> bool:
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN  # any other answer says that there is no such name
    if isinstance(error, ssl.SSLCertVerificationError | PermissionError):
        return False
    return isinstance(error, OSError | http.client.IncompleteRead)  # what else HTTPException says: it speaks no HTTP


def refusal(response: http.client.HTTPResponse) -> str:
    """The status, the first line of the body and the error code of a refusal, for people."""
    sentence = response.read(1000).decode("utf-8", "replace").strip().partition("\n")[0]
    code = response.getheader("X-Error-Code")
    return printable(f"{response.status} {response.reason}. {sentence}" + (f" ({code})" if code else ""))


def printable(text: str) -> str:
    """The other side's words must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
