"""What commands sign: slots for PUT, and requests for a file that is there. What cannot be signed ends the command."""

import os
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import click

from hmacfs.cli.common import USAGE_ERROR, fail, secret_of, secrets_of
from hmacfs.core import links, paths
from hmacfs.core.links import Slot
from hmacfs.core.paths import SlotPath
from hmacfs.core.signature import Protocol
from hmacfs.errors import BadPath
from hmacfs.settings import Settings
from hmacfs.units import DURATION_FORM, parse_duration

LINK_SECONDS = 3600
"""How long a signature with a time holds where nobody says."""


class _Seconds(click.ParamType[int]):
    """A duration as configuration files spell it."""

    name = "duration"

    def convert(self, value: Any, _param: click.Parameter | None, _context: click.Context | None) -> int:
        try:
            seconds = parse_duration(str(value))
        except ValueError:
            seconds = 0
        if seconds <= 0:
            self.fail(f"{value!r} is not more than 0 {DURATION_FORM}.")
        return seconds


def expires_option(meaning: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--expires DURATION, None where it is absent."""
    return click.option("--expires", type=_Seconds(), metavar="DURATION", help=meaning)


def put_slot(
    settings: Settings, path: SlotPath, size: int, content_type: str, protocol: Protocol, expires: int | None
) -> Slot:
    """A slot of this server. Its ``get_target`` is signed where downloads have to be.

    Args:
        expires: seconds from now, for ``v3``.
    """
    if protocol is Protocol.V3:
        _refuse_without_v3(settings)
    key, until = secret_of(settings).encode(), _until(expires)
    slot = links.slot(key, path, size, content_type, protocol, settings.upload_sub_dir, until)
    if not settings.require_signed_downloads:
        return slot
    return Slot(slot.put_target, links.access(key, path, "GET", settings.upload_sub_dir, until))


def read_target(settings: Settings, path: SlotPath, expires: int) -> str:
    """A signed request target for GET. Args: expires: seconds from now."""
    _refuse_without_v3(settings)
    return links.access(secret_of(settings).encode(), path, "GET", settings.upload_sub_dir, _until(expires))


def delete_target(settings: Settings, path: SlotPath, expires: int | None) -> str | None:
    """A signed request target for DELETE; None where the server takes none. Args: expires: seconds from now."""
    secrets = secrets_of(settings)
    key = secrets.secret.encode()
    if settings.enable_v3:
        return links.access(key, path, "DELETE", settings.upload_sub_dir, _until(expires))
    return links.deletion(key, path, secrets.delete.encode(), settings.upload_sub_dir) if secrets.delete else None


def path_of(settings: Settings, text: str, base_path: str = "") -> SlotPath:
    """The path that a person names: by a link that ``hmacfs put`` printed, or as ``hmacfs sign`` takes it.

    Args:
        base_path: what stands before the URL prefix in links (BaseURL).
    """
    raw: bytes | None = os.fsencode(text)
    if text.startswith(("http://", "https://")):
        url_path = urlsplit(text).path.removeprefix(base_path)
        raw = paths.under_prefix(unquote_to_bytes(url_path), settings.upload_sub_dir)
    if raw is None:
        fail(f"{text!r} is not a link below UploadSubDir.", status=USAGE_ERROR)
    try:
        return paths.parse(raw)
    except BadPath as error:
        fail(f"{text!r} cannot be a path: {error.detail}.", status=USAGE_ERROR)


def _until(expires: int | None) -> int:
    return int(time.time()) + (LINK_SECONDS if expires is None else expires)


def _refuse_without_v3(settings: Settings) -> None:
    if not settings.enable_v3:
        fail("The server does not take v3 signatures: set EnableV3 = true.", status=USAGE_ERROR)
