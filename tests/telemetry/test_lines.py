"""The two forms of a line: the same events and fields, and nothing that a client sends can forge either."""

import json
import logging
import re
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmacfs.core import paths
from hmacfs.services.observer import Exchange
from hmacfs.telemetry.lines import FORMS, JsonFormatter

TEXT, JSON = FORMS["text"], FORMS["json"]
ANYTHING = st.text(max_size=40) | st.sampled_from(
    ["\n", "\u2028", "\x85", "\x1b[2J", "\u202e", "\udc80", '"', "\\", "\x7f"]
)


def parsed(line: str) -> dict[str, Any]:
    """The object of a line, which nobody could take for two lines or for something else."""
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert isinstance(found, dict)
    line.encode()
    json.dumps(found, ensure_ascii=False).encode()  # no half of a surrogate pair
    return found


def formatted(message: str, level: int = logging.INFO, **fields: Any) -> dict[str, Any]:
    made = logging.LogRecord("hmacfs", level, __file__, 1, message, (), None)
    made.created = 1729772096.789
    made.fields = fields
    return parsed(JsonFormatter().format(made))


def exchange(**changed: Any) -> Exchange:
    given: dict[str, Any] = {"method": "PUT", "path": "a/b", "client": "192.0.2.1", "status": 201, "seconds": 0.0126}
    return Exchange(**(given | {"received": 5, "sent": 2, "protocol": "v2", "request_id": "0123-45"} | changed))


def test_a_json_line_is_time_level_message_and_fields() -> None:
    found = formatted("Upload completed: a/b", size=5, client="::1", is_small=True, ratio=0.5)

    assert found == {
        "time": "2024-10-24T12:14:56Z",
        "level": "info",
        "message": "Upload completed: a/b",
        "size": 5,
        "client": "::1",
        "is_small": True,
        "ratio": 0.5,
    }


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (logging.WARNING, "warn"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "error"),
    ],
)
def test_a_level_is_spelled_as_in_log_level(level: int, name: str) -> None:
    assert formatted("x", level)["level"] == name


def test_no_field_takes_the_place_of_time_level_or_message() -> None:
    made = logging.LogRecord("hmacfs", logging.INFO, __file__, 1, "real", (), None)
    made.created = 1729772096.789
    made.fields = dict.fromkeys(("time", "level", "message"), "forged")

    found = parsed(JsonFormatter().format(made))

    assert (found["time"], found["level"], found["message"]) == ("2024-10-24T12:14:56Z", "info", "real")


@given(ANYTHING, ANYTHING)
def test_no_text_forges_or_splits_a_json_line(message: str, value: str) -> None:
    found = formatted(message.replace("%", "%%"), key=value)

    assert set(found) == {"time", "level", "message", "key"}


@given(ANYTHING, ANYTHING)
def test_the_short_way_to_a_json_line_is_as_safe(message: str, value: str) -> None:
    found = parsed(JSON.line("INFO", message, {"key": value}))

    assert set(found) == {"time", "level", "message", "key"}


def test_a_trace_is_one_field() -> None:
    try:
        raise ValueError("first\nforged\x1b[2J")
    except ValueError:
        failed = logging.LogRecord("hmacfs", logging.ERROR, __file__, 1, "Unforeseen", (), sys.exc_info())

    found = parsed(JsonFormatter().format(failed))

    assert set(found) == {"time", "level", "message", "trace"}
    assert "ValueError: first\nforged" in found["trace"]


def test_a_request_line_has_all_its_fields_in_both_forms() -> None:
    text, found = TEXT.request(exchange(), "PUT"), parsed(JSON.request(exchange(), "PUT"))

    expected = {"status": 201, "received": 5, "sent": 2, "seconds": 0.013, "client": "192.0.2.1", "protocol": "v2"}
    expected |= {"request_id": "0123-45"}
    core = {"level": "info", "message": "Incoming request: PUT a/b", "method": "PUT", "path": "a/b"}
    assert found == {"time": found["time"]} | core | expected
    assert text.partition("] ")[2] == " ".join(
        ["Incoming request: PUT a/b", *(f"{key}={value}" for key, value in expected.items())]
    )


def test_a_refusal_has_its_code_and_detail_in_both_forms() -> None:
    refused = exchange(status=400, code="body-truncated", detail='4 of "5"\n bytes\udc80', client="")

    text, found = TEXT.request(refused, "PUT"), parsed(JSON.request(refused, "PUT"))

    assert (found["code"], found["client"]) == ("body-truncated", "-")
    assert found["detail"] == '4 of "5"\n bytes\\udc80'
    assert ' code=body-truncated detail="4 of \\"5\\"\\n bytes\\udc80" received=' in text


@given(st.binary(max_size=60), st.text(max_size=20), ANYTHING)
def test_no_path_method_or_detail_forges_a_request_line(raw: bytes, method: str, detail: str) -> None:
    shown = paths.shown(method.encode("utf-8", "replace"))
    asked = exchange(path=paths.shown(raw), status=400, code="bad-path", detail=detail)

    text, found = TEXT.request(asked, shown), parsed(JSON.request(asked, shown))

    assert text.isprintable()
    assert text.count(" status=400 code=bad-path") == 1
    assert (found["method"], found["path"], found["status"]) == (shown, paths.shown(raw), 400)
    assert found["message"] == f"Incoming request: {shown} {paths.shown(raw)}"


WORD = r'(?:"(?:[^"\\]|\\.)*"|[^\s"=]+)'
REQUEST_LINE = re.compile(rf"INFO\[\S+\] Incoming request: (\S+) ({WORD})((?: [a-z_]+={WORD})+)")


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([b"=", b"status=201", b"client=::1", b" ", b'"', b"\\", b"/", b"a"])).map(b"".join),
    )
)
@example(b"status=201")
@example(b"")
def test_a_request_line_reads_back_whatever_its_path_looks_like(raw: bytes) -> None:
    shown = paths.shown(raw)

    text = TEXT.request(exchange(path=shown, status=404, code="not-found"), "GET")

    found = REQUEST_LINE.fullmatch(text)
    assert found is not None
    method, path, rest = found.groups()
    assert (method, json.loads(path) if path.startswith('"') else path) == ("GET", shown)
    names = ["status", "code", "received", "sent", "seconds", "client", "protocol", "request_id"]
    assert re.findall(rf" ([a-z_]+)={WORD}", rest) == names
    assert rest.startswith(" status=404 ")


@pytest.mark.parametrize(("path", "shown"), [("a/b", "a/b"), ("a/b=c", '"a/b=c"'), ("", '""')])
def test_only_a_path_that_could_be_taken_for_a_field_stands_in_quotes_and_only_in_text(path: str, shown: str) -> None:
    assert (TEXT.path(path), JSON.path(path)) == (shown, path)
