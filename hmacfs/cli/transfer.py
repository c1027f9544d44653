"""hmacfs put and hmacfs get: plain transfers from the command line."""

import http.client
import os
import socket
import ssl
import sys
import uuid
from typing import IO
from urllib.parse import quote, unquote, urlsplit

import click

from hmacfs import __version__
from hmacfs.cli.common import (
    USAGE_ERROR,
    config_errors_told,
    config_option,
    content_type_of,
    fail,
    public_url,
    secret_of,
    settings_of,
    size_of,
)
from hmacfs.core import contenttype, links, paths
from hmacfs.core.signature import Protocol
from hmacfs.errors import BadPath
from hmacfs.settings import Settings

_TIMEOUT = 900.0
_BLOCK = 1024 * 1024
_AGENT = {"User-Agent": f"hmacfs/{__version__}"}


class _UnixConnection(http.client.HTTPConnection):
    """Args: path: of the server's Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT, blocksize=_BLOCK)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


@click.command()
@config_option
@click.option("--name", help="Name for the link, instead of the file's own.")
@click.option("--type", "content_type", help="Content type, instead of the one that the name suggests.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@config_errors_told
def put(config_path: str | None, name: str | None, content_type: str | None, file: str) -> None:
    """Upload FILE and print its link."""
    settings = settings_of(config_path)
    name = name or os.path.basename(file)
    content_type = content_type_of(content_type or contenttype.by_extension(name))
    size = size_of(file)
    try:
        path = paths.parse(b"%s/%s" % (str(uuid.uuid4()).encode(), os.fsencode(name)))
    except BadPath as error:
        fail(f"{name!r} cannot be a name: {error.detail}. Choose another with --name.", status=USAGE_ERROR)
    with open(file, "rb") as body:
        key = secret_of(settings).encode()
        slot = links.slot(key, path, size, content_type, Protocol.V2, settings.upload_sub_dir)
        headers = {**_AGENT, "Content-Type": content_type, "Content-Length": str(size)}
        base = urlsplit(public_url(settings))
        connection = _connection(settings, base.scheme, base.netloc)
        answer = _sent(connection, "PUT", base.path + slot.put_target, body, headers)
    if answer.status != http.client.CREATED:
        _refused("upload", answer)
    click.echo(public_url(settings) + slot.get_target)


@click.command()
@click.option("--output", "-o", "output", metavar="FILE", help="Where to write; - is standard output.")
@click.argument("url")
def get(output: str | None, url: str) -> None:
    """Download URL into a file named after its last part. An existing file is never replaced."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.netloc.isascii()
        connection = _connection(None, parts.scheme, parts.netloc) if is_url else None
    except (ValueError, http.client.InvalidURL):
        connection = None
    if connection is None:
        fail(f"{url!r} is not an http or https URL.", status=USAGE_ERROR)
    # As browsers show a URL it may hold letters and spaces that have to be encoded; what is encoded already stays.
    target = quote(parts.path + (f"?{parts.query}" if parts.query else ""), safe="/%:@!$&'()*+,;=?~-._")
    answer = _sent(connection, "GET", target or "/", None, dict(_AGENT))
    if answer.status != http.client.OK:
        _refused("download", answer)
    name = output or os.path.basename(unquote(parts.path)) or "download"
    if name == "-":
        _copy(answer, sys.stdout.buffer)
        return
    try:
        file = open(name, "xb")  # noqa: SIM115 - closed below, and removed when the copy fails
    except FileExistsError:
        fail(f"{name} exists already. Choose another name with --output.")
    except OSError as error:
        fail(f"{name} cannot be written ({error.strerror}).")
    try:
        with file:
            _copy(answer, file)
    except BaseException:
        os.unlink(name)
        raise
    click.echo(name)


def _connection(settings: Settings | None, scheme: str, netloc: str) -> http.client.HTTPConnection:
    if settings is not None and settings.listen_port.path and not settings.base_url:
        return _UnixConnection(settings.listen_port.path)
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(netloc, timeout=_TIMEOUT, blocksize=_BLOCK, context=context)
    return http.client.HTTPConnection(netloc, timeout=_TIMEOUT, blocksize=_BLOCK)


def _sent(
    connection: http.client.HTTPConnection, method: str, target: str, body: IO[bytes] | None, headers: dict[str, str]
) -> http.client.HTTPResponse:
    """The answer; also when the server refused before it had read the whole body."""
    try:
        try:
            connection.request(method, target, body=body, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the refusal is waiting to be read
        return connection.getresponse()
    except ConnectionRefusedError:
        fail(f"nobody listens at {connection.host}:{connection.port}. Is the server running?")
    except (OSError, http.client.HTTPException) as error:
        fail(f"the connection to {connection.host} failed: {_printable(str(error)) or type(error).__name__}.")


def _refused(what: str, answer: http.client.HTTPResponse) -> None:
    sentence = answer.read(1000).decode("utf-8", "replace").strip().partition("\n")[0]
    code = answer.getheader("X-Error-Code")
    told = f"{answer.status} {answer.reason}. {sentence}" + (f" ({code})" if code else "")
    fail(f"the {what} was refused: {_printable(told)}")


def _printable(text: str) -> str:
    """The other side's words must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _copy(answer: http.client.HTTPResponse, file: IO[bytes]) -> None:
    try:
        while block := answer.read(_BLOCK):
            file.write(block)
    except (OSError, http.client.HTTPException) as error:
        fail(f"the download broke off: {error or type(error).__name__}.")
    if answer.length:  # http.client ends quietly when the connection is cut
        fail(f"the download broke off: {answer.length} bytes are missing.")
