"""What the sweeps found, as Markdown for people."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.server import ROOT


def write_table(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write ``name``.md into the folder that HMACFS_PROVE_OUT names (docs/prove), with commit and date."""
    folder = Path(os.environ.get("HMACFS_PROVE_OUT") or ROOT / "docs" / "prove")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"# {title}",
        "",
        f"Commit {_commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} processors, "
        f"Linux {platform.release()}, Python {platform.python_version()}.",
        "",
        _row(columns),
        _row(["---"] * len(columns)),
        *(_row(row) for row in rows),
        "",
    ]
    (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
