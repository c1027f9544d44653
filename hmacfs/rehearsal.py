"""Would a worker come up with this configuration? Found out in a process of its own, which changes nothing.

``hmacfs check`` asks, and the master asks before a reload. Run as a module it is that process.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import replace

from hmacfs import configfile
from hmacfs.errors import ConfigError
from hmacfs.storage import secretfile, storedir

_SECONDS = 60


def problems(path: str, seconds: int = _SECONDS) -> list[str]:
    """What keeps the application for the configuration at ``path`` from being built; empty when nothing does.

    Args:
        seconds: after which that is a problem, too.
    """
    command = [sys.executable, "-m", "hmacfs.rehearsal", path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return [f"{path}: building the application took longer than {seconds} s."]
    if done.returncode == 0:
        return []
    return done.stderr.strip().splitlines()[-20:] or [f"{path}: the application cannot be built."]


def build(path: str) -> None:
    """Build the application as a worker would, with stand-ins for what does not exist yet."""
    from hmacfs.app import create_app

    settings = configfile.usable(configfile.load(path))
    with tempfile.TemporaryDirectory() as folder:
        if not os.path.isdir(os.path.join(settings.store_dir, storedir.PRIVATE, "staging")):
            settings = replace(settings, store_dir=os.path.join(folder, "store"))
        has_source = settings.secret or settings.secret_file or settings.secret_command
        if not has_source and not os.path.exists(secretfile.path_in(settings.state_dir)):
            settings = replace(settings, secret=secrets.token_hex(32))
        create_app(settings)


if __name__ == "__main__":
    try:
        build(sys.argv[1])
    except ConfigError as error:
        sys.exit(str(error))
