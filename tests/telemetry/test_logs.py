"""Log lines: one for each event, impossible to forge, without secrets, in a file that logrotate may move."""

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.errors import ConfigError, StorageFailed
from hmacfs.server.reopening import ReopeningLogger
from hmacfs.services.observer import Exchange
from hmacfs.telemetry import logs
from hmacfs.telemetry.lines import TextFormatter
from hmacfs.telemetry.logs import LogObserver, NoRequestText

LINE = re.compile(r"(INFO|WARN|ERROR|DEBUG)\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\] ")


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    known = [logging.getLogger(name) for name in ("hmacfs", "gunicorn.error", "gunicorn.access")]
    before = [(log, list(log.handlers), list(log.filters), log.propagate, log.level) for log in known]
    yield
    for log, handlers, filters, propagate, level in before:
        for handler in log.handlers:
            if handler not in handlers:
                handler.close()
        log.handlers[:], log.filters[:], log.propagate = handlers, filters, propagate
        log.setLevel(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def record(message: str, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("hmacfs", level, __file__, 1, message, (), None)
    made.created = 1729772096.789
    made.fields = fields
    return made


def formatted(message: str, level: int = logging.INFO, **fields: Any) -> str:
    return TextFormatter().format(record(message, level, **fields))


# --- the form ---


def test_a_line_is_level_time_message_and_fields_in_their_order() -> None:
    line = formatted("Upload completed: a/b", size=5, client="::1", none=None)

    assert line == "INFO[2024-10-24T12:14:56Z] Upload completed: a/b size=5 client=::1 none=None"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "ERROR"),
    ],
)
def test_a_level_has_one_name(level: int, name: str) -> None:
    assert formatted("x", level) == f"{name}[2024-10-24T12:14:56Z] x"


def test_a_record_without_fields_is_a_line_too() -> None:
    bare = logging.LogRecord("gunicorn.error", logging.INFO, __file__, 1, "Booting worker with pid: %s", (7,), None)

    assert TextFormatter().format(bare).endswith("Z] Booting worker with pid: 7")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("line\nbreak", '"line\\nbreak"'),
        ("\r\n", '"\\r\\n"'),
        ("tab\t", '"tab\\t"'),
        ("\x00\x07", '"\\u0000\\u0007"'),
        ("\x1b[31mred\x1b[0m", '"\\u001b[31mred\\u001b[0m"'),
        ("del\x7f", '"del\\x7f"'),
        ("c1\x85\x9b", '"c1\\x85\\x9b"'),
        ("sep\u2028\u2029", '"sep\\u2028\\u2029"'),
        ("rtl\u202e", '"rtl\\u202e"'),
        ("half\udc80", '"half\\udc80"'),
        ("Köln", "Köln"),
        ("\N{SNOWMAN}", "\N{SNOWMAN}"),
    ],
)
def test_a_value_that_could_confuse_is_quoted_and_escaped(value: str, shown: str) -> None:
    assert formatted("x", key=value).partition("key=")[2] == shown


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_forges_or_splits_a_line(message: str, value: str) -> None:
    line = formatted(message.replace("%", "%%"), key=value)

    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert LINE.match(line)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_value_cannot_look_like_another_field(value: str, other: str) -> None:
    line = formatted("x", key=value, other="end")

    shown = line.partition("key=")[2].removesuffix(" other=end")
    if shown.startswith('"'):
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', shown)
    else:
        assert " " not in shown
        assert "=" not in shown


def test_a_trace_is_indented_so_that_no_row_looks_like_an_event() -> None:
    try:
        raise ValueError("first\nINFO[2024-10-24T12:14:56Z] forged\x1b[2J")
    except ValueError:
        failed = logging.LogRecord("hmacfs", logging.ERROR, __file__, 1, "Unforeseen", (), sys.exc_info())

    rows = TextFormatter().format(failed).split("\n")

    assert LINE.match(rows[0])
    assert len(rows) > 3
    assert all(row.startswith("    ") and row.isprintable() for row in rows[1:])


# --- what gunicorn writes ---


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Error handling request %s", ("/upload/a/b?v=SECRETMAC",)),
        ("Error handling request %s %s", ("PUT", "/upload/a/b?v=SECRETMAC")),
        ("Invalid request from ip=127.0.0.1: Invalid HTTP request line: 'PUT /a?v=SECRETMAC'", ()),
        ("Invalid request from ip=%s: %s", ("::1", "Invalid header '?v=SECRETMAC'")),
        ("Invalid request from ip=None: Invalid Method 'SECRETMAC'", ()),
    ],
)
def test_gunicorn_s_messages_lose_the_client_s_own_words(message: str, arguments: tuple[str, ...]) -> None:
    made = logging.LogRecord("gunicorn.error", logging.WARNING, __file__, 1, message, arguments, None)

    assert NoRequestText().filter(made)

    assert "SECRETMAC" not in TextFormatter().format(made)
    assert made.getMessage().startswith(message.split(" ")[0])


@pytest.mark.parametrize("message", ["Booting worker with pid: 7", "Handling signal: hup", "Socket error processing"])
def test_gunicorn_s_other_messages_stay_as_they_are(message: str) -> None:
    made = logging.LogRecord("gunicorn.error", logging.INFO, __file__, 1, message, (), None)

    assert NoRequestText().filter(made)
    assert made.getMessage() == message


def test_a_query_string_in_gunicorn_s_log_never_reaches_the_file(file: Path) -> None:
    logs.configure("info", str(file))

    logging.getLogger("gunicorn.error").error("Error handling request %s", "/upload/a?v2=SECRETMAC")

    assert len(lines(file)) == 1
    assert "SECRETMAC" not in lines(file)[0]


# --- configuring ---


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["DEBUG", "INFO", "WARN", "ERROR"]),
        ("info", ["INFO", "WARN", "ERROR"]),
        ("warn", ["WARN", "ERROR"]),
        ("error", ["ERROR"]),
    ],
)
def test_a_level_lets_through_itself_and_what_is_worse(file: Path, level: str, expected: list[str]) -> None:
    logs.configure(level, str(file))

    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logs.event(number, "x")

    assert [line.partition("[")[0] for line in lines(file)] == expected


def test_an_empty_name_means_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "")

    logs.event(logging.INFO, "hello", key="a b")

    captured = capsys.readouterr()
    assert captured.out.endswith('] hello key="a b"\n')
    assert captured.err == ""


def test_configuring_again_writes_every_line_once(file: Path) -> None:
    logs.configure("info", str(file))
    logs.configure("info", str(file))

    logs.event(logging.INFO, "hello")

    assert logs.is_configured()
    assert len(lines(file)) == 1


def test_nothing_of_ours_reaches_the_root_logger(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs.configure("info", str(file))

    logs.event(logging.INFO, "hello")
    logging.getLogger("gunicorn.error").error("hello")

    assert caplog.records == []
    assert len(lines(file)) == 2


def test_a_log_file_is_appended_to(file: Path) -> None:
    file.write_text("before\n", encoding="utf-8")
    logs.configure("info", str(file))

    logs.event(logging.INFO, "hello")

    assert lines(file)[0] == "before"
    assert len(lines(file)) == 2


def test_a_file_that_cannot_be_opened_is_told_and_the_old_log_stays(file: Path, tmp_path: Path) -> None:
    logs.configure("info", str(file))

    with pytest.raises(ConfigError) as caught:
        logs.configure("info", str(tmp_path / "missing" / "x.log"))
    logs.event(logging.INFO, "hello")

    (problem,) = caught.value.problems
    assert problem.startswith(f"LogFile: {tmp_path / 'missing' / 'x.log'} cannot be written")
    assert len(lines(file)) == 1


def test_after_logrotate_and_a_signal_to_gunicorn_the_new_file_is_written(file: Path) -> None:
    server = ReopeningLogger(Config())
    logs.configure("info", str(file))
    logs.event(logging.INFO, "before")
    file.rename(file.with_suffix(".1"))
    logs.event(logging.INFO, "still the old one")

    server.reopen_files()  # what gunicorn does on SIGUSR1
    logs.event(logging.INFO, "after")
    logging.getLogger("gunicorn.error").error("gunicorn after")

    assert [line.partition("] ")[2] for line in lines(file.with_suffix(".1"))] == ["before", "still the old one"]
    assert [line.partition("] ")[2] for line in lines(file)] == ["after", "gunicorn after"]


def test_a_log_that_cannot_be_opened_anew_goes_on_in_the_old_file_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, moved = tmp_path / "log", tmp_path / "moved"
    folder.mkdir()
    server = ReopeningLogger(Config())
    logs.configure("info", str(folder / "server.log"))
    folder.rename(moved)

    server.reopen_files()
    logs.event(logging.INFO, "after")

    said, after = lines(moved / "server.log")
    assert "cannot be opened anew (No such file or directory), the old file is written on" in said
    assert after.endswith("] after")
    assert capsys.readouterr().err.count("cannot be opened anew") == 1


# --- the observer ---


def exchange(**changed: Any) -> Exchange:
    given: dict[str, Any] = {"method": "PUT", "path": "a/b", "client": "192.0.2.1", "status": 201}
    given |= {"request_id": "0123-45", **changed}
    return Exchange(**given)


def test_an_answer_is_one_line(file: Path) -> None:
    logs.configure("info", str(file))

    LogObserver().answered(exchange(received=5, sent=0, seconds=0.0125, protocol="v2"))

    (line,) = lines(file)
    assert line.partition("] ")[2].replace("0.012", "0.013") == (
        "Incoming request: PUT a/b status=201 received=5 sent=0 seconds=0.013 client=192.0.2.1 protocol=v2 "
        "request_id=0123-45"
    )


def test_a_refusal_tells_its_code_and_detail(file: Path) -> None:
    logs.configure("info", str(file))

    LogObserver().answered(exchange(status=400, code="body-truncated", detail="4 of 5 bytes arrived", client=""))

    (line,) = lines(file)
    assert 'status=400 code=body-truncated detail="4 of 5 bytes arrived"' in line
    assert "client=- " in line


def test_a_method_cannot_forge_a_line(file: Path) -> None:
    logs.configure("info", str(file))

    LogObserver().answered(exchange(method="G\nINFO[x] T"))

    assert len(lines(file)) == 1
    assert "Incoming request: G%0AINFO[x]%20T a/b" in lines(file)[0]


def test_a_refused_signature_tells_why_and_every_hint(file: Path) -> None:
    logs.configure("info", str(file))

    LogObserver().signature_refused(
        exchange(protocol="v2", hints=("first hint", "second: x=y")), "wrong", 5, "image/png; a=b\x1b"
    )

    (line,) = lines(file)
    assert line.startswith("WARN[")
    assert line.partition("] ")[2] == (
        'Signature refused reason=wrong protocol=v2 path=a/b size=5 type="image/png; a=b\\u001b" '
        'hint1="first hint" hint2="second: x=y" request_id=0123-45 client=192.0.2.1'
    )


def test_a_completed_upload_is_one_line(file: Path) -> None:
    logs.configure("info", str(file))

    LogObserver().upload_completed("a/b%20c", 5, 1.26)
    LogObserver().upload_completed("size=7", 5, 1.26)

    assert [line.partition("] ")[2] for line in lines(file)] == [
        "Upload completed: a/b%20c in 1.3s size=5",
        'Upload completed: "size=7" in 1.3s size=5',
    ]


@pytest.mark.parametrize(
    ("detail", "advice"), [("EACCES: Permission denied", "change its owner"), ("EIO: Input/output error", "the disk")]
)
def test_a_failure_of_the_storage_is_one_line_with_advice(file: Path, detail: str, advice: str) -> None:
    logs.configure("info", str(file))

    LogObserver().failed(exchange(), StorageFailed(detail))

    (line,) = lines(file)
    assert line.startswith("ERROR[")
    assert detail in line
    assert advice in line


def test_an_unforeseen_failure_is_told_with_its_trace(file: Path) -> None:
    logs.configure("info", str(file))
    try:
        raise RuntimeError("EIO: Input/output error")
    except RuntimeError as error:
        LogObserver().failed(exchange(), error)

    assert lines(file)[0].startswith("ERROR[")
    assert lines(file)[0].endswith("PUT a/b request_id=0123-45")
    assert any("EIO: Input/output error" in line for line in lines(file)[1:])


def test_a_version_that_was_pushed_out_is_told_with_its_size_and_what_that_freed(file: Path) -> None:
    logs.configure("info", str(file))

    LogObserver().version_removed("a/b%20c", 3, 90112, 0, "MaxVersions")

    (line,) = lines(file)
    assert line.endswith("Version removed: a/b%20c version=3 size=90112 freed=0 reason=MaxVersions")


def test_a_sweep_that_failed_names_the_path(file: Path) -> None:
    logs.configure("info", str(file))
    failure = StorageFailed("ENOTDIR: Not a directory")
    failure.__cause__ = NotADirectoryError(20, "Not a directory", b"/store/.hmacfs/versions/.nfs 1")

    LogObserver().sweep_failed(failure)
    LogObserver().sweep_failed(StorageFailed("EIO: Input/output error"))

    named, nameless = lines(file)
    assert 'detail="ENOTDIR: Not a directory" path=/store/.hmacfs/versions/.nfs%201' in named
    assert "path=" not in nameless


def test_a_sweep_that_failed_for_a_reason_unforeseen_is_told_with_its_trace(file: Path) -> None:
    logs.configure("info", str(file))
    try:
        raise OverflowError("cannot convert float infinity to integer")
    except OverflowError as error:
        LogObserver().sweep_failed(error)

    assert lines(file)[0].endswith("Sweep failed, the next one tries again")
    assert any("float infinity" in line for line in lines(file)[1:])


def test_a_log_on_a_full_disk_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logs.configure("info", "/dev/full")

    logs.LogObserver().answered(Exchange("GET", "a", "", 200))

    for handler in logs.LOGGER.handlers:
        assert isinstance(handler, logging.FileHandler)
        handler.stream.buffer.raw.close()  # what it holds can go nowhere
        handler.stream = None
