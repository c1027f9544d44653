"""A fresh clone of the working tree, and `make run` in it."""

import filecmp
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support import http
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import ROOT, processes

INSTALL_SECONDS = 400.0
DEFAULT_OPERATIONS = "127.0.0.1:9090"
"""MetricsPort as it is without a configuration, and as people read it in README.md."""
MAC = re.compile(r"[0-9a-f]{64}")


def copy_of_the_tree(folder: Path) -> None:
    """What a commit of everything would hold: tracked and new files, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.split(b"\0")):
        source, target = ROOT / os.fsdecode(name), folder / os.fsdecode(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target, follow_symlinks=False)
        except FileNotFoundError:
            continue  # deleted, and not committed yet
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True, capture_output=True)


def environment(**more: str) -> dict[str, str]:
    """Ours, without what this test run's own make, virtual environment and server configuration put there."""
    foreign = ("HMACFS_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST_", "CONFIG")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return environ | more


def shell(line: str, cwd: Path, env: Mapping[str, str]) -> str:
    """What ``line`` prints; AssertionError with its errors when its exit status is not 0."""
    done = subprocess.run(
        ["sh", "-e", "-c", line],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class NoPackages(Exception):
    """There is no way to a package index here."""


class MakeRun:
    """``with MakeRun(clone) as run:`` serves from the clone on a free port, as one process group.

    Raises:
        NoPackages: pip could not install.
    """

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.operations = f"127.0.0.1:{free_port()}"
        ports = {"HMACFS_LISTENPORT": f"127.0.0.1:{self.port}", "HMACFS_METRICSPORT": self.operations}
        self.env = environment(**{"HMACFS_NUMCORES": "1", **ports, **env})
        self._files = (folder / ".git" / "stdout", folder / ".git" / "stderr")
        with open(self._files[0], "wb") as out, open(self._files[1], "wb") as err:
            self.process = subprocess.Popen(
                ["make", "run"],
                cwd=folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._files[0].read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._files[1].read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def line_to_try(self) -> str:
        (line,) = (line for line in self.out.splitlines() if "Try it with" in line)
        return line.partition("Try it with")[2].strip()

    def typed(self, line: str) -> str:
        """What ``line`` prints that people are told to type in the clone; its default ports are those of this run."""
        env = self.env | {"PATH": f"{self.folder}/.venv/bin:{self.env['PATH']}"}
        return shell(line.replace(DEFAULT_OPERATIONS, self.operations), self.folder, env)

    def group(self) -> list[int]:
        """Processes of it that still run."""
        return [pid for pid, state, _, leader in processes() if leader == self.process.pid and state != "Z"]

    def signal(self, number: int) -> None:
        """To the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            if "could not be installed" in self.err:
                raise NoPackages(self.err)
            raise AssertionError(f"make run ended with {self.process.returncode}:\n{self.out}\n{self.err}")
        try:
            with http.Connection(self.address, timeout=5) as connection:
                connection.send(http.head_of("OPTIONS", "/upload/"))
                return connection.read_answer().status == 204 and "Try it with" in self.out
        except OSError:
            return False

    def __enter__(self) -> "MakeRun":
        try:
            until(self._serves, "make run serves", INSTALL_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM to all of it; what is left after a while is killed one by one."""
        if self.process.poll() is None or self.group():
            try:
                self.signal(signal.SIGTERM)
                until(lambda: self.process.poll() is not None and not self.group(), "the server ends")
            except (AssertionError, ProcessLookupError):
                for pid in self.group():
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(20)


def same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)
