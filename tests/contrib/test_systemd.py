"""contrib/systemd: the units are right for systemd, hardened, and explained line by line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hmacfs import configfile
from hmacfs.settings import Settings
from hmacfs.storage import boottag
from tests.support.sandbox import allowed_calls, directives, values
from tests.support.server import ROOT
from tests.support.servers import program

UNITS = ROOT / "contrib" / "systemd"
SERVICE, SOCKET, SWEEP, TIMER = (
    UNITS / name for name in ("hmacfs.service", "hmacfs.socket", "hmacfs-sweep.service", "hmacfs-sweep.timer")
)
INSTALLED = "/opt/hmacfs/.venv/bin/hmacfs"
MOST_EXPOSURE = 15
"""In tenths, as --threshold wants it."""


def hardening(unit: Path) -> list[tuple[str, str]]:
    lines = directives(unit)
    return lines[lines.index(("NoNewPrivileges", "yes")) :]


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """Copies of all units whose program exists on this machine."""
    found = []
    for unit in sorted(UNITS.iterdir()):
        copy = tmp_path / unit.name
        shutil.copy(unit, copy)
        copy.write_text(copy.read_text(encoding="utf-8").replace(INSTALLED, sys.executable), encoding="utf-8")
        found.append(str(copy))
    return found


def test_systemd_finds_nothing_wrong_with_the_units(installed: list[str]) -> None:
    command = [program("systemd-analyze"), "--no-pager", "verify", *installed]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(installed) == 4


@pytest.mark.parametrize("unit", [SERVICE, SWEEP], ids=lambda unit: unit.name)
def test_what_a_service_leaves_exposed_is_small(unit: Path) -> None:
    options = ["--no-pager", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}"]

    done = subprocess.run(
        [program("systemd-analyze"), *options, str(unit)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout
    assert float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[0]) <= MOST_EXPOSURE / 10


def test_every_hardening_line_is_explained() -> None:
    text = SERVICE.read_text(encoding="utf-8")
    lines = text[text.index("# --- Hardening") : text.index("[Install]")].splitlines()[2:]

    above = [(lines[number - 1], line) for number, line in enumerate(lines) if line and not line.startswith("#")]

    assert len(above) > 25
    explained = False
    for before, line in above:
        explained = before.startswith("# ") or (explained and bool(before))
        assert explained, line


def test_the_sweep_is_hardened_like_the_service() -> None:
    assert hardening(SWEEP) == hardening(SERVICE)
    for name in ("User", "Group", "StateDirectory", "StateDirectoryMode", "UMask"):
        assert values(SWEEP, name) == values(SERVICE, name)


@pytest.mark.parametrize("unit", [SERVICE, SWEEP], ids=lambda unit: unit.name)
def test_a_service_that_cannot_see_the_boots_id_is_told_it(unit: Path) -> None:
    assert values(unit, "ProcSubset") == ["pid"]
    assert "BOOT_ID_FOR_HMACFS=%b" in values(unit, "Environment")


def test_systemd_tells_the_boots_id_as_the_server_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "expand.conf").write_text(f"f {tmp_path}/expanded 0600 - - - %b\n", encoding="utf-8")
    command = [program("systemd-tmpfiles"), "--create", str(tmp_path / "expand.conf")]
    subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    seen = boottag.boot_tag()

    monkeypatch.setattr(boottag, "_BOOT_ID", "/proc/self/hidden")
    monkeypatch.setenv("BOOT_ID_FOR_HMACFS", (tmp_path / "expanded").read_text(encoding="ascii"))

    assert boottag.boot_tag() == seen


def test_the_drain_ends_before_systemd_loses_patience() -> None:
    (allowed,) = values(SERVICE, "TimeoutStopSec")

    # gunicorn kills its workers 5 s behind the drain, and needs a moment to end itself.
    assert int(allowed.removesuffix("s")) >= Settings().graceful_shutdown_timeout + 5 + 5


def test_the_master_alone_is_told_to_stop_and_tells_when_it_is_ready() -> None:
    assert values(SERVICE, "KillMode") == ["mixed"]
    assert values(SERVICE, "Type") == ["notify"]
    assert values(SERVICE, "NotifyAccess") == ["main"]


def test_a_reload_asks_first_whether_the_configuration_would_serve() -> None:
    check, signal = values(SERVICE, "ExecReload")

    assert check.endswith(f"{INSTALLED} check --config /etc/hmacfs/config.toml")
    assert signal == "/bin/kill -HUP $MAINPID"


def test_the_sockets_are_the_listeners_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('ListenPort = "127.0.0.1:8080"\n', encoding="utf-8")

    loaded = configfile.load(str(config), {}).settings

    assert values(SOCKET, "ListenStream", "Socket") == [str(loaded.listen_port), str(loaded.metrics_port)]


def test_a_filter_of_system_calls_is_read_as_systemd_reads_it() -> None:
    allowed = allowed_calls(values(SERVICE, "SystemCallFilter"))

    assert {"openat2", "accept4", "sendfile", "fsync", "linkat"} <= allowed
    assert not {"mount", "chown", "setuid", "ptrace", "setrlimit", "reboot", "bpf"} & allowed
