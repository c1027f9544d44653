"""Real servers of shared state in a temporary folder, which tests kill, stop, resume and start again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.polling import PATIENCE, until
from tests.support.ports import free_port
from tests.support.server import processes, stat_fields
from tests.support.skipping import skip_or_fail


def program(name: str, *folders: str) -> str:
    """Where a program is; skips or fails the test when it is not installed."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", *folders)))
    if found is None:
        skip_or_fail(f"{name} is not installed")
    return found


def as_nobody(command: Sequence[str]) -> list[str]:
    """``command`` without root's rights: database servers refuse to have them."""
    if os.geteuid():
        return list(command)
    nobody = pwd.getpwnam("nobody")
    rights = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--inh-caps=-all"]
    return [program("setpriv"), *rights, *command]


def _place() -> str | None:
    """Memory where there is room: an answer that the disk delays by a second, because power is cut or a mount made
    beside it, counts as a dead server. None for the usual folder."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free >= 4 * 2**30 else None


class StateServer:
    """One server on a port of 127.0.0.1; a subclass says how it is prepared, started and asked.

    Attributes:
        port: the same for its whole life, also after a restart.
        folder: everything that it writes.
    """

    title = ""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"hmacfs-{self.title}-", dir=_place()))
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make what an empty server begins with, in ``folder``."""

    def command(self) -> list[str]:
        """Runs it in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it takes work."""
        raise NotImplementedError

    def make_clean(self) -> None:
        """Remove what a test left, while it runs."""
        raise NotImplementedError

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it and wait until it answers."""
        with open(self.folder / "output.log", "ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._answers, f"{self.title} answers")

    def _answers(self) -> bool:
        log = (self.folder / "output.log").read_text(encoding="utf-8", errors="replace")
        assert self.is_running, f"{self.title} ended:\n{log}"
        return self.answers()

    def kill(self) -> None:
        """SIGKILL to all of it; from then on connections are refused."""
        if self._process is None:
            return
        for pid in self.pids():
            _signal(pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: it takes connections, as far as the kernel does that, and says nothing."""
        pids = self.pids()
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        for pid in pids:
            # One that had just ended stays a zombie: its parent stands still and does not reap it.
            until(lambda pid=pid: stat_fields(pid)[:1] in (["T"], ["Z"], []), "it stands still")  # type: ignore[misc]

    def resume(self) -> None:
        """SIGCONT; nothing when it was not paused."""
        for pid in self.pids():
            _signal(pid, signal.SIGCONT)

    def restart(self, *, empty: bool = False) -> None:
        """Kill it if it runs, and start it again, with what it had or with nothing."""
        self.kill()
        if empty:
            shutil.rmtree(self.data)
            self._make_data()
        self.start()

    def recover(self) -> None:
        """Bring it back from whatever a test did to it, and clean."""
        if self.is_running:
            self.resume()
        else:
            self.restart()
        until(self.answers, f"{self.title} answers")
        self.make_clean()

    def pids(self) -> list[int]:
        """It and its children, which for PostgreSQL lead sessions of their own."""
        if not self.is_running:
            return []
        assert self._process is not None
        found = [self._process.pid]
        for parent in found:
            found += [pid for pid, state, above, _ in processes() if above == parent and state != "Z"]
        return found

    def _make_data(self) -> None:
        self.data.mkdir()
        if not os.geteuid():
            nobody = pwd.getpwnam("nobody")
            for path in (self.folder, self.data):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.prepare()

    def __enter__(self) -> "StateServer":
        try:
            self._make_data()
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended meanwhile
