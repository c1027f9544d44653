"""The command line, as a process of its own or in this one, and what it left on the disk."""

import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from hmacfs.cli.main import main
from tests.support import heard
from tests.support.leaks import wrote
from tests.support.server import ROOT, toml

SECONDS = 60.0
"""For a command that should take a fraction of a second: only failures wait that long."""

HMACFS = (sys.executable, "-m", "hmacfs.cli.main")
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:application")

Done = subprocess.CompletedProcess[str]


def environment(**more: str) -> dict[str, str]:
    """Ours without any HMACFS_ variable, and with ``more``."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HMACFS_")}
    return environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | more


def run(
    command: Sequence[str | bytes | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = SECONDS,
) -> Done:
    """Run ``command`` to its end."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )


def hmacfs(*arguments: str | bytes | os.PathLike[str], cwd: Path | None = None, **env: str) -> Done:
    """Run ``hmacfs ARGUMENTS``."""
    return run((*HMACFS, *arguments), cwd=cwd, env=env)


def asked(*arguments: str | bytes | os.PathLike[str], cwd: Path | None = None, **env: str) -> Done:
    """The same as ``hmacfs`` in this process, in a tenth of the time: for what a command says, not what becomes of it.

    Words that are no UTF-8 reach it as the system hands them over.
    """
    words = [os.fsdecode(word) for word in arguments]
    removed: dict[str, str | None] = dict.fromkeys((name for name in os.environ if name.startswith("HMACFS_")), None)
    heard.configured({name.removeprefix("HMACFS_"): value for name, value in env.items()})
    with chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(main, words, prog_name="hmacfs", env=removed | env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    wrote(f"stdout of hmacfs {words[0]}", result.stdout, heard.PRINTED.get(words[0], ()))
    wrote(f"stderr of hmacfs {words[0]}", result.stderr)
    return Done(["hmacfs", *words], result.exit_code, result.stdout, result.stderr)


def config_in(folder: Path, **keys: Any) -> Path:
    """A config.toml in ``folder``."""
    path = folder / "config.toml"
    path.write_text(toml(keys), encoding="utf-8")
    return path


def lines(text: str) -> list[str]:
    return text.splitlines()


def snapshot(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything below ``folder``: its path to mode, owner and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path)] = (stat.filemode(info.st_mode), info.st_uid, content)
    return found
