"""`pip install .` as docs/operations.md tells it: the program that the units start has all its files."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.install.clone import copy_of_the_tree, environment
from tests.support.server import ROOT


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_program_has_every_file_of_the_package_and_takes_the_units_commands(tmp_path: Path) -> None:
    clone, venv = tmp_path / "clone", tmp_path / "venv"
    copy_of_the_tree(clone)
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)], tmp_path)
    (site,) = venv.glob("lib/python*/site-packages")
    # Its dependencies and pip are those of where the tests run, to be quick.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")

    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install"]
    run([*pip, "--quiet", "--disable-pip-version-check", "--no-deps", str(clone)], tmp_path)

    ours = {
        path.relative_to(ROOT)
        for path in (ROOT / "hmacfs").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed = {path.relative_to(site) for path in (site / "hmacfs").rglob("*") if "__pycache__" not in path.parts}
    assert ours <= installed
    program = str(venv / "bin/hmacfs")
    where = run([str(venv / "bin/python"), "-c", "import hmacfs; print(hmacfs.__file__)"], tmp_path)
    assert where.startswith(str(site))
    assert "hmacfs" in run([program, "--version"], tmp_path)
    for command in ("serve", "check", "sweep"):
        assert "--config" in run([program, command, "--help"], tmp_path)
