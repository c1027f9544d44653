"""What clients call their files cannot forge a line, reach a terminal or turn the writing round: in the log of either
form, in the audit log, in the lines of a sweep, and in what the commands print. Nor can it in an error body."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import hmacfs
from tests.support.http import Answer, get, put, request, url_of
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import Slot, fresh_token
from tests.support.tokens import delete_query, jwt, slot_claims

FORGED = "INFO[2024-01-01T00:00:00Z] forged"
FORGED_JSON = '"}\n{"time": "2024-01-01T00:00:00Z", "event": "upload", "path": "forged"}'
STORABLE = [
    *(f"x{each}{FORGED}" for each in ("\u2028", "\u2029", "\u0085", "\x9b31m", "\x9b2J", "\u202e", "\u2066", "\ufeff")),
    FORGED_JSON.replace("\n", "\u2028"),
    'x" status=200 client="1.1.1.1',
    "x\\n\\u001b[2J%0a%1b[0m",
    "\u0085" * 120,
    "x forged (FileTTL, 5 B)",
]
"""Names that are legal: no byte of theirs is a control byte, and no segment has over 255."""

REFUSED = ["x\n" + FORGED, "x\r\n" + FORGED, "x\x1b[2J" + FORGED, "x\x00", FORGED_JSON, "\x1b]0;forged\x07", "n" * 8000]
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
DELETE_SECRET = "a-delete-secret-for-tests"
JWT_SECRET = "a-jwt-secret-for-tests-0123456789abcdef"
DAY = 86400


@pytest.fixture(scope="module", params=["text", "json"])
def formed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that writes all it can."""
    folder = tmp_path_factory.mktemp(request.param)
    files = {"LogFile": str(folder / "log"), "AuditLog": str(folder / "audit")}
    rules = {"FileTTL": "30d", "SweepInterval": 1, "EnableVersioning": True, "MaxVersions": 1, "UserQuota": "1GiB"}
    secrets = {"DeleteSecret": DELETE_SECRET, "JWTSecret": JWT_SECRET}
    form = {"LogFormat": request.param, "LogLevel": "debug"}
    with Server(folder, NumCores=2, **form, **files, **rules, **secrets) as running:
        yield running


def text_of(file: str) -> str:
    return Path(file).read_text(encoding="utf-8", errors="surrogateescape")


def age(server: Server, path: str) -> None:
    moment = time.time() - 60 * DAY
    os.utime(server.store_dir / path, (moment, moment))


def put_as(server: Server, path: str, uploader: str) -> Answer:
    """A PUT with a token that names its uploader."""
    token = jwt(JWT_SECRET, slot_claims(path, 5, time.time(), sub=uploader, expires=None, filetype=None))
    bearer = [("Authorization", f"Bearer {token}"), ("Content-Length", "5")]
    return request(server, "PUT", url_of(server, path), bearer, b"hello")


def delete(server: Server, path: str) -> Answer:
    return request(server, "DELETE", f"{url_of(server, path)}?{delete_query(server.secret, path, DELETE_SECRET)}")


def everything_told(server: Server) -> tuple[list[str], list[str]]:
    """Lines of the log and of the audit log, of which none holds what a terminal or a reader of lines obeys."""
    log, audit = (text_of(server.keys[key]) for key in ("LogFile", "AuditLog"))
    assert not UNSAFE.search(log)
    assert not UNSAFE.search(audit)
    lines, audited = log.split("\n")[:-1], audit.split("\n")[:-1]
    if server.keys["LogFormat"] == "json":
        objects = [json.loads(line) for line in lines]
        assert all(each["time"] > "2025" and each["message"] != "forged" for each in objects)
    else:
        assert all(re.match(r"(DEBUG|INFO|WARN|ERROR)\[20[2-9][5-9]|\w+\[20[3-9]", line) for line in lines)
    assert all(json.loads(line)["time"] > "2025" for line in audited)
    return lines, audited


def test_stored_replaced_deleted_and_swept_names_forge_no_line(formed: Server) -> None:
    kept, swept = [f"kept/{name}" for name in STORABLE], [f"swept/{name}" for name in STORABLE]
    for path in (*kept, *swept):
        assert put(formed, path, b"hello").status == 201
    for path in kept:
        assert [put(formed, path, body).status for body in (b"again", b"thrice")] == [201, 201]  # one version goes
        assert delete(formed, path).status == 204
    for path in swept:
        age(formed, path)

    until(lambda: text_of(formed.keys["AuditLog"]).count('"FileTTL"') == len(swept), "the old files are swept")

    lines, audited = everything_told(formed)
    assert sum("File removed: " in line for line in lines) >= 2 * len(STORABLE)
    events = [json.loads(line) for line in audited]
    assert sum(each["event"] == "upload" for each in events) == 4 * len(STORABLE)
    assert sum(each.get("reason") == "DELETE" for each in events) == 2 * len(STORABLE)
    assert sum(each.get("reason") == "MaxVersions" for each in events) == len(STORABLE)
    assert "forged" not in {each.get("path") for each in events}


def test_a_name_of_an_uploader_forges_no_line_of_the_audit_log(formed: Server) -> None:
    names = [f"romeo\n{FORGED}", FORGED_JSON, "romeo\x1b[2J", "\u202eomeor", "r\u2028o", "\ud800"]
    before = len(everything_told(formed)[1])

    statuses = [put_as(formed, f"who/{number}", name).status for number, name in enumerate(names)]

    audited = everything_told(formed)[1]
    assert sorted(set(statuses)) == [201, 403]  # none of its names is a line, and some are refused
    uploads = [each for line in audited[before:] if (each := json.loads(line))["event"] == "upload"]
    assert len(uploads) == statuses.count(201)
    assert {each["path"] for each in uploads} <= {f"who/{number}" for number in range(len(names))}


@pytest.mark.parametrize("accept", ["text/plain", "application/json"])
def test_error_bodies_and_headers_repeat_nothing_of_a_name(formed: Server, accept: str) -> None:
    answers = [get(formed, f"error/{name}", [("Accept", accept)]) for name in (*STORABLE, *REFUSED)]

    for answer in answers:
        assert answer.status in (400, 404, 414)
        assert b"forged" not in answer.body
        assert b"nnnn" not in answer.body
        assert not UNSAFE.search(answer.body.decode())
        assert "forged" not in str(answer.headers)
    everything_told(formed)


def test_commands_print_unfinished_uploads_and_sweeps_a_line_each(formed: Server) -> None:
    config = str(formed.config)
    for name in STORABLE:
        slot = Slot(formed, f"going/{name}", 2000)
        assert slot.piece(0, bytes(1000), fresh_token()).status == 202
    until(lambda: hmacfs("uploads", "--config", config).stdout.count(" % of ") == len(STORABLE), "all are recorded")

    listed = hmacfs("uploads", "--config", config).stdout
    objects = hmacfs("uploads", "--json", "--config", config).stdout
    status = hmacfs("status", "--config", config).stdout

    assert not UNSAFE.search(listed + objects + status)
    assert len(listed.splitlines()) == len(STORABLE)
    assert all(line.startswith("going/") for line in listed.splitlines())
    assert {json.loads(line)["path"] for line in objects.splitlines()} == {f"going/{name}" for name in STORABLE}
    assert "forged" not in status


def test_the_plan_of_a_sweep_is_a_line_for_each_file(tmp_path: Path) -> None:
    with Server(tmp_path, FileTTL="30d", SweepInterval="1d") as server:
        for name in STORABLE:
            assert put(server, f"plan/{name}", b"hello").status == 201
            age(server, f"plan/{name}")
        for name in ("folder\n" + FORGED, "folder\x1b[2J"):  # as another program may have left it
            (server.store_dir / name).mkdir()
            (server.store_dir / name / "x\n\x1b").write_bytes(b"")

        printed = [hmacfs("sweep", *how, "--config", str(server.config)).stdout for how in (["--dry-run"], [])]

    for text, verb in zip(printed, ("would remove", "removed"), strict=True):
        assert not UNSAFE.search(text)
        assert sum(line.startswith(f"{verb} plan/") for line in text.splitlines()) == len(STORABLE)
        assert not [line for line in text.splitlines() if line.startswith("INFO")]
