"""What every command needs: the --config option, settings or a clear refusal, one way to end with an error."""

import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hmacfs import configfile, secretring
from hmacfs.configfile import Loaded
from hmacfs.core import contenttype
from hmacfs.core.rotation import Secrets
from hmacfs.errors import BadHeader, ConfigError, StateUnavailable
from hmacfs.settings import Settings
from hmacfs.storage import secretfile
from hmacfs.telemetry import audit, logs
from hmacfs.units import Address

if TYPE_CHECKING:
    from hmacfs.state.failover import SharedState

USAGE_ERROR = 2

config_option = click.option(
    "--config",
    "-config",
    "config_path",
    metavar="PATH",
    help="Configuration file; HMACFS_CONFIG names it where this is absent, else ./config.toml.",
)


def fail(*lines: str, status: int = 1) -> NoReturn:
    """End with ``lines`` on standard error."""
    for line in lines:
        click.echo(f"hmacfs: {line}", err=True)
    sys.exit(status)


def config_errors_told(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turns ConfigError into one clear line for each problem and exit status 2."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            fail(*error.problems, status=USAGE_ERROR)

    return wrapper


def load(config_path: str | None) -> Loaded:
    """The loaded configuration. Also makes it the one that HMACFS_CONFIG names, for what we start."""
    loaded = configfile.load(config_path)
    os.environ["HMACFS_CONFIG"] = loaded.path
    return loaded


def settings_of(config_path: str | None) -> Settings:
    return configfile.usable(load(config_path))


@contextmanager
def shared_state(settings: Settings) -> "Iterator[SharedState]":
    """Shared state as the server has it. A command ends with one sentence where no tier of it can be used."""
    from hmacfs import tiers  # with all its drivers: only the commands that need them wait for these

    _refuse_root(settings)
    state = tiers.shared_state(settings)
    try:
        yield state
    except StateUnavailable:
        reasons = ", ".join(f"{name} is down ({reason})" for name, reason in state.serving().down.items())
        fail(f"no tier of shared state can be used: {reasons or 'none answers'}.")
    finally:
        state.stop()


def open_audit_log(settings: Settings) -> None:
    """What this command changes is told there from now on. Where it cannot be written the command goes on."""
    with _problems_told():
        audit.configure(settings.audit_log)


def open_log(settings: Settings) -> None:
    """The same for LogFile. Nothing where the server's log is its standard output: ours has another reader."""
    if settings.log_file:
        with _problems_told():
            logs.configure(settings.log_level, settings.log_file, settings.log_format)


@contextmanager
def _problems_told() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"hmacfs: {problem}", err=True)


def _refuse_root(settings: Settings) -> None:
    """Files that root made in StateDir could not be written by the server."""
    try:
        owner = os.stat(settings.state_dir).st_uid
    except FileNotFoundError:
        owner = os.geteuid()
    if os.geteuid() == 0 and owner != 0:
        fail(f"StateDir belongs to the user with number {owner}: run this as that user, as the server does.")


def secret_of(settings: Settings) -> str:
    """The secret that the server verifies with; made in StateDir if there is none yet. Raises ConfigError."""
    return secrets_of(settings).secret


def secrets_of(settings: Settings) -> Secrets:
    """The same with all that belong to it."""
    has_source = settings.secret or settings.secret_file or settings.secret_command
    if not has_source and not os.path.lexists(secretfile.path_in(settings.state_dir)):
        _refuse_root(settings)
    return secretring.read(settings)


def size_of(file: str) -> int:
    """Bytes of a regular file. Ends with a clear line for anything whose size is not known before it is read."""
    info = os.stat(file)
    if not stat.S_ISREG(info.st_mode):
        fail(f"{file} is not a regular file, so its size cannot be signed.", status=USAGE_ERROR)
    return info.st_size


def content_type_of(text: str) -> str:
    """A content type that can be sent; the default for an empty one."""
    try:
        return contenttype.declared(text)
    except BadHeader:
        fail(f"{text!r} cannot be a content type: it takes up to 255 printable ASCII characters.", status=USAGE_ERROR)


def public_url(settings: Settings) -> str:
    """Scheme and host that people see, without a slash at the end."""
    if settings.base_url:
        return settings.base_url.rstrip("/")
    return "http://localhost" if settings.listen_port.path else f"http://{reachable(settings.listen_port)}"


def reachable(address: Address) -> str:
    """Host and port, as in a URL, by which a TCP address to listen on is reached from this machine."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
