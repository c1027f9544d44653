"""What the master prepares at start and at a reload."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmacfs import boot
from hmacfs.telemetry import audit, logs
from tests.support.ports import free_port
from tests.support.server import SECRET, toml


class Master:
    """The part of the master that reads the configuration; ``log`` is its LogFile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "old.log"
        self._keys = {
            "ListenPort": f"127.0.0.1:{free_port()}",
            "MetricsEnabled": False,
            "Secret": SECRET,
            "StoreDir": str(folder / "store"),
            "StateDir": str(folder / "state"),
            "LogFile": str(self.log),
            "AuditLog": str(folder / "audit.log"),
        }

    def configured(self, **keys: str) -> None:
        """Start, or reload, with these keys changed."""
        self._keys |= keys
        (self.folder / "config.toml").write_text(toml(self._keys), encoding="utf-8")
        boot.gunicorn_options()


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    known = [logging.getLogger(name) for name in ("hmacfs", "gunicorn.error")]
    before = [(log, list(log.handlers), list(log.filters), log.propagate, log.level) for log in known]
    monkeypatch.setattr(boot, "_kept", boot._Kept())
    monkeypatch.setenv("HMACFS_CONFIG", str(tmp_path / "config.toml"))
    started = Master(tmp_path)
    started.configured()
    yield started
    for bound in boot._kept.bind:
        os.close(int(bound.removeprefix("fd://")))
    audit.configure("")
    logs.configure("info", "")
    for log, handlers, filters, propagate, level in before:
        log.handlers[:], log.filters[:], log.propagate = handlers, filters, propagate
        log.setLevel(level)


def told(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


@pytest.mark.parametrize(
    "broken",
    [{"AuditLog": "{folder}"}, {"SecretFile": "{folder}/missing", "Secret": ""}],
    ids=["audit log", "secret"],
)
def test_a_refused_reload_leaves_file_level_and_form_of_the_log_as_they_were(
    master: Master, broken: dict[str, str]
) -> None:
    wrong = {key: value.format(folder=master.folder) for key, value in broken.items()}

    master.configured(LogFile=str(master.folder / "new.log"), LogLevel="error", LogFormat="json", **wrong)
    logs.event(logging.INFO, "afterwards")

    assert "Reload refused, the old configuration stays" in told(master.log)
    assert told(master.log).splitlines()[-1].startswith("INFO[")
    assert told(master.log).endswith("] afterwards\n")
    assert told(master.folder / "new.log") == ""
    assert '"reason": "refused"' in told(master.folder / "audit.log")


def test_an_accepted_reload_switches_all_of_it(master: Master) -> None:
    new = master.folder / "new.log"

    master.configured(LogFile=str(new), LogFormat="json", AuditLog=str(master.folder / "new-audit.log"))
    logs.event(logging.INFO, "afterwards")

    assert '"message": "afterwards"' in told(new)
    assert "afterwards" not in told(master.log)
    assert '"reason": "accepted"' in told(master.folder / "new-audit.log")
    assert told(master.folder / "audit.log") == ""


def test_a_replaced_secret_is_told_in_the_log_that_the_reload_has_switched_to(master: Master) -> None:
    new = master.folder / "new.log"

    master.configured(LogFile=str(new), Secret=f"another-{SECRET}")

    assert "ecret" in told(new)
    assert SECRET not in told(new)
