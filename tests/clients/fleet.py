"""The clients by name, each started when it is first asked for."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import TracebackType

from tests.clients import ietf_client, session_client
from tests.clients.jobs import Client, ClientProcess, Job, Outcome
from tests.support.chromium import chromium_program
from tests.support.node import node_command
from tests.support.skipping import skip_or_fail


@dataclass(frozen=True)
class Variant:
    """A client, and how it is used.

    Attributes:
        program: key of Fleet.
        protocol: how the slot is signed.
        restart, checksum: as in Job.
    """

    name: str
    program: str
    protocol: str = "v2"
    restart: bool = False
    checksum: bool = False

    def __str__(self) -> str:
        return self.name


VARIANTS = [
    Variant("tus-js-client", "node"),
    Variant("tus-js-client-restarted", "node", restart=True),
    Variant("uppy", "browser"),
    Variant("uppy-reloaded", "browser", restart=True),
    Variant("tuspy", "tuspy", protocol="v"),
    Variant("tuspy-checksum", "tuspy", checksum=True),
    Variant("session", "session"),
    Variant("ietf", "ietf"),
]


class Fleet:
    """``with Fleet(folder) as fleet:`` has one process for each program that was asked for.

    Args:
        folder: an existing folder for what the clients write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._running: dict[str, Client] = {"session": _Session(), "ietf": _Ietf()}

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def __getitem__(self, program: str) -> Client:
        """The running client; skips the test where this machine lacks what it needs."""
        if program not in self._running:
            command = self._command(program)
            folder = self._folder / program
            folder.mkdir()
            self._running[program] = self._stack.enter_context(ClientProcess(command, folder))
        return self._running[program]

    def _command(self, program: str) -> list[str]:
        match program:
            case "node":
                return node_command("node.mjs")
            case "browser":
                return node_command("browser.mjs", chromium_program())
            case "tuspy":
                try:
                    import tusclient  # noqa: F401
                except ImportError:
                    skip_or_fail("tuspy is not installed")
                return [sys.executable, "-m", "tests.clients.tuspy_client"]
        raise KeyError(program)


class _Session:
    def run(self, job: Job) -> Outcome:
        path = Path(job.file)
        with _errors_as_failures():
            resumed = session_client.upload(job.url, path, job.type, job.chunk)
        return Outcome(resumed, path.stat().st_size)


class _Ietf:
    def run(self, job: Job) -> Outcome:
        path = Path(job.file)
        with _errors_as_failures():
            url, resumed = ietf_client.upload(job.url, path, job.type, job.chunk)
        return Outcome(resumed, path.stat().st_size, url)


@contextmanager
def _errors_as_failures() -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
