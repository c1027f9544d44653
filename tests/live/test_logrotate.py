"""contrib/logrotate with the real logrotate against a running server: no line is lost, no old file stays open."""

import gzip
import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.support.http import put
from tests.support.polling import until
from tests.support.server import ROOT, Server, open_files
from tests.support.servers import program

CONFIG = ROOT / "contrib" / "logrotate" / "hmacfs"
COMPLETED = re.compile(r"Upload completed: (\S+) in")
REQUEST = re.compile(r"Incoming request: PUT (\S+)")
SYSTEMCTL = """#!/bin/sh
# What the script of the configuration asks systemd for, with the process that is the unit's main one here.
case "$*" in
    "--quiet is-active hmacfs.service") exit 0 ;;
    "kill --kill-whom=main --signal=USR1 hmacfs.service") id -u >>"$0.users"; exec kill -USR1 "$(cat "$0.pid")" ;;
    *) echo "systemctl: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """/var/log/hmacfs."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o750)
    return folder


@pytest.fixture
def config(tmp_path: Path, logs: Path) -> Path:
    """The configuration for ``logs`` and the user who runs this."""
    text = CONFIG.read_text(encoding="utf-8").replace("/var/log/hmacfs/", f"{logs}/")
    text = text.replace("su hmacfs hmacfs", "su root root").replace("0640 hmacfs hmacfs", "0640")
    copy = tmp_path / "logrotate.conf"
    copy.write_text(text, encoding="utf-8")
    copy.chmod(0o644)  # logrotate refuses what others may write
    return copy


@pytest.fixture(params=["text", "json"])
def server(request: pytest.FixtureRequest, tmp_path: Path, logs: Path) -> Iterator[Server]:
    files = {"LogFile": str(logs / "hmacfs.log"), "AuditLog": str(logs / "audit.log")}
    with Server(tmp_path, NumCores=2, LogFormat=request.param, **files) as running:
        yield running


def logrotate(config: Path, *options: str, path: str = "") -> str:
    """Run it with a state file of its own; AssertionError with what it says when it fails."""
    command = [program("logrotate"), *options, "--state", str(config.with_suffix(".state")), str(config)]
    environ = os.environ | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def systemctl_for(server: Server, folder: Path) -> Path:
    folder.mkdir()
    script = folder / "systemctl"
    script.write_text(SYSTEMCTL, encoding="utf-8")
    script.chmod(0o755)
    script.with_suffix(".pid").write_text(str(server.pid), encoding="utf-8")
    return script


def text_of(path: Path) -> str:
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()


def told(logs: Path, start: str) -> str:
    """What stands in all files of one log."""
    return "".join(text_of(path) for path in logs.iterdir() if path.name.startswith(start))


def messages(server: Server, logs: Path) -> list[str]:
    """What every line of the log says; each is whole, in the form that was asked for."""
    lines = told(logs, "hmacfs.log").splitlines()
    if server.keys["LogFormat"] == "json":
        return [json.loads(line)["message"] for line in lines]
    assert all(re.match(r"[A-Z]+\[[^]]+\] \S", line) for line in lines)
    return lines


def paths_in(pattern: re.Pattern[str], said: list[str]) -> list[str]:
    return sorted(found[1] for each in said if (found := pattern.search(each)))


def audited(logs: Path) -> list[str]:
    """Paths of the uploads in the audit log."""
    lines = [json.loads(line) for line in told(logs, "audit.log").splitlines()]
    return sorted(line["path"] for line in lines if line["event"] == "upload")


def opened(server: Server, logs: Path) -> set[str]:
    """Log files that any process of the server holds open, renamed ones too."""
    held = [target for pid in (server.pid, *server.worker_pids()) for target in open_files(pid)]
    return {target for target in held if target.startswith(f"{logs}/")}


def upload_until(server: Server, stop: Event, name: str) -> list[str]:
    """Paths that were answered with 201."""
    done: list[str] = []
    while not stop.is_set():
        path = f"{name}/{len(done)}"
        assert put(server, path, b"x").status == 201
        done.append(path)
    return done


def test_logrotate_accepts_the_configuration(config: Path, logs: Path) -> None:
    (logs / "hmacfs.log").write_text("a line\n", encoding="utf-8")
    (logs / "audit.log").write_text("{}\n", encoding="utf-8")

    said = logrotate(config, "--debug")

    assert "error" not in said.lower()
    assert f"considering log {logs}/hmacfs.log" in said
    assert f"considering log {logs}/audit.log" in said


def test_no_line_is_lost_when_the_logs_rotate_under_load(
    server: Server, config: Path, logs: Path, tmp_path: Path
) -> None:
    script, stop = systemctl_for(server, tmp_path / "bin"), Event()
    current = {str(logs / name) for name in ("hmacfs.log", "audit.log")}
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(upload_until, server, stop, f"load-{number}") for number in range(3)]
        try:
            for rotation in range(1, 4):
                before = len(COMPLETED.findall(told(logs, "hmacfs.log")))
                until(lambda: len(COMPLETED.findall(told(logs, "hmacfs.log"))) > before + 20, "uploads are logged")  # noqa: B023
                logrotate(config, "--force", path=str(script.parent))
                until(lambda: opened(server, logs) == current, "only the new files are open")
                for name in ("hmacfs.log", "audit.log"):
                    assert len([path for path in logs.iterdir() if path.name.startswith(f"{name}.")]) == rotation
        finally:
            stop.set()
        answered = sorted(path for each in running for path in each.result())

    until(lambda: len(REQUEST.findall(told(logs, "hmacfs.log"))) >= len(answered), "the last requests are logged")
    said = messages(server, logs)
    assert paths_in(COMPLETED, said) == answered
    assert paths_in(REQUEST, said) == answered
    assert audited(logs) == answered
    assert script.with_suffix(".users").read_text(encoding="utf-8").split() == [str(os.geteuid())] * 3


def test_a_renamed_file_is_compressed_a_rotation_later_and_new_ones_are_not_for_everybody(
    server: Server, config: Path, logs: Path, tmp_path: Path
) -> None:
    script = systemctl_for(server, tmp_path / "bin")
    for number in range(2):
        assert put(server, f"a/{number}", b"x").status == 201
        until(lambda: f"a/{number}" in (logs / "hmacfs.log").read_text(encoding="utf-8"), "it is logged")  # noqa: B023
        logrotate(config, "--force", path=str(script.parent))
        until(lambda: str(logs / "hmacfs.log.1") not in opened(server, logs), "the renamed file is closed")

    assert {path.name for path in logs.glob("hmacfs.log*")} == {"hmacfs.log", "hmacfs.log.1", "hmacfs.log.2.gz"}
    assert (logs / "hmacfs.log").stat().st_mode & 0o777 == 0o640
