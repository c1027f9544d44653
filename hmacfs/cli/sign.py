"""hmacfs sign: ready curl lines for a slot, for scripts and for finding out why a signature fails."""

import shlex

import click

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
from hmacfs.cli.signing import delete_target, expires_option, path_of, put_slot
from hmacfs.core import signature
from hmacfs.core.signature import PLAIN, Protocol

_PROTOCOLS = [each.value for each in (Protocol.V3, *PLAIN)]


@click.command()
@config_option
@click.option("--protocol", type=click.Choice(_PROTOCOLS), help="v2, or v3 with --expires, where this is absent.")
@click.option(
    "--file", "file_name", type=click.Path(exists=True, dir_okay=False), help="File to be sent; tells the size."
)
@click.option("--size", type=click.IntRange(min=0), help="Bytes of the file, where there is none at hand.")
@click.option(
    "--type", "content_type", default=signature.DEFAULT_TYPE, show_default=True, help="Content-Type to be sent."
)
@expires_option("How long v3 signatures hold, an hour where this is absent.")
@click.argument("path")
@config_errors_told
def sign(
    config_path: str | None,
    protocol: str | None,
    file_name: str | None,
    size: int | None,
    content_type: str,
    expires: int | None,
    path: str,
) -> None:
    """Print curl lines that put a file at PATH and fetch it again; and one that deletes it, where the server does that.

    PATH is what follows the URL prefix, not percent-encoded: "folder/My picture.jpg".
    """
    if (file_name is None) == (size is None):
        fail("Give either --file or --size.", status=USAGE_ERROR)
    settings = settings_of(config_path)
    slot_path = path_of(settings, path)
    total = size if size is not None else size_of(str(file_name))
    content_type = content_type_of(content_type)
    chosen = Protocol(protocol or ("v2" if expires is None else "v3"))
    if expires is not None and chosen is not Protocol.V3:
        fail("Only v3 signatures expire: leave out --expires or --protocol.", status=USAGE_ERROR)
    slot = put_slot(settings, slot_path, total, content_type, chosen, expires)
    socket = ("--unix-socket", settings.listen_port.path) if settings.listen_port.path and not settings.base_url else ()
    base = public_url(settings)
    curl = ("curl", "--fail", "--globoff", *socket)
    upload = ("-T", file_name or "FILE", "-H", f"Content-Type: {content_type}", base + slot.put_target)
    click.echo(shlex.join(("curl", "--fail-with-body", "--globoff", *socket, *upload)))
    click.echo(shlex.join((*curl, "-o", slot_path.name, base + slot.get_target)))
    if (deletion := delete_target(settings, slot_path, expires)) is not None:
        click.echo(shlex.join((*curl, "-X", "DELETE", base + deletion)))
