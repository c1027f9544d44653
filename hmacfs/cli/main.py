"""The command line: one group, one file for each command or pair of commands."""

import click

from hmacfs import __version__
from hmacfs.cli.bans import bans
from hmacfs.cli.check import check
from hmacfs.cli.config import config
from hmacfs.cli.delete import delete
from hmacfs.cli.reindex import reindex
from hmacfs.cli.secret import secret
from hmacfs.cli.serve import serve
from hmacfs.cli.sign import sign
from hmacfs.cli.status import status
from hmacfs.cli.sweep import sweep
from hmacfs.cli.transfer import get, put
from hmacfs.cli.uploads import uploads


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hmacfs")
def main() -> None:
    """A file server for the upload links that XMPP servers sign."""


for command in (serve, check, config, secret, sign, put, get, delete, uploads, reindex, sweep, bans, status):
    main.add_command(command)


def serve_main() -> None:
    """The console script hmac-file-server: the name and the -config flag that existing units call."""
    serve.main(prog_name="hmac-file-server")


if __name__ == "__main__":
    main()
