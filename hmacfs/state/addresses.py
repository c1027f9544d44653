"""Where a server of shared state is: what people write in RedisAddr and FallbackDBHost, as plain values.

Values may hold passwords, so no error says what was written.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

REDIS_FORM = "host:port, :port, redis://[user:password@]host:port/db, rediss://... or unix:///path/to/socket?db=0"
DATABASE_FORM = "host, host:port, [IPv6 address]:port or the path of a socket"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Attributes: password, database: None where the address does not say."""

    server: ServerAddress
    tls: bool = False
    user: str = ""
    password: str | None = field(default=None, repr=False)
    database: int | None = None


def _port(text: str, default: int, form: str) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ValueError(form)
    return int(text)


def parse_server(text: str, default_port: int, form: str = DATABASE_FORM) -> ServerAddress:
    """``text`` in one of the forms of DATABASE_FORM; nothing before the port means this machine.

    Raises:
        ValueError: which forms there are.
    """
    text = text.strip()
    if not text.isprintable():
        raise ValueError(form)
    if text.startswith("/"):
        return ServerAddress(path=text)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not (host and bracket) or (rest and not rest.startswith(":")):
            raise ValueError(form)
        return ServerAddress(host, _port(rest[1:], default_port, form))
    if not set(text).isdisjoint("/@ "):
        raise ValueError(form)
    if text.count(":") > 1:  # an IPv6 address without a port
        return ServerAddress(text, default_port)
    host, _, port = text.partition(":")
    return ServerAddress(host or "127.0.0.1", _port(port, default_port, form))


def parse_redis(text: str) -> RedisAddress:
    """``text`` in one of the forms of REDIS_FORM.

    Raises:
        ValueError: which forms there are.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        if parts.scheme == "unix":
            said = parse_qs(parts.query).get("db", [""])[0]
            path = unquote(parts.path)
            if not path.startswith("/"):
                raise ValueError
            return _redis(ServerAddress(path=path), False, parts.username, parts.password, said)
        if parts.scheme in ("redis", "rediss") and "://" in text:
            server = ServerAddress(parts.hostname or "127.0.0.1", parts.port or 6379)
            said = parts.path.strip("/")
            return _redis(server, parts.scheme == "rediss", parts.username, parts.password, said)
    except ValueError:
        raise ValueError(REDIS_FORM) from None
    if "://" in text:
        raise ValueError(REDIS_FORM)
    return RedisAddress(parse_server(text, 6379, REDIS_FORM))


def _redis(server: ServerAddress, tls: bool, user: str | None, password: str | None, database: str) -> RedisAddress:
    return RedisAddress(
        server,
        tls,
        unquote(user or ""),
        unquote(password) if password else None,
        int(database) if database else None,
    )
