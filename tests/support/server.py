"""A real server in processes of its own, on a free port, with everything it writes in one folder."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import heard
from tests.support.ending import end
from tests.support.http import Connection, head_of
from tests.support.polling import PATIENCE, until
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-for-tests-0123456789abcdef"


def toml(keys: Mapping[str, Any]) -> str:
    """A configuration file. JSON's texts, numbers, booleans and lists are TOML's too."""
    heard.configured(keys)
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())


def tree(folder: str | Path) -> dict[str, tuple[str, int, str]]:
    """Everything below ``folder``: path to type, size of files, and target of links."""
    found = {}
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            info = os.lstat(path)
            kind = stat.filemode(info.st_mode)
            target = os.fsdecode(os.readlink(path)) if stat.S_ISLNK(info.st_mode) else ""
            found[os.fsdecode(path)] = (kind, info.st_size if stat.S_ISREG(info.st_mode) else 0, target)
    return found


def stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the command's name: state, parent, process group and so on. Empty if gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def processes() -> list[tuple[int, str, int, int]]:
    """(pid, state, parent, process group) of every process."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(int(entry))):
            found.append((int(entry), fields[0], int(fields[1]), int(fields[2])))
    return found


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process point to; nothing if it is gone."""
    found = []
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
            except FileNotFoundError:
                continue  # closed meanwhile
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # a process that is ending hides its descriptors
        pass
    return found


def _rehearses(pid: int) -> bool:
    """Whether a process tries a configuration before a reload (hmacfs/rehearsal.py)."""
    try:
        return b"hmacfs.rehearsal" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _entry(constants: Mapping[str, float]) -> tuple[str, ...]:
    """Arguments of Python that run our command line, with some constants changed first."""
    if not constants:
        return ("-m", "hmacfs.cli.main")
    lines = ["import importlib"]
    for place, value in constants.items():
        module, _, name = place.partition(":")
        lines += [f"module = importlib.import_module({module!r})", f"module.{name}"]  # it must be there already
        lines += [f"module.{name} = {value!r}"]
    return ("-c", "\n".join((*lines, "from hmacfs.cli.main import main", "main()")))


class Server:
    """``with Server(folder) as server:`` runs one until the block ends.

    Args:
        folder: an existing empty folder; config.toml, store, state and output go there.
        wsgi: run ``gunicorn -c gunicorn.conf.py wsgi:application`` instead of ``hmacfs serve``.
        address: (host, port) or a Unix socket path to talk to, where ``keys`` has a ListenPort of its own.
        wrapper: a command that gets the server's own command behind its arguments and becomes it.
        environ: environment variables besides the tests' own.
        code: a folder with a copy of the package to run instead of this one.
        constants: "module:NAME" to the value it has in this server; for bounds that nobody wants to wait for.
        keys: keys of config.toml, above the ones for tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        wsgi: bool = False,
        address: tuple[str, int] | str | None = None,
        wrapper: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        code: Path = ROOT,
        constants: Mapping[str, float] | None = None,
        **keys: Any,
    ) -> None:
        self.folder = folder
        self._environ = dict(environ or {})
        self._code = code
        self.address: tuple[str, int] | str = address or ("127.0.0.1", free_port())
        self.config = folder / "config.toml"
        self.output_file = folder / "output.log"
        self.keys: dict[str, Any] = {
            "ListenPort": f"unix:{self.address}" if isinstance(self.address, str) else f"127.0.0.1:{self.address[1]}",
            "Secret": SECRET,
            "StoreDir": str(folder / "store"),
            "StateDir": str(folder / "state"),
            "NumCores": 1,
            "MetricsPort": f"127.0.0.1:{free_port()}",  # servers run side by side, and others on this machine
            **keys,
        }
        self.write_config()
        self._command: Sequence[str] = (
            *wrapper,
            sys.executable,
            *(
                ("-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:application")
                if wsgi
                else (*_entry(constants or {}), "serve", "--config", str(self.config))
            ),
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def store_dir(self) -> Path:
        return Path(self.keys["StoreDir"])

    @property
    def state_dir(self) -> Path:
        return Path(self.keys["StateDir"])

    @property
    def secret(self) -> str:
        return str(self.keys["Secret"])

    @property
    def prefix(self) -> str:
        inner = str(self.keys.get("UploadSubDir", "upload")).strip("/")
        return f"/{inner}/" if inner else "/"

    @property
    def port(self) -> int:
        assert not isinstance(self.address, str)
        return self.address[1]

    @property
    def operations(self) -> tuple[str, int] | str:
        """Where metrics and health are asked for."""
        given = str(self.keys["MetricsPort"])
        if given.startswith("unix:"):
            return given.removeprefix("unix:")
        host, _, port = given.rpartition(":")
        return (host, int(port)) if port else self.address

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """Of the master, which leads a process group of its own."""
        return self.process.pid

    def write_config(self, **keys: Any) -> None:
        """Write config.toml again, with changed keys."""
        self.keys.update(keys)
        self.config.write_text(toml(self.keys), encoding="utf-8")

    def start(self) -> None:
        """Run it and wait until a worker answers. AssertionError with its output when it ends instead."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HMACFS_")}
        environ |= {"HMACFS_CONFIG": str(self.config), "PYTHONUNBUFFERED": "1", **self._environ}
        with open(self.output_file, "ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._code,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(self._answers, "the server answers")
            workers = int(self.keys["NumCores"])
            until(lambda: len(self.ready_workers()) >= workers, f"{workers} workers are ready")
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.output()}"
        try:
            with Connection(self.address, timeout=0.5) as connection:  # a stranger on our port may never answer
                connection.send(head_of("OPTIONS", self.prefix))
                return connection.read_answer().status == 204
        except (OSError, EOFError):
            return False

    def output(self) -> str:
        """All that it has written so far to standard output and error."""
        return self.output_file.read_text(encoding="utf-8", errors="surrogateescape")

    def lines(self, text: str) -> list[str]:
        """Lines of the output that contain ``text``."""
        return [line for line in self.output().split("\n") if text in line]

    def worker_pids(self) -> list[int]:
        """Without the process that rehearses a reload: it opens the store as a worker does, and ends."""
        children = [pid for pid, state, parent, _ in processes() if parent == self.pid and state != "Z"]
        return [pid for pid in children if not _rehearses(pid)]

    def ready_workers(self) -> list[int]:
        """Workers that have opened the store, and so have loaded the application."""
        return [pid for pid in self.worker_pids() if str(self.store_dir) in open_files(pid)]

    def worker(self) -> int:
        """The pid of the only worker."""
        (pid,) = self.worker_pids()
        return pid

    def open_store_files(self) -> list[str]:
        """Files below StoreDir that workers hold open, nameless ones too; directories are not counted."""
        root = f"{self.store_dir}/"
        held = [target for pid in self.worker_pids() for target in open_files(pid)]
        return [target for target in held if target.startswith(root) and not os.path.isdir(target)]

    def signal(self, number: int) -> None:
        """To the master alone."""
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """To the master and its workers, as a terminal does."""
        os.killpg(self.pid, number)

    def wait(self) -> int:
        """The exit status of the master, once it has ended."""
        return self.process.wait(PATIENCE)

    def stop(self) -> None:
        """SIGQUIT to the master, which stops at once; what it started and left behind is killed one by one."""
        if self._process is None:
            return
        group = self.pid
        if self._process.poll() is None:
            end(self._process, signal.SIGQUIT)
        for pid, state, _, leader in processes():
            if leader == group and state != "Z":
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self._process = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


ServerOf = Callable[[str], Server]
"""Answers a running server for a secret."""
