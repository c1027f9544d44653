"""docs/operations.md: its commands for the secret, the status and the backup, run beside a real server."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hmacfs import __version__
from tests.support.http import MIB, get, put
from tests.support.polling import until
from tests.support.server import ROOT, Server
from tests.support.slot import content

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROGRAM = "/opt/hmacfs/.venv/bin/hmacfs"
OURS = shlex.join([sys.executable, "-m", "hmacfs.cli.main"])
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)}


def section(title: str) -> str:
    """Lines to be typed in one section."""
    inside = re.split(r"^## ", TEXT.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", inside, re.MULTILINE | re.DOTALL))


def ran(command: Sequence[str], folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, env=ENVIRON, capture_output=True, text=True, timeout=120, check=False)


def run(script: str, folder: Path) -> None:
    done = ran(["sh", "-e", "-c", script], folder)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def asking(server: Server, title: str, arguments: str) -> list[str]:
    """The words of the one line of a section that runs our program with ``arguments``, to ask ``server`` instead."""
    typed = f"{PROGRAM} {arguments} --config /etc/hmacfs/config.toml"
    assert section(title).splitlines().count(typed) == 1
    return shlex.split(typed.replace(PROGRAM, OURS).replace("/etc/hmacfs/config.toml", str(server.config)))


def lying_in(folder: Path) -> Server:
    """A server whose store and state lie in one folder apart from its configuration, as in /var/lib/hmacfs."""
    (folder / "lib").mkdir(parents=True)
    return Server(folder, StoreDir=str(folder / "lib/store"), StateDir=str(folder / "lib/state"))


def test_the_secret_is_made_for_root_alone_and_is_taken(tmp_path: Path) -> None:
    script = section("Secret").replace("/etc/hmacfs", str(tmp_path / "etc")).replace(PROGRAM, OURS)

    run(script, tmp_path)

    made = tmp_path / "etc" / "secret"
    assert made.stat().st_mode & 0o777 == 0o600
    (tmp_path / "server").mkdir()
    with Server(tmp_path / "server", Secret="", SecretFile=str(made)) as server:
        server.keys["Secret"] = made.read_text(encoding="utf-8").strip()
        assert put(server, "a/file", b"x").status == 201


@pytest.mark.parametrize("title", ["Service", "Upgrade"])
def test_the_status_tells_that_the_server_is_ready_and_which_version_runs(title: str, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        command = asking(server, title, "status")

        done = until(lambda: done if (done := ran(command)).returncode == 0 else None, "the server is well")

    assert re.search(r"^Health +ready$", done.stdout, re.MULTILINE)
    assert re.search(rf"^Server +{re.escape(__version__)}, up ", done.stdout, re.MULTILINE)


def test_the_status_that_stays_is_shown_again_until_ctrl_c(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    with Server(tmp_path) as server, open(shown, "wb") as output:
        command = asking(server, "Service", "status --watch")
        watching = subprocess.Popen(command, env=ENVIRON, stdout=output, stderr=output)
        try:
            until(lambda: shown.read_text(encoding="utf-8").count("\nLast sweep ") == 2, "it is shown twice")
            watching.send_signal(signal.SIGINT)
            ended = watching.wait(20)
        finally:
            watching.kill()
            watching.wait(20)

    assert ended == 0
    assert "Traceback" not in shown.read_text(encoding="utf-8")


def test_a_backup_that_was_restored_serves_what_was_there(tmp_path: Path) -> None:
    # Everything of the script but /etc: store and state of the backup's server lie where a test has them.
    script = re.sub(r"^.*hmacfs-etc\.tar.*\n", "", section("Backup"), flags=re.MULTILINE)
    script = script.replace("runuser -u hmacfs -- ", "").replace(PROGRAM, OURS)
    back_up, _, restore = script.partition("\n")
    first, second = (lying_in(tmp_path / name) for name in ("first", "second"))
    with first:
        assert put(first, "a/type", content(MIB), "image/x-special").status == 201
        (first.store_dir / "a" / "link").hardlink_to(first.store_dir / "a" / "type")
        run(back_up.replace("/var/lib/hmacfs", str(first.store_dir.parent)), tmp_path)

    restore = restore.replace("/var/lib/hmacfs", str(second.store_dir.parent))
    run(restore.replace("/etc/hmacfs/config.toml", str(second.config)), tmp_path)
    with second:
        answer = get(second, "a/type")

    assert (answer.status, answer["Content-Type"], answer.body) == (200, "image/x-special", content(MIB))
    assert (second.store_dir / "a" / "link").samefile(second.store_dir / "a" / "type")
