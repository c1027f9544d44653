"""node and the packages of tests/clients/js, or the reason why there are none."""

import shutil
from pathlib import Path

from tests.support.server import ROOT
from tests.support.skipping import skip_or_fail

SCRIPTS = ROOT / "tests" / "clients" / "js"


def node_command(script: str, *arguments: str | Path) -> list[str]:
    """The command that runs a script of tests/clients/js; skips the test where node or a package is missing."""
    program = shutil.which("node")
    if program is None:
        skip_or_fail("node is not installed")
    # npm writes this file last, so an installation that broke off is not taken for one
    if not (SCRIPTS / "node_modules" / ".package-lock.json").exists():
        skip_or_fail(f"no npm packages; with a way to the npm registry: npm ci --ignore-scripts --prefix {SCRIPTS}")
    return [program, str(SCRIPTS / script), *map(str, arguments)]
