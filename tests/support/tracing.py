"""kill -9 at every single system call of a job, and slow ones of a server, by strace."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, dropwhile
from pathlib import Path

from tests.support.polling import until
from tests.support.resuming import in_child
from tests.support.server import stat_fields
from tests.support.skipping import skip_or_fail

_WAITING = ("read", "restart_syscall")
"""What a process does that waits for its start; strace makes the kernel begin it anew."""

_ATTEMPTS = 20


def killed_at_each_call(
    folder: Path, prepare: Callable[[Path], Callable[[], object]], only: frozenset[str] | None = None
) -> Iterator[tuple[str, Path]]:
    """Do the same in a new store each time, and be killed as the process enters one system call after the other.

    Args:
        prepare: makes what is there before in a folder of its own, and answers what is to be cut.
        only: be killed at calls of these names alone; None for all.

    Yields the name of the call that was never made, "" where the process came through, and the folder. The first one
    comes through: it shows which calls there are.
    """
    folder.mkdir(exist_ok=True)
    calls = _run(prepare(folder / "untouched"), folder / "untouched.trace")
    yield "", folder / "untouched"
    for at, call in enumerate(calls):
        if only is None or call in only:
            yield from _killed_at(folder, prepare, calls, at)


def _killed_at(
    folder: Path, prepare: Callable[[Path], Callable[[], object]], calls: list[str], at: int
) -> Iterator[tuple[str, Path]]:
    """Until the process was killed at exactly this call: the wait for its start counts as one read or two."""
    call, nth = calls[at], calls[: at + 1].count(calls[at])
    for attempt in count():
        early = 1 + attempt % 2 if call in _WAITING else 0
        store = folder / f"store-{at}-{attempt}"
        seen = _run(prepare(store), folder / f"{at}-{attempt}.trace", f"inject={call}:signal=KILL:when={nth + early}")
        if seen:
            yield seen[-1] if len(seen) <= at + 1 else "", store
        if len(seen) == at + 1:
            return
        assert attempt < _ATTEMPTS, f"{call} number {nth} was never met"


def _run(job: Callable[[], object], trace: Path, inject: str = "") -> list[str]:
    """Names of the calls that a process made from its start on, the last one being that which killed it."""
    start, signal = os.pipe()

    def traced() -> int:
        os.close(signal)
        os.read(start, 1)
        job()
        os._exit(0)

    pid = in_child(traced)
    os.close(start)
    until(lambda: stat_fields(pid)[:1] == ["S"], "the process waits for its start")
    command = ["strace", "-o", str(trace), *(["-e", inject] if inject else []), "-p", str(pid)]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            line = strace.stderr.readline()
            if "attached" not in line:
                skip_or_fail(f"strace cannot attach: {line.strip()}")
            os.write(signal, b"x")
            strace.stderr.read()  # until it ends with the process
    except FileNotFoundError:
        skip_or_fail("strace is not installed")
    finally:
        os.close(signal)
        os.waitpid(pid, 0)
    lines = trace.read_text(errors="replace").splitlines()
    names = [line.partition("(")[0] for line in lines if line[:1].isalpha()]
    return list(dropwhile(lambda name: name in _WAITING, names))


@contextmanager
def slow_syncs(pid: int, seconds: float) -> Iterator[None]:
    """Every fsync of a process takes this long, for as long as the block runs."""
    delay = f"inject=fsync:delay_exit={seconds * 1e6:.0f}"
    command = ["strace", "-f", "-e", "trace=fsync", "-e", delay, "-o", "/dev/null", "-p", str(pid)]
    try:
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        skip_or_fail("strace is not installed")
    with strace:
        assert strace.stderr is not None
        if "attached" not in (line := strace.stderr.readline()):
            skip_or_fail(f"strace cannot attach: {line.strip()}")
        try:
            yield
        finally:
            strace.terminate()
