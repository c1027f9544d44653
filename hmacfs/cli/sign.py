"""hmacfs sign: ready curl lines for a slot, for scripts and for finding out why a signature fails."""

import os
import shlex

import click

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
from hmacfs.core import links, paths, signature
from hmacfs.core.signature import Protocol
from hmacfs.errors import BadPath


@click.command()
@config_option
@click.option("--protocol", type=click.Choice([p.value for p in Protocol]), default="v2", show_default=True)
@click.option(
    "--file", "file_name", type=click.Path(exists=True, dir_okay=False), help="File to be sent; tells the size."
)
@click.option("--size", type=click.IntRange(min=0), help="Bytes of the file, where there is none at hand.")
@click.option(
    "--type", "content_type", default=signature.DEFAULT_TYPE, show_default=True, help="Content-Type to be sent."
)
@click.argument("path")
@config_errors_told
def sign(
    config_path: str | None, protocol: str, file_name: str | None, size: int | None, content_type: str, path: str
) -> None:
    """Print curl lines that put a file at PATH and fetch it again.

    PATH is what follows the URL prefix, not percent-encoded: "folder/My picture.jpg".
    """
    if (file_name is None) == (size is None):
        fail("Give either --file or --size.", status=USAGE_ERROR)
    settings = settings_of(config_path)
    try:
        slot_path = paths.parse(os.fsencode(path))
    except BadPath as error:
        fail(f"{path!r} cannot be a path: {error.detail}.", status=USAGE_ERROR)
    total = size if size is not None else size_of(str(file_name))
    content_type = content_type_of(content_type)
    chosen = Protocol(protocol)
    slot = links.slot(secret_of(settings).encode(), slot_path, total, content_type, chosen, settings.upload_sub_dir)
    socket = ("--unix-socket", settings.listen_port.path) if settings.listen_port.path and not settings.base_url else ()
    base = public_url(settings)
    header = f"Content-Type: {content_type}"
    click.echo(
        shlex.join(
            (
                "curl",
                "--fail-with-body",
                "--globoff",
                *socket,
                "-T",
                file_name or "FILE",
                "-H",
                header,
                base + slot.put_target,
            )
        )
    )
    click.echo(shlex.join(("curl", "--fail", "--globoff", *socket, "-o", slot_path.name, base + slot.get_target)))
