"""One upload to be made, how it went, and clients that run as processes of their own.

Such a client reads one job a line from standard input and writes one outcome a line to standard output, both JSON, so
that one node and one browser serve many uploads.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from tests.support.polling import PATIENCE, until
from tests.support.server import ROOT, processes

JOB_SECONDS = 180.0


@dataclass(frozen=True)
class Job:
    """One upload.

    Attributes:
        url: the signed URL of the slot, which is the endpoint.
        file: what to upload.
        type: its media type, as signed.
        chunk: bytes in one request at most.
        memory: a file that does not exist yet, where a client may keep the upload's URL between attempts.
        restart: make no retries, but begin each attempt as a program does that was started again.
        checksum: send a checksum with each request, where the client knows how.
    """

    url: str
    file: str
    type: str
    chunk: int
    memory: str
    restart: bool = False
    checksum: bool = False


@dataclass(frozen=True)
class Outcome:
    """A finished upload.

    Attributes:
        resumed: how often the client asked where to go on.
        bytes: what the client believes to have uploaded.
        url: of the upload, where it had one besides the slot.
    """

    resumed: int
    bytes: int
    url: str = ""


class Client(Protocol):
    """Makes uploads. AssertionError with the client's own words where one fails."""

    def run(self, job: Job) -> Outcome: ...


class ClientProcess:
    """``with ClientProcess(command, folder) as client:``

    Args:
        folder: an existing folder for what it says of itself. Its temporary files have a folder with a short name,
            because a browser's socket is one of them, whose path may have 107 bytes.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = command
        self._temporary = tempfile.TemporaryDirectory(prefix="client-", ignore_cleanup_errors=True)
        self._errors = folder / "errors.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> "ClientProcess":
        with open(self._errors, "wb") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": self._temporary.name, "PYTHONPATH": str(ROOT)},
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        return self

    def run(self, job: Job) -> Outcome:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        except BrokenPipeError as error:
            raise AssertionError(f"the client ended:\n{self._said()}") from error
        outcome = json.loads(self._line(time.monotonic() + JOB_SECONDS))
        assert "error" not in outcome, outcome["error"]
        return Outcome(**outcome)

    def _line(self, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no outcome after {JOB_SECONDS:.0f} s:\n{self._said()}"
            data = os.read(descriptor, 65536)
            assert data, f"the client ended:\n{self._said()}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _said(self) -> str:
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """The end of its input ends a client; what is left of its process group is killed one by one."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(PATIENCE)
            until(lambda: not _group(process.pid), "its processes end", 5)
        except (subprocess.TimeoutExpired, AssertionError):
            for pid in _group(process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            process.wait()
        process.stdout.close()
        self._temporary.cleanup()


def _group(leader: int) -> list[int]:
    return [pid for pid, state, _, group in processes() if group == leader and state != "Z"]
