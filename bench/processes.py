"""What groups of processes cost, out of /proc: CPU time of all of them, also of children that ended, and memory."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLES_A_SECOND = 5


class Group(Protocol):
    """The processes of one server."""

    def pids(self) -> list[int]:
        """Those that run now."""


@dataclass(frozen=True)
class Session:
    """Everything that a process which leads its own session has started."""

    leader: int

    def pids(self) -> list[int]:
        found = []
        for pid in _all_pids():
            stat = _stat(pid)
            if stat and int(stat[3]) == self.leader:
                found.append(pid)
        return found


@dataclass(frozen=True)
class Fixed:
    """Processes that somebody else started."""

    known: tuple[int, ...] = ()

    def pids(self) -> list[int]:
        return [pid for pid in self.known if _stat(pid)]


def listeners(port: int) -> Fixed:
    """The processes that hold a listening TCP socket on ``port``. Empty where they are remote or not ours to see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        # fields: slot, local address, remote address, state (0A is LISTEN), ..., inode
        inodes |= {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    return Fixed(tuple(pid for pid in _all_pids() if inodes & _open_files(pid)))


def cpu_seconds(groups: Sequence[Group]) -> float | None:
    """User and system time so far; None where no process can be seen."""
    spent = [seconds for group in groups for pid in group.pids() if (seconds := _cpu_of(pid)) is not None]
    return sum(spent) if spent else None


def memory_bytes(groups: Sequence[Group]) -> int:
    """Memory of all processes together, shared pages counted once (PSS; RSS where the kernel hides it)."""
    return sum(_memory(pid) for group in groups for pid in group.pids())


@dataclass
class Meter:
    """CPU seconds and peak memory between entering and leaving. ``cpu`` is None where nothing can be seen."""

    groups: Sequence[Group]
    cpu: float | None = None
    peak: int = 0
    _before: float | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Meter":
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        self._before = cpu_seconds(self.groups)
        return self

    def __exit__(self, *_: object) -> None:
        after = cpu_seconds(self.groups)
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if after is not None and self._before is not None:
            self.cpu = after - self._before

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, memory_bytes(self.groups))
            if self._over.wait(1 / _SAMPLES_A_SECOND):
                return


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """state, ppid, pgrp, session...: what follows the command's name, which may hold blanks and parentheses itself."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _cpu_of(pid: int) -> float | None:
    """utime + stime + cutime + cstime, the first two from the process's own clock: /proc counts in steps of 10 ms."""
    stat = _stat(pid)
    if stat is None:
        return None
    try:
        own = time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), for which Python has no name
    except OSError:
        own = (int(stat[11]) + int(stat[12])) / _TICKS
    return own + (int(stat[13]) + int(stat[14])) / _TICKS


def _open_files(pid: int) -> set[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return set()
    found = set()
    for name in names:
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            pass  # closed meanwhile
    return found


def _memory(pid: int) -> int:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                for line in file:
                    if line.startswith(key):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
    return 0
