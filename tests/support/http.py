"""HTTP on a raw socket, and signatures made with hmac and hashlib alone.

Nothing here comes from the server's own code: what both sides get wrong would otherwise look right. What is handed out
here, and every body that is no file, is told to the search for leaks.
"""

import hashlib
import hmac
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol
from urllib.parse import quote

from tests.support import leaks

TIMEOUT = 30.0
MIB = 1024 * 1024
DEFAULT_TYPE = "application/octet-stream"

Headers = Sequence[tuple[str, str]]


class Site(Protocol):
    """Whom to talk to: ``address`` is (host, port) or the path of a Unix socket."""

    @property
    def address(self) -> tuple[str, int] | str: ...
    @property
    def prefix(self) -> str:
        """ "/upload/", with a slash at both ends."""

    @property
    def secret(self) -> str: ...


@dataclass
class Answer:
    """One response as it came over the wire."""

    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The one value of ``name``, None where it is absent; a repeated header is an error."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands there {len(values)} times"
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"no {name} in {self.headers}"
        return value

    @property
    def code(self) -> str | None:
        return self.get("X-Error-Code")


class Connection:
    """One connection; a context manager. Args: source: our own address, one of 127.0.0.0/8; empty for any."""

    def __init__(self, address: tuple[str, int] | str, timeout: float = TIMEOUT, *, source: str = "") -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout)
            try:
                self.sock.connect(address)
            except OSError:
                self.sock.close()
                raise
        else:
            self.sock = socket.create_connection(address, timeout, (source, 0) if source else None)
        self._rest = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes | memoryview) -> None:
        self.sock.sendall(data)

    def send_all_or_until_refused(self, head: bytes, body: bytes) -> None:
        """Send a request; a server that refuses it may stop listening in the middle, its answer can be read then."""
        self.send(head)
        try:
            if body:
                self.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def half_close(self) -> None:
        """FIN: nothing more will be sent, the answer can still be read."""
        self.sock.shutdown(socket.SHUT_WR)

    def read_head(self) -> Answer:
        """Status and headers of the next response, interim ones too. EOFError when the server closed first."""
        while b"\r\n\r\n" not in self._rest:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"closed after {self._rest!r}")
            self._rest += data
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon
            assert name == name.strip()
            headers.append((name, value.strip()))
        leaks.exchanged(headers)
        return Answer(int(status), reason, headers)

    def blocks(self, length: int) -> Iterator[bytes]:
        """The next ``length`` bytes, as they come."""
        if length and self._rest:
            block, self._rest = self._rest[:length], self._rest[length:]
            length -= len(block)
            yield block
        while length:
            block = self.sock.recv(min(length, MIB))
            if not block:
                raise EOFError(f"closed {length} bytes before the end of the body")
            length -= len(block)
            yield block

    def read_answer(self, *, bodiless: bool = False) -> Answer:
        """One whole response. Args: bodiless: it answers a HEAD."""
        answer = self.read_head()
        if bodiless or answer.status in (204, 304):
            return answer
        assert answer.get("Transfer-Encoding") is None, "every answer of this server knows its length"
        answer.body = b"".join(self.blocks(int(answer["Content-Length"])))
        if answer.status >= 400:
            leaks.wrote(f"the body of a {answer.status}", answer.body)
        return answer

    def read_to_end(self) -> bytes:
        """Everything until the server closes."""
        data, self._rest = [self._rest], b""
        while block := self.sock.recv(MIB):
            data.append(block)
        whole = b"".join(data)
        if whole.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            leaks.wrote("the body of a refusal", whole.partition(b"\r\n\r\n")[2])
        return whole


def head_of(method: str, target: str | bytes, headers: Headers = ()) -> bytes:
    """The bytes of a request head. Host is added, Connection: close too unless Connection is given."""
    target = target.encode("latin-1") if isinstance(target, str) else target
    lines = [("Host", "upload.example"), *headers]
    if not any(name.lower() == "connection" for name, _ in lines):
        lines.append(("Connection", "close"))
    leaks.exchanged(lines)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return method.encode() + b" " + target + b" HTTP/1.1\r\n" + text.encode("latin-1") + b"\r\n"


def request(site: Site, method: str, target: str | bytes, headers: Headers = (), body: bytes = b"") -> Answer:
    """Send one request on its own connection and read the answer."""
    with Connection(site.address) as connection:
        connection.send_all_or_until_refused(head_of(method, target, headers), body)
        return connection.read_answer(bodiless=method == "HEAD")


def mac(secret: str, message: bytes) -> str:
    digits = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    leaks.handed_out(leaks.Kind.MAC, digits)
    return digits


def sign_v(secret: str, path: bytes, size: int) -> str:
    """Prosody v1, ejabberd, prosody-filer."""
    return mac(secret, path + b" " + str(size).encode())


def sign_v2(secret: str, path: bytes, size: int, content_type: str) -> str:
    """Prosody v2; Metronome's token has the same message."""
    return mac(secret, b"\0".join((path, str(size).encode(), content_type.encode())))


def raw_path(path: str | bytes) -> bytes:
    return path.encode() if isinstance(path, str) else path


def url_of(site: Site, path: str | bytes) -> str:
    """The plain URL path of a stored path."""
    return site.prefix + quote(raw_path(path), safe="/")


def query_of(site: Site, path: str | bytes, size: int, content_type: str = "", protocol: str = "v2") -> str:
    """The query that signs a PUT, "v2=..." and so on."""
    raw = raw_path(path)
    if protocol == "v":
        return f"v={sign_v(site.secret, raw, size)}"
    return f"{protocol}={sign_v2(site.secret, raw, size, content_type or DEFAULT_TYPE)}"


def put_head(
    site: Site, path: str | bytes, size: int, content_type: str = "", protocol: str = "v2", headers: Headers = ()
) -> bytes:
    """The head of a correctly signed PUT; a Content-Type header only where ``content_type`` is not empty."""
    target = f"{url_of(site, path)}?{query_of(site, path, size, content_type, protocol)}"
    typed = [("Content-Type", content_type)] if content_type else []
    return head_of("PUT", target, [("Content-Length", str(size)), *typed, *headers])


def put(
    site: Site,
    path: str | bytes,
    body: bytes = b"",
    content_type: str = "",
    *,
    protocol: str = "v2",
    headers: Headers = (),
) -> Answer:
    """A correctly signed PUT of ``body``."""
    with Connection(site.address) as connection:
        connection.send_all_or_until_refused(put_head(site, path, len(body), content_type, protocol, headers), body)
        return connection.read_answer()


def get(site: Site, path: str | bytes, headers: Headers = (), *, method: str = "GET") -> Answer:
    """Fetch a stored path."""
    return request(site, method, url_of(site, path), headers)
