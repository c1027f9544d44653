"""hmacfs check: would this configuration serve? Nothing is made or changed."""

import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import replace

import click

from hmacfs import configfile
from hmacfs.cli.common import USAGE_ERROR, config_errors_told, config_option, fail, load
from hmacfs.errors import ConfigError
from hmacfs.settings import Settings
from hmacfs.storage import local, secretfile

_BUILD_SECONDS = 60


@click.command()
@config_option
@config_errors_told
def check(config_path: str | None) -> None:
    """Check the configuration and build the whole application with it, in a process of its own.

    Stricter than serve: unknown keys, and keys without effect in this version, are errors too.
    """
    loaded = load(config_path)
    problems = [f"{loaded.path}: {problem}" for problem in (*loaded.errors, *loaded.warnings)]
    if not problems:
        problems = _unwritable(loaded.settings) or _build_problems(loaded.path)
    if problems:
        fail(*problems, status=USAGE_ERROR)
    click.echo(f"{loaded.path}: OK")


def _unwritable(settings: Settings) -> list[str]:
    """Problems with folders that would be made or written at start, judged for the user who runs the check."""
    places = [("StoreDir", settings.store_dir), ("StateDir", settings.state_dir)]
    if settings.log_file:
        places.append(("LogFile", os.path.dirname(settings.log_file)))
    problems = []
    for key, place in places:
        existing = place
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        if not os.path.isdir(existing):
            problems.append(f"{key}: {existing} is not a directory.")
        elif not os.access(existing, os.W_OK | os.X_OK):
            problems.append(f"{key}: {existing} may not be written by this user. Change its owner, or {key}.")
        elif key == "LogFile" and existing != place:
            problems.append(f"LogFile: the folder {place} does not exist.")
    return problems


def _build_problems(path: str) -> list[str]:
    command = [sys.executable, "-m", "hmacfs.cli.check", path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return [f"{path}: building the application took longer than {_BUILD_SECONDS} s."]
    if done.returncode == 0:
        return []
    return done.stderr.strip().splitlines()[-20:] or [f"{path}: the application cannot be built."]


def build(path: str) -> None:
    """Build the application as a worker would, with stand-ins for what does not exist yet."""
    from hmacfs.app import create_app

    settings = configfile.usable(configfile.load(path))
    with tempfile.TemporaryDirectory() as folder:
        if not os.path.isdir(os.path.join(settings.store_dir, local.PRIVATE, "staging")):
            settings = replace(settings, store_dir=os.path.join(folder, "store"))
        if not settings.secret and not os.path.exists(secretfile.path_in(settings.state_dir)):
            settings = replace(settings, secret=secrets.token_hex(32))
        create_app(settings)


if __name__ == "__main__":
    try:
        build(sys.argv[1])
    except ConfigError as error:
        sys.exit(str(error))
