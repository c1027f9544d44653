"""hmacfs check: would this configuration serve? Nothing is made or changed."""

import importlib.util
import os

import click

from hmacfs import places, rehearsal
from hmacfs.cli.common import USAGE_ERROR, config_errors_told, config_option, fail, load
from hmacfs.server import listeners, operations
from hmacfs.settings import Settings


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
        listeners.check(loaded.settings)
        operations.check(loaded.settings)
        problems = places.problems(loaded.settings, loaded.path)
        problems += _unwritable(loaded.settings) + _missing_driver(loaded.settings)
        problems = problems or rehearsal.problems(loaded.path)
    if problems:
        fail(*problems, status=USAGE_ERROR)
    click.echo(f"{loaded.path}: OK")


def _missing_driver(settings: Settings) -> list[str]:
    """The one driver that is not always installed: it has to be compiled."""
    is_needed = settings.fallback_enabled and settings.fallback_db_type == "mysql"
    if is_needed and importlib.util.find_spec("MySQLdb") is None:
        return ['FallbackDBType = "mysql" needs mysqlclient, which is not here: install it with "hmacfs[mysql]".']
    return []


def _unwritable(settings: Settings) -> list[str]:
    """Problems with folders that would be made or written at start, judged for the user who runs the check."""
    folders = [("StoreDir", settings.store_dir), ("StateDir", settings.state_dir)]
    files = {"LogFile": settings.log_file, "AuditLog": settings.audit_log}
    folders += [(key, os.path.dirname(file)) for key, file in files.items() if file]
    problems = []
    for key, place in folders:
        if key in files and os.path.lexists(files[key]):
            problems += _closed(key, files[key])
            continue
        existing = place
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        if not os.path.isdir(existing):
            problems.append(f"{key}: {existing} is not a directory.")
        elif not os.access(existing, os.W_OK | os.X_OK):
            problems.append(f"{key}: {existing} may not be written by this user. Change its owner, or {key}.")
        elif key in files and existing != place:
            problems.append(f"{key}: the folder {place} does not exist.")
    return problems


def _closed(key: str, file: str) -> list[str]:
    """Why lines cannot be appended to a file that is there."""
    if os.path.isdir(file):
        return [f"{key}: {file} is a directory."]
    if os.path.exists(file) and not os.access(file, os.W_OK):
        return [f"{key}: {file} may not be written by this user. Change its owner, or {key}."]
    return []
