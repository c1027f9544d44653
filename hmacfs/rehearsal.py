"""Would a worker come up with this configuration? Found out in a process of its own, which changes nothing.

``hmacfs check`` asks, and the master asks before a reload. Run as a module it is that process.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace

from hmacfs import configfile
from hmacfs.errors import ConfigError
from hmacfs.storage import secretfile, storedir

_SECONDS = 60
_VERDICT = "The application can be built."


class Rehearsal:
    """One attempt, which begins at once and ends in bounded time whether or not somebody asks.

    Args:
        path: of the configuration.
        seconds: after which that is a problem, too.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, path: str, seconds: float = _SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        # -P: what lies in the working directory, which may be the store, is no program.
        command = [sys.executable, "-P", "-m", "hmacfs.rehearsal", path]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the attempt
        self._process = subprocess.Popen(  # noqa: S603
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )

    def problems(self) -> list[str] | None:
        """What keeps the application from being built; empty when nothing does, None as long as that is not known."""
        if self._process.poll() is None:
            if time.monotonic() < self._deadline:
                return None
            self.end()
            return [f"{self._path}: building the application took longer than {self._seconds:g} s."]
        with self._output:
            self._output.seek(0)
            said = self._output.read().decode(errors="replace").strip().splitlines()
        # By its words, not by its status: the master may have reaped it together with its workers.
        if said[-1:] == [_VERDICT]:
            return []
        return said[-20:] or [f"{self._path}: the application cannot be built."]

    def wait(self) -> None:
        """Until it has ended, or its time is over."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, self._deadline - time.monotonic()))

    def end(self) -> None:
        """Break it off."""
        self._process.kill()
        self._process.wait()
        self._output.close()


def _environment() -> dict[str, str]:
    """Ours, in which this package is found also where it is not installed."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join((home, before)) if before else home}


def problems(path: str) -> list[str]:
    """What keeps the application for the configuration at ``path`` from being built; empty when nothing does."""
    attempt = Rehearsal(path)
    attempt.wait()
    while (found := attempt.problems()) is None:
        attempt.wait()
    return found


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
    print(_VERDICT)
