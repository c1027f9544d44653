"""hmacfs serve: the server in the foreground."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import click

from hmacfs import boot
from hmacfs.cli.common import config_errors_told, config_option, load, public_url
from hmacfs.errors import ConfigError
from hmacfs.server.master import Master
from hmacfs.settings import Settings


@click.command()
@config_option
@config_errors_told
def serve(config_path: str | None) -> None:
    """Serve uploads and downloads until told to stop.

    SIGTERM and Ctrl-C let running transfers finish, a second Ctrl-C stops at once; SIGHUP reads the configuration
    again, SIGUSR1 reopens the log.
    """
    load(config_path)
    options = boot.gunicorn_options(_announce)  # once here, so that a wrong configuration is one line and no traceback
    first = [options]
    Master(lambda: first.pop() if first else boot.gunicorn_options(_announce), _application).run()


def _application() -> Any:
    from hmacfs.app import create_app_from_environment  # in the worker, after gevent has patched it

    try:
        return create_app_from_environment()
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(4)  # gunicorn's "the application cannot be loaded": do not start it again and again


def _announce(settings: Settings, _addresses: Sequence[str]) -> None:
    """What a person who has just started the server wants to know. No signed URL: this may be a journal."""
    if settings.log_format == "json" and not settings.log_file:
        return  # a program reads standard output, an object from each line
    script = os.path.join(os.path.dirname(sys.executable), "hmacfs")
    command = (script,) if os.path.exists(script) else (sys.executable, "-m", "hmacfs.cli.main")
    config = os.environ["HMACFS_CONFIG"]
    example = os.path.join(os.path.dirname(config), "README.md")
    example = example if os.path.exists(example) else "/etc/os-release"
    line = shlex.join((*command, "put", "--config", config, example))
    prefix = f"/{settings.upload_sub_dir}/" if settings.upload_sub_dir else "/"
    click.echo(f"\n  Links begin with  {public_url(settings)}{prefix}")
    click.echo(f"  Files go to       {settings.store_dir}")
    click.echo(f"  Try it with       {line}\n")
    sys.stdout.flush()
