"""hmacfs put and hmacfs get: transfers from the command line."""

import contextlib
import http.client
import os
import sys
import time
import uuid
from typing import IO
from urllib.parse import quote, unquote, urlsplit

import click

from hmacfs import units
from hmacfs.cli import connecting
from hmacfs.cli.common import (
    USAGE_ERROR,
    config_errors_told,
    config_option,
    content_type_of,
    fail,
    public_url,
    settings_of,
    size_of,
)
from hmacfs.cli.connecting import connection
from hmacfs.cli.sending import Sender
from hmacfs.cli.signing import expires_option, path_of, put_slot, read_target
from hmacfs.core import contenttype, paths
from hmacfs.core.retry import Schedule
from hmacfs.core.signature import Protocol
from hmacfs.errors import BadPath


class _Progress:
    """One line on a terminal that tells how far an upload got; nothing anywhere else."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_shown = sys.stderr.isatty()
        self._due = 0.0

    def moved(self, place: int) -> None:
        """``place`` bytes are on their way or arrived."""
        now = time.monotonic()
        if self._is_shown and now >= self._due:
            self._due = now + 0.2
            share = place * 100 // max(1, self._total)
            self._write(f"{share} % of {units.shown_size(self._total)}")

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self.close()
        click.echo(f"hmacfs: {sentence}", err=True)

    def close(self) -> None:
        """The line goes."""
        if self._is_shown:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


@click.command()
@config_option
@click.option("--name", help="Name for the link, instead of the file's own.")
@click.option("--type", "content_type", help="Content type, instead of the one that the name suggests.")
@expires_option("Sign with v3, for so long.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@config_errors_told
def put(config_path: str | None, name: str | None, content_type: str | None, expires: int | None, file: str) -> None:
    """Upload FILE and print its link, which is signed (for --expires, else an hour) with RequireSignedDownloads.

    When the connection breaks or the server is busy it is tried again (MaxRetries, RetryDelay), from where the server
    stopped where the server can do that.
    """
    settings = settings_of(config_path)
    name = name or os.path.basename(file)
    content_type = content_type_of(content_type or contenttype.by_extension(name))
    size = size_of(file)
    try:
        path = paths.parse(b"%s/%s" % (str(uuid.uuid4()).encode(), os.fsencode(name)))
    except BadPath as error:
        fail(f"{name!r} cannot be a name: {error.detail}. Choose another with --name.", status=USAGE_ERROR)
    protocol = Protocol.V2 if expires is None else Protocol.V3
    slot = put_slot(settings, path, size, content_type, protocol, expires)
    base = urlsplit(public_url(settings))
    progress = _Progress(size)
    with open(file, "rb") as body, contextlib.closing(progress):
        Sender(
            lambda: connection(settings, base.scheme, base.netloc),
            base.path + slot.put_target,
            base.path + slot.get_target,
            body,
            size,
            content_type,
            Schedule(settings.max_retries, settings.retry_delay),
            progress.say,
            progress.moved,
        ).run()
    click.echo(public_url(settings) + slot.get_target)


@click.command()
@config_option
@click.option("--output", "-o", "output", metavar="FILE", help="Where to write; - is standard output.")
@expires_option("Sign the download with v3, for so long, with the secret of the configuration.")
@click.argument("url")
@config_errors_told
def get(config_path: str | None, output: str | None, expires: int | None, url: str) -> None:
    """Download URL into a file named after its last part. An existing file is never replaced.

    The configuration is read with --expires only.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.netloc.isascii()
        opened = connection(None, parts.scheme, parts.netloc) if is_url else None
    except (ValueError, http.client.InvalidURL):
        opened = None
    if opened is None:
        fail(f"{url!r} is not an http or https URL.", status=USAGE_ERROR)
    # As browsers show a URL it may hold letters and spaces that have to be encoded; what is encoded already stays.
    target = quote(parts.path + (f"?{parts.query}" if parts.query else ""), safe="/%:@!$&'()*+,;=?~-._")
    if expires is not None:
        settings = settings_of(config_path)
        base_path = urlsplit(settings.base_url).path.rstrip("/")
        before = base_path if parts.path.startswith(f"{base_path}/") else ""
        target = before + read_target(settings, path_of(settings, url, before), expires)
    answer = _answer(opened, target or "/")
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


def _answer(connection: http.client.HTTPConnection, target: str) -> http.client.HTTPResponse:
    """The answer to a GET that was not refused."""
    try:
        connection.request("GET", target, headers=connecting.AGENT)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            fail(f"the download was refused: {connecting.refusal(answer)}")
        return answer
    except (OSError, http.client.HTTPException) as error:
        fail(connecting.trouble(connection, error).sentence)


def _copy(answer: http.client.HTTPResponse, file: IO[bytes]) -> None:
    try:
        while block := answer.read(connecting.BLOCK):
            file.write(block)
    except (OSError, http.client.HTTPException) as error:
        fail(f"the download broke off: {error or type(error).__name__}.")
    if answer.length:  # http.client ends quietly when the connection is cut
        fail(f"the download broke off: {answer.length} bytes are missing.")
