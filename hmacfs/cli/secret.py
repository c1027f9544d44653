"""hmacfs secret: the secret, for the XMPP server's configuration."""

import sys

import click

from hmacfs.cli.common import config_errors_told, config_option, secret_of, settings_of
from hmacfs.storage import secretfile


@click.command()
@config_option
@click.option("--new", is_flag=True, help="Print a fresh secret instead; nothing is stored.")
@config_errors_told
def secret(config_path: str | None, new: bool) -> None:
    """Print the secret that signs uploads, to be put into the XMPP server's configuration.

    With --new a fresh one is printed, to be set as Secret here and in the XMPP server's configuration.
    """
    text = secretfile.new_secret() if new else secret_of(settings_of(config_path))
    click.echo(text)
    if new and sys.stdout.isatty():
        click.echo('Set it as Secret = "..." in config.toml and in the XMPP server, then restart both.', err=True)
