"""What the audit log says of each change."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.errors import ConfigError
from hmacfs.telemetry import audit
from hmacfs.telemetry.audit import AuditObserver
from hmacfs.telemetry.linefile import LineFile

CHANGES: list[tuple[Callable[[AuditObserver], None], dict[str, Any]]] = [
    (lambda it: it.upload_completed("a/b", 5, 0.1), {"event": "upload", "path": "a/b", "size": 5}),
    (
        lambda it: it.upload_completed("a/b", 0, 0.1, "romeo@example.org"),
        {"event": "upload", "path": "a/b", "size": 0, "uploader": "romeo@example.org"},
    ),
    (
        lambda it: it.upload_completed("a/b", 5, 0.1, "", "192.0.2.1"),
        {"event": "upload", "path": "a/b", "size": 5, "address": "192.0.2.1"},
    ),
    (
        lambda it: it.file_removed("a/b", 5, "DELETE", 0, "192.0.2.1"),
        {"event": "delete", "path": "a/b", "size": 5, "reason": "DELETE", "address": "192.0.2.1"},
    ),
    (
        lambda it: it.file_removed("a/b", 5, "FileTTL", 0),
        {"event": "delete", "path": "a/b", "size": 5, "reason": "FileTTL"},
    ),
    (
        lambda it: it.file_removed("a/b", 5, "FileTTL", 3),
        {"event": "delete", "path": "a/b", "size": 5, "reason": "FileTTL", "version": 3},
    ),
    (
        lambda it: it.version_removed("a/b", 2, 5, 0, "MaxVersions"),
        {"event": "delete", "path": "a/b", "size": 5, "reason": "MaxVersions", "version": 2},
    ),
    (lambda it: it.swept(9, 90, 2, 20, 0.5), {"event": "sweep", "files": 9, "stored": 90, "removed": 2, "freed": 20}),
    (
        lambda it: it.banned("192.0.2.0", 300, 1),
        {"event": "ban", "address": "192.0.2.0", "seconds": 300, "times": 1, "reason": "wrong signatures"},
    ),
    (
        lambda it: it.banned("192.0.2.0", 0, 2),
        {"event": "ban", "address": "192.0.2.0", "seconds": "until-lifted", "times": 2, "reason": "wrong signatures"},
    ),
    (lambda it: it.bans_lifted(3), {"event": "lift", "count": 3, "reason": "the secret has changed"}),
]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    audit.configure(str(tmp_path / "audit.log"))
    yield tmp_path / "audit.log"
    audit.configure("")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="ascii").splitlines()]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_is_one_line(file: Path, change: Callable[[AuditObserver], None], expected: dict[str, Any]) -> None:
    change(AuditObserver())

    (line,) = lines(file)
    assert line.pop("time").endswith("Z")
    assert line == expected


def test_no_uploader_forges_a_line(file: Path) -> None:
    AuditObserver().upload_completed("a", 1, 0.1, 'x"}\n{"event": "forged"}\u2028\x1b[2J\udc80')

    (line,) = lines(file)
    assert line["event"] == "upload"


def test_without_a_file_nothing_is_written_anywhere(capfd: pytest.CaptureFixture[str]) -> None:
    audit.configure("")

    AuditObserver().bans_lifted(1)

    assert capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_opened_is_told_and_the_old_one_stays(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        audit.configure(str(tmp_path / "missing" / "audit.log"))
    audit.write("reload", reason="refused")

    assert caught.value.problems[0].startswith(f"AuditLog: {tmp_path / 'missing' / 'audit.log'} cannot be written")
    assert len(lines(file)) == 1


def test_configuring_again_writes_every_line_once(file: Path) -> None:
    audit.configure(str(file))

    audit.write("reload", reason="accepted")

    assert len(lines(file)) == 1


def test_it_hangs_on_a_named_logger_and_reaches_no_other_log(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit.write("reload", reason="accepted")

    handlers = logging.getLogger("hmacfs.audit").handlers
    assert [type(each).__base__ for each in handlers if isinstance(each, LineFile)] == [logging.FileHandler]
    assert caplog.records == []
