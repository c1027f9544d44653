"""A log file that cannot be written costs lines, and nothing else."""

import io
import logging
import os
import stat
from pathlib import Path

import pytest

from hmacfs.telemetry import linefile
from hmacfs.telemetry.linefile import LineFile, LineStream


@pytest.fixture
def told() -> list[str]:
    return []


def test_lines_of_both_ways_are_in_the_file_at_once(tmp_path: Path, told: list[str]) -> None:
    file = LineFile(str(tmp_path / "log"), "LogFile", told.append)

    file.write("first")
    file.handle(logging.makeLogRecord({"msg": "second"}))

    assert (tmp_path / "log").read_text(encoding="utf-8") == "first\nsecond\n"
    assert told == []
    file.close()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_encoding_of_a_stream_has_not_is_escaped(encoding: str) -> None:
    raw = io.BytesIO()
    out = LineStream(io.TextIOWrapper(raw, encoding=encoding))

    out.write("a/日本.txt \udc80")
    out.handle(logging.makeLogRecord({"msg": "b/日本.txt"}))

    shown = "日本" if encoding == "utf-8" else "\\u65e5\\u672c"
    assert raw.getvalue().decode(encoding) == f"a/{shown}.txt \\udc80\nb/{shown}.txt\n"


def test_a_stream_that_is_closed_loses_the_line_and_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    out = LineStream(stream)
    stream.close()

    out.write("lost")

    assert "Logging error" in capsys.readouterr().err


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o077, 0o600), (0, 0o640)])
def test_a_new_file_is_closed_to_others_whatever_the_umask_and_stays_so_when_opened_anew(
    umask: int, mode: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        file = LineFile(str(tmp_path / "log"), "LogFile")
        os.rename(tmp_path / "log", tmp_path / "log.1")
        file.reopen()
    finally:
        os.umask(before)

    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("log", "log.1")] == [mode, mode]
    file.close()


def test_a_file_that_is_there_keeps_the_mode_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "log").touch(mode=0o644)
    (tmp_path / "log").chmod(0o604)

    LineFile(str(tmp_path / "log"), "LogFile").close()

    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o604


def test_a_full_disk_is_told_once_a_minute_and_raises_nothing(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = [100.0]
    monkeypatch.setattr(linefile.time, "monotonic", lambda: times[0])
    file = LineFile("/dev/full", "AuditLog", told.append)

    for moment in (100.0, 100.0, 159.0, 161.0):
        times[0] = moment
        file.write("x")
        file.handle(logging.makeLogRecord({"msg": "y"}))

    assert told == ["AuditLog: /dev/full cannot be written (No space left on device), lines are lost"] * 2
    file.stream.buffer.raw.close()  # what it holds can go nowhere
    file.stream = None  # type: ignore[assignment]


def test_where_the_new_file_cannot_be_opened_the_old_one_is_written_on_until_it_can(
    tmp_path: Path, told: list[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = LineFile(str(folder / "log"), "LogFile", told.append)
    os.rename(folder, tmp_path / "moved")

    file.reopen()
    file.write("in the old one")
    folder.mkdir()
    file.write("in the new one")
    file.write("and the next")

    assert (tmp_path / "moved" / "log").read_text(encoding="utf-8") == "in the old one\n"
    assert (folder / "log").read_text(encoding="utf-8") == "in the new one\nand the next\n"
    assert told == [
        f"LogFile: {folder / 'log'} cannot be opened anew (No such file or directory), the old file is written on"
    ]
    file.close()


def test_what_a_full_disk_has_not_taken_does_not_keep_the_new_file_from_being_opened(
    tmp_path: Path, told: list[str]
) -> None:
    os.symlink("/dev/full", tmp_path / "log")
    file = LineFile(str(tmp_path / "log"), "AuditLog", told.append)
    file.write("lost")
    os.unlink(tmp_path / "log")

    file.reopen()
    file.write("kept")

    assert (tmp_path / "log").read_text(encoding="utf-8") == "kept\n"
    assert len(told) == 1
    file.close()


def test_half_of_a_character_is_lost_without_an_error(tmp_path: Path, told: list[str]) -> None:
    file = LineFile(str(tmp_path / "log"), "LogFile", told.append)

    file.write("half \udc80")
    file.write("whole")

    assert (tmp_path / "log").read_text(encoding="utf-8") == "whole\n"
    assert len(told) == 1
    file.close()
