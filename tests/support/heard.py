"""Ears at all that hmacfs writes while tests run, so that it is searched for leaks.

``begin`` puts one everywhere at once: on every process of hmacfs that a test starts, however it does that, with the
log files of its configuration; and on what the package logs, and answers with errors, in the process of the tests.
Answers of real servers are handed to ``tests.support.leaks`` by the connections of ``tests.support.http``, and what
pytest captured by tests/conftest.py.
"""

import gzip
import logging
import os
import re
import stat
import subprocess
import sys
import tomllib
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

from hmacfs.settings import keys
from hmacfs.telemetry import logs
from hmacfs.telemetry.linefile import LineFile
from hmacfs.web import errors
from tests.support.leaks import EVERYTHING, Kind, decoded, handed_out, wrote

PRINTED: dict[str, frozenset[Kind]] = {
    "sign": frozenset((Kind.MAC, Kind.QUERY)),  # a signed URL is what it is asked for
    "put": frozenset((Kind.MAC, Kind.QUERY)),  # the link is signed where RequireSignedDownloads wants that
    "secret": frozenset((Kind.SECRET, Kind.MAC)),  # made for this; a secret of our making looks like a MAC
    "get": EVERYTHING,  # with -o -: a file's bytes are its owner's
}
"""What a command prints on purpose: on standard output, and nowhere else."""

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_SECRETS = {key.name.lower() for key in keys() if key.secret}
_LOGS = {"logfile", "auditlog"}
_COMMAND = re.compile(r"\bhmacfs(?:\.cli\.main)? ([a-z]+)")
_PROGRAMS = {"hmacfs", "hmac-file-server", "gunicorn", "make"}
_PREFIX = "HMACFS_"
_HEAD = 64

_files: list["_File"] = []
_processes: list["Process"] = []


def _runs_ours(word: str) -> bool:
    """Whether a word of a command is our program, or a script with it; not whether a path has its name in it."""
    if any(blank in word for blank in " \n"):
        return "hmacfs" in word.replace(sys.executable, "").replace(ROOT, "")
    return word == "hmacfs.cli.main" or os.path.basename(word) in _PROGRAMS


@dataclass
class _File:
    """A file that processes write, and all that comes of it: moved, packed, emptied.

    Attributes:
        place: how a sentence calls it.
        read: of each inode how many bytes were read, and how it begins: a number is given to a new file soon.
    """

    path: str
    place: str
    writers: list["weakref.ref[Process]"] = field(default_factory=list)
    read: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def is_written_by(self, process: "Process") -> bool:
        return any(writer() is process for writer in self.writers)

    def hear(self) -> bool:
        """Hand on what is new in it. Answers whether there may be more to come."""
        folder, name = os.path.split(self.path)
        names = os.listdir(folder) if os.path.isdir(folder) else []
        heard = False
        for each in (each for each in names if each.startswith(name)):
            if text := self._fresh(os.path.join(folder, each)):
                wrote(f"{self.place} ({each})", text)
                heard = True
        running = (process for writer in self.writers if (process := writer()) and process.returncode is None)
        return heard or any(running)

    def _fresh(self, path: str) -> str:
        """What it has got since; a line without its end comes once more with it."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""  # moved at this moment, or a folder of that name
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                return ""
            begin, head = self.read.get(info.st_ino, (0, b""))
            if begin > info.st_size or os.pread(fd, len(head), 0) != head:
                begin = 0
            data = os.pread(fd, info.st_size - begin, begin)
        finally:
            os.close(fd)
        end, text = begin + data.rfind(b"\n") + 1, data
        if path.endswith(".gz") and data:
            try:
                end, text = len(data), gzip.decompress(data)
            except EOFError:
                return ""  # it is being packed, and comes again
        self.read[info.st_ino] = end, head if begin else data[: min(end, _HEAD)]
        return decoded(text)


class Process(subprocess.Popen[Any]):
    """Every process that a test starts; of those that run hmacfs all output is searched.

    Output that a test reads itself from a pipe or a terminal must be handed in by ``said``, or ``unheard`` tells.
    """

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        words = [args] if isinstance(args, str | bytes | os.PathLike) else args
        texts = [decoded(os.fspath(word)) for word in words]
        self._is_ours = any(map(_runs_ours, texts))
        commands = _COMMAND.findall(" ".join(texts))
        self._prints = frozenset().union(*(PRINTED.get(command, ()) for command in commands))
        self._title = f"hmacfs {commands[0]}" if commands else "hmacfs"
        self._unheard: set[str] = set()
        super().__init__(args, *more, **options)
        if self._is_ours:
            self._listen(texts, options)

    def _listen(self, words: list[str], options: Mapping[str, Any]) -> None:
        for stream in ("stdout", "stderr"):
            target = options.get(stream)
            if isinstance(name := getattr(target, "name", None), str):
                self._follow(name, f"{stream} of {self._title}")
            elif isinstance(target, int) and target not in (subprocess.DEVNULL, subprocess.STDOUT):
                self._unheard.add(stream)
        environ = options.get("env") or os.environ
        folder = os.fspath(options.get("cwd") or os.getcwd())
        given = {name.removeprefix(_PREFIX): value for name, value in environ.items() if name.startswith(_PREFIX)}
        files = [after for before, after in pairwise(words) if before == "--config"]
        for file in {*files, *filter(None, [given.get("CONFIG")])}:
            path = os.path.join(folder, file)
            self._configured(_toml(path), os.path.dirname(path))
        self._configured(given, folder)
        _processes.append(self)

    def _configured(self, given: Mapping[str, Any], folder: str) -> None:
        configured(given)
        for name, value in _flat(given):
            if name in _LOGS and value:
                self._follow(os.path.join(folder, str(value)), f"{name} of {self._title}")

    def _follow(self, path: str, place: str) -> None:
        file = next((file for file in _files if file.path == path), None)
        if file is None:
            _files.append(file := _File(path, place))
        file.writers.append(weakref.ref(self))

    def said(self, stream: str, data: str | bytes | None) -> None:
        """What it has written to "stdout" or "stderr"."""
        self._unheard.discard(stream)
        if data:
            wrote(f"{stream} of {self._title}", data, self._prints if stream == "stdout" else ())

    @property
    def unheard(self) -> str:
        """A sentence on output that nobody handed in; empty where there is none, or it still runs."""
        if self.returncode is None or not self._unheard:
            return ""
        return f"{' and '.join(sorted(self._unheard))} of {self._title} was read by the test and not searched"

    def communicate(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        out, err = super().communicate(*arguments, **options)
        if self._is_ours:
            self.said("stdout", out)
            self.said("stderr", err)
        return out, err

    def wait(self, timeout: float | None = None) -> int:
        status = super().wait(timeout)
        self._ended()
        return status

    def poll(self) -> int | None:
        status = super().poll()
        if status is not None:
            self._ended()
        return status

    def _ended(self) -> None:
        """Its files may be gone by the end of the test."""
        for file in _files:
            if file.is_written_by(self):
                file.hear()


def said(process: "subprocess.Popen[Any]", stream: str, text: str | bytes) -> None:
    """For output that a test reads itself. Args: stream: "stdout" or "stderr"; of both in one, the first."""
    assert isinstance(process, Process)
    process.said(stream, text)


def configured(given: Mapping[str, Any]) -> None:
    """Keys and values of a configuration, of which some are secrets."""
    for name, value in _flat(given):
        if name in _SECRETS:
            for each in value if isinstance(value, list | tuple) else [str(value)]:
                is_address = "://" in each
                handed_out(Kind.SECRET, unquote(urlsplit(each).password or "") if is_address else each)


def _flat(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key of every table, in lower case and without underscores."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name.lower().replace("_", ""), value


def _toml(path: str) -> dict[str, Any]:
    """A configuration that may be broken on purpose: then the process has nothing of it either."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError):
        return {}


def files() -> None:
    """Hand on what has come into the files of all processes."""
    _files[:] = [file for file in _files if file.hear()]


def unheard() -> list[str]:
    """Sentences on output that was not searched, once each."""
    _processes[:] = [each for each in _processes if each.returncode is None or each.unheard]
    told = [each for each in _processes if each.unheard]
    for each in told:
        _processes.remove(each)
    return [each.unheard for each in told]


def begin() -> None:
    """From now on, in this process and those that it starts."""
    subprocess.Popen = Process  # type: ignore[misc]
    logging.Logger.callHandlers = _before(logging.Logger.callHandlers, _record)  # type: ignore[method-assign]
    LineFile.write = _before(LineFile.write, lambda file, line: wrote(f"a line of {file.baseFilename}", line))  # type: ignore[method-assign]
    logs.write_line = _before(logs.write_line, lambda line: wrote("the log", line))
    errors.reply = _behind(errors.reply, lambda reply: wrote(f"the body of a {reply.status}", reply.body))


def _record(_logger: logging.Logger, record: logging.LogRecord) -> None:
    """Behind the filters of its logger."""
    if record.name.startswith(("hmacfs", "gunicorn")):
        trace = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
        wrote(f"a record of {record.name}", f"{record.getMessage()} {getattr(record, 'fields', '')}\n{trace}")


def _before(function: Callable[..., Any], hear: Callable[..., None]) -> Callable[..., Any]:
    @wraps(function)
    def heard(*arguments: Any, **options: Any) -> Any:
        hear(*arguments, **options)
        return function(*arguments, **options)

    return heard


def _behind(function: Callable[..., Any], hear: Callable[[Any], None]) -> Callable[..., Any]:
    @wraps(function)
    def heard(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options)
        hear(answer)
        return answer

    return heard
