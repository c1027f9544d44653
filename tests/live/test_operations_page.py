"""docs/operations.md: its commands for the secret and the backup, run on a real store."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.http import MIB, get, put
from tests.support.server import ROOT, Server
from tests.support.slot import content

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROGRAM = "/opt/hmacfs/.venv/bin/hmacfs"
OURS = shlex.join([sys.executable, "-m", "hmacfs.cli.main"])


def section(title: str) -> str:
    """Lines to be typed in one section."""
    inside = re.split(r"^## ", TEXT.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", inside, re.MULTILINE | re.DOTALL))


def run(script: str, folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


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
