"""What a server tells of itself: in which form, how often, and how it keeps its memory tidy."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hmacfs import __version__
from tests.support.http import get, put, request
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import WRONG

SWIFT = {"hmacfs.server.worker:_TICK_SECONDS": 0.05}
"""Workers look five times a second what is due, instead of once."""

REQUEST_FIELDS = ["status", "received", "sent", "seconds", "client", "protocol", "request_id"]


def objects(server: Server, message: str) -> list[dict[str, Any]]:
    """Lines of a JSON log whose message begins like that."""
    found = [json.loads(line) for line in server.output().split("\n")[:-1]]
    return [each for each in found if each["message"].startswith(message)]


def test_log_format_json_is_one_object_a_line_with_the_events_and_fields_of_text(tmp_path: Path) -> None:
    told: dict[str, dict[str, list[str]]] = {}
    for form in ("text", "json"):
        (tmp_path / form).mkdir()
        with Server(tmp_path / form, LogFormat=form, FileTTL="30d") as server:
            put(server, "a/ä b", b"hello", "text/plain")
            request(server, "PUT", f"/upload/a/b?{WRONG}", [("Content-Length", "0")])
            get(server, "a/none")
            for last in ("Incoming request: GET a/none", "State tier: "):
                until(lambda last=last: server.lines(last), "all is logged")  # type: ignore[misc]
            lines = server.output().split("\n")[:-1]
        told[form] = told_by_json(lines) if form == "json" else told_by_text(lines)

    assert told["json"] == told["text"]
    assert f"Starting HMAC File Server - v{__version__}" in told["json"]
    assert "Retention: files are deleted 30d after they were stored (FileTTL)" in told["json"]
    assert "State tier: embedded serves" in told["json"]
    assert told["json"]["Incoming request: PUT a/ä%20b"] == REQUEST_FIELDS
    assert told["json"]["Incoming request: GET a/none"] == ["status", "code", *REQUEST_FIELDS[1:]]
    assert {"reason", "request_id", "client"} <= set(told["json"]["Signature refused"])
    assert "Upload completed: a/ä%20b" in told["json"]


def told_by_json(lines: list[str]) -> dict[str, list[str]]:
    """Messages to their fields; nothing but objects."""
    found = {}
    for each in map(json.loads, lines):
        assert list(each)[:3] == ["time", "level", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each["time"])
        named = [key for key in list(each)[3:] if key not in ("method", "path") or "Incoming" not in each["message"]]
        found[kind_of(each["message"])] = named
    return found


def told_by_text(lines: list[str]) -> dict[str, list[str]]:
    found = {}
    for line in lines:
        if match := re.fullmatch(r"(?:INFO|WARN)\[[^]]+\] (.*?)((?: [a-z_0-9]+=(?:\"[^\"]*\"|\S+))*)", line):
            found[kind_of(match[1])] = re.findall(r" ([a-z_0-9]+)=", match[2])
    return found


def kind_of(message: str) -> str:
    """A message without what differs from run to run, and without the quotes that text has for an empty path."""
    return re.sub(r'127\.0\.0\.1:\d+| in \d.*|""', "", message)


def test_log_format_is_changed_by_a_reload(tmp_path: Path) -> None:
    with Server(tmp_path, LogFile=str(tmp_path / "log")) as server:
        put(server, "before", b"x")
        server.write_config(LogFormat="json")
        server.signal(1)

        def is_json() -> bool:
            put(server, "after", b"x")
            last = (tmp_path / "log").read_text(encoding="utf-8").split("\n")[-2]
            return last.startswith('{"time": ') and "after" in json.loads(last)["message"]

        until(is_json, "the new workers write JSON")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_request_keeps_the_id_that_a_trusted_proxy_gave_it(tmp_path: Path, form: str) -> None:
    with Server(tmp_path, LogFormat=form) as server:
        refused = request(
            server, "PUT", f"/upload/x?{WRONG}", [("Content-Length", "0"), ("X-Request-ID", "from-proxy-1")]
        )
        made = get(server, "none")
        until(lambda: server.lines(made["X-Request-ID"]), "both are logged")

        lines = server.lines("from-proxy-1")

    assert refused["X-Request-ID"] == "from-proxy-1"
    assert [any(text in line for line in lines) for text in ("Signature refused", "Incoming request")] == [True, True]
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", made["X-Request-ID"])


def test_monitor_interval_brings_one_line_for_all_workers_and_counts_what_each_answered(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2, MonitorInterval=1, LogFormat="json", LogLevel="debug", constants=SWIFT) as server:
        for number in range(40):
            put(server, f"load/{number}", b"x")

        def lines() -> list[dict[str, Any]]:
            return objects(server, "Status")

        asked = len(server.lines("Incoming request"))
        until(lambda: sum(each["requests"] for each in lines()) >= asked, "every request is in a line")
        until(lambda: lines()[-1]["requests"] == 0, "the server has come to rest")
        begun = len(lines())
        until(lambda: len(lines()) >= begun + 4, "four more lines")
        found = lines()

    assert sum(each["requests"] for each in found) == len(server.lines("Incoming request"))
    assert {each["level"] for each in found if each["requests"]} == {"info"}
    assert {each["level"] for each in found if not each["requests"]} == {"debug"}
    assert all(each["memory"] > 20_000_000 and each["greenlets"] > 0 for each in found)
    moments = [each["time"] for each in found[begun:]]
    assert len(set(moments)) >= len(moments) - 1  # one in a second, for both workers


def test_monitor_interval_of_0_is_silent(tmp_path: Path) -> None:
    with Server(tmp_path, MonitorInterval=0, GCInterval=1, LogLevel="debug", constants=SWIFT) as server:
        until(lambda: len(server.lines("Garbage collection completed.")) >= 3, "the worker has ticked for a while")

        assert server.lines("] Status ") == []


def test_gc_interval_collects_in_every_worker_and_tells_its_pause(tmp_path: Path) -> None:
    with Server(tmp_path, NumCores=2, GCInterval=1, LogFormat="json", LogLevel="debug", constants=SWIFT) as server:
        pids = set(server.worker_pids())
        until(
            lambda: {each["pid"] for each in objects(server, "Garbage collection completed.")} == pids,
            "both workers have collected",
        )
        begun, done = objects(server, "Running manual garbage"), objects(server, "Garbage collection completed.")

    assert begun[0]["message"] == "Running manual garbage collection..."
    assert done[0]["message"] == "Garbage collection completed."
    assert {each["level"] for each in (*begun, *done)} == {"debug"}
    assert all(0 <= each["seconds"] < 10 for each in done)


def test_gc_interval_of_0_leaves_it_to_python(tmp_path: Path) -> None:
    with Server(tmp_path, GCInterval=0, MonitorInterval=1, LogLevel="debug", constants=SWIFT) as server:
        until(lambda: len(server.lines("] Status ")) >= 4, "the worker has ticked for a while")

        assert server.lines("garbage collection") == []
