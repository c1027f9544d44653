"""What a running process asks of the kernel, told by strace."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.skipping import skip_or_fail


@contextmanager
def watched(pid: int, names: Sequence[str], folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Note the system calls of a process and all its threads for as long as the block runs.

    Args:
        names: of the calls.
        folder: an empty one, for the notes.

    Yields a function that answers the calls so far, one line each, with the path behind every descriptor. Each thread's
    are in their order, and behind one another. The function may be called after the block too: then none is missing.
    """
    command = ["strace", "-ff", "-y", "-s", "0", "-e", f"trace={','.join(names)}", "-o", str(folder / "calls")]

    def calls() -> list[str]:
        texts = [file.read_text(encoding="utf-8", errors="surrogateescape") for file in sorted(folder.iterdir())]
        return [line for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]

    try:
        strace = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        skip_or_fail("strace is not installed")
    with strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        if "attached" not in line:
            skip_or_fail(f"strace cannot attach: {line.strip()}")
        try:
            yield calls
        finally:
            strace.terminate()  # it lets go of the process, which goes on
