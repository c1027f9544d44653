"""hmacfs config: the effective configuration and where each value came from."""

from typing import Any

import click
import toml

from hmacfs.cli.common import USAGE_ERROR, config_errors_told, config_option, fail, load
from hmacfs.kinds import MODE
from hmacfs.settings import Key, keys
from hmacfs.units import Address


@click.command()
@config_option
@click.option("--show", is_flag=True, default=True, help="Print it (the default).")
@config_errors_told
def config(config_path: str | None, show: bool) -> None:  # noqa: ARG001 - there is nothing else it could do
    """Print the effective configuration as TOML, with the source of each value; secrets are masked."""
    loaded = load(config_path)
    click.echo(f"# {loaded.path}")
    for key in keys():
        if key.works:
            value = getattr(loaded.settings, key.attribute)
            click.echo(f"{key.name} = {_shown(key, value)}  # {loaded.sources.get(key.name, 'default')}")
    for warning in loaded.warnings:
        click.echo(f"hmacfs: {warning}", err=True)
    if loaded.errors:
        fail(*(f"{loaded.path}: {error}" for error in loaded.errors), status=USAGE_ERROR)


def _shown(key: Key, value: Any) -> str:
    if key.secret:
        return '"(hidden)"' if value else '""'
    if key.kind is MODE:
        return f'"{value:04o}"'
    if value is None:
        return _toml(key.default)
    return _toml(str(value) if isinstance(value, Address) else list(value) if isinstance(value, tuple) else value)


def _toml(value: Any) -> str:
    return toml.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
