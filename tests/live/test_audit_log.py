"""AuditLog on real servers: every change is one line, told by whoever made it, and nobody fails because of it."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.cli.running import hmacfs
from tests.live.faces import FACES, Upload
from tests.support.http import Connection, get, head_of, put, request, url_of
from tests.support.polling import until
from tests.support.server import Server, open_files
from tests.support.slot import WRONG
from tests.support.tokens import delete_query

DELETE_SECRET = "a-delete-secret-for-tests"
ATTACKER = "127.0.0.77"


class Audited:
    """A server with an audit log beside its configuration."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.server = Server(folder, AuditLog="audit.log", **keys)
        self.file = folder / "audit.log"

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """What it says, all of it or one event's, without the time."""
        found = [json.loads(line) for line in self.file.read_text(encoding="ascii").splitlines()]
        assert all(each.pop("time").endswith("Z") for each in found)
        return [each for each in found if not event or each["event"] == event]

    def until_told(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Lines of an event, once there are so many."""
        until(lambda: len(self.lines(event)) >= count, f"{event} is told")
        return self.lines(event)


def delete(server: Server, path: str) -> int:
    target = f"{url_of(server, path)}?{delete_query(server.secret, path, DELETE_SECRET)}"
    return request(server, "DELETE", target).status


def test_audit_log_tells_uploads_and_deletions_and_no_other_request(tmp_path: Path) -> None:
    audited = Audited(tmp_path, DeleteSecret=DELETE_SECRET, UserQuota="1MiB", QuotaByFirstSegment=True)
    with audited.server as server:
        assert put(server, "romeo/slot/a b.txt", b"hello").status == 201
        for face in FACES:
            upload = Upload(face, f"romeo/{face}/file", b"0123456789")
            upload.begin(server)
            assert upload.send(server, 0, 10).status in (201, 204)
        get(server, "romeo/slot/a b.txt")
        put(server, "romeo/slot/a b.txt", b"taken")
        assert delete(server, "romeo/slot/a b.txt") == 204
        assert delete(server, "romeo/slot/a b.txt") == 404

        told = audited.until_told("delete")

        path = "romeo/slot/a%20b.txt"
        assert told == [{"event": "delete", "path": path, "size": 5, "reason": "DELETE", "address": "127.0.0.1"}]
        uploads = [{"path": f"romeo/{face}/file", "size": 10} for face in FACES]
        assert audited.lines("upload") == [
            {"event": "upload", **each, "uploader": "romeo", "address": "127.0.0.1"}
            for each in ({"path": path, "size": 5}, *uploads)
        ]


def test_audit_log_tells_bans_and_who_lifts_them(tmp_path: Path) -> None:
    audited = Audited(tmp_path, BlockAfterFails=2, NeverBan=[])
    with audited.server as server:
        put(server, "right", b"x")
        for _ in range(2):
            with Connection(server.address, source=ATTACKER) as connection:
                connection.send(head_of("PUT", f"{server.prefix}wrong?{WRONG}", [("Content-Length", "0")]))
                assert connection.read_answer().status == 403
        banned = audited.until_told("ban")
        config = str(server.config)
        until(lambda: ATTACKER in hmacfs("bans", "list", "--config", config).stdout, "the ban is shared")
        assert hmacfs("bans", "lift", "--config", config, ATTACKER).returncode == 0
        assert hmacfs("bans", "add", "--config", config, "--for", "1h", "192.0.2.1").returncode == 0

    assert banned == [{"event": "ban", "address": ATTACKER, "seconds": 300, "times": 1, "reason": "wrong signatures"}]
    assert audited.lines("lift") == [{"event": "lift", "address": ATTACKER, "reason": "by hand"}]
    assert audited.lines("ban")[1:] == [{"event": "ban", "address": "192.0.2.1", "seconds": 3600, "reason": "by hand"}]


def test_audit_log_tells_what_a_sweep_deletes_whoever_sweeps(tmp_path: Path) -> None:
    audited = Audited(tmp_path, FileTTL="30d", SweepInterval="1d")
    with audited.server as server:
        for path in ("id/old", "id/young"):
            put(server, path, b"hello")
        moment = time.time() - 31 * 86400
        os.utime(server.store_dir / "id/old", (moment, moment))

        planned = hmacfs("sweep", "--config", str(server.config), "--dry-run")
        before = audited.lines("delete")
        done = hmacfs("sweep", "--config", str(server.config))

    assert (planned.returncode, before, done.returncode) == (0, [], 0)
    assert audited.lines("delete") == [{"event": "delete", "path": "id/old", "size": 5, "reason": "FileTTL"}]
    assert audited.lines("sweep")[-1] == {"event": "sweep", "files": 1, "stored": 5, "removed": 1, "freed": 5}


def test_audit_log_tells_reloads(tmp_path: Path) -> None:
    audited = Audited(tmp_path)
    with audited.server as server:
        server.signal(signal.SIGHUP)
        accepted = audited.until_told("reload")
        server.config.write_text("Secret = [", encoding="utf-8")
        server.signal(signal.SIGHUP)
        both = audited.until_told("reload", 2)

    assert accepted == [{"event": "reload", "reason": "accepted"}]
    assert both[1:] == [{"event": "reload", "reason": "refused"}]


def test_audit_log_on_a_full_disk_costs_no_upload(tmp_path: Path) -> None:
    with Server(tmp_path, AuditLog="/dev/full") as server:
        for number in range(5):
            assert put(server, f"full/{number}", b"x").status == 201

        told = until(lambda: server.lines("AuditLog: /dev/full cannot be written"), "the fault is told")

        assert get(server, "full/4").body == b"x"
    assert len(told) == 1


def test_audit_log_that_cannot_be_opened_is_refused_at_start(tmp_path: Path) -> None:
    server = Server(tmp_path, AuditLog=str(tmp_path / "missing" / "audit.log"))

    with pytest.raises(AssertionError, match="the server ended with 2"):
        server.start()

    assert f"AuditLog: {tmp_path / 'missing' / 'audit.log'} cannot be written" in server.output()


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_file_and_audit_log_are_opened_anew_on_usr1_and_no_line_is_lost(tmp_path: Path, form: str) -> None:
    audited, stop = Audited(tmp_path, LogFile="server.log", LogFormat=form, NumCores=2), Event()
    files = {str(tmp_path / name) for name in ("server.log", "audit.log")}
    server = audited.server

    def opened() -> set[str]:
        held = {target for pid in (server.pid, *server.worker_pids()) for target in open_files(pid)}
        return {target for target in held if target.startswith((f"{tmp_path}/server.log", f"{tmp_path}/audit.log"))}

    def load(name: str) -> list[str]:
        done: list[str] = []
        while not stop.is_set():
            assert put(server, f"{name}/{len(done)}", b"x").status == 201
            done.append(f"{name}/{len(done)}")
        return done

    with server, ThreadPoolExecutor(2) as pool:
        running = [pool.submit(load, name) for name in ("one", "two")]
        try:
            for rotation in range(3):
                before = len(audited.lines("upload")) if rotation else 0
                until(lambda before=before: len(audited.lines("upload")) > before, "uploads are told")  # type: ignore[misc]
                for file in files:
                    os.rename(file, f"{file}.{rotation}")
                server.signal(signal.SIGUSR1)
                until(lambda: opened() == files, "only the new files are open")
        finally:
            stop.set()
        answered = [path for each in running for path in each.result()]

    for name in ("server.log", "audit.log"):
        text = "".join(file.read_text(encoding="utf-8") for file in tmp_path.iterdir() if file.name.startswith(name))
        lines = [line for line in text.split("\n") if "upload" in line.lower() and "request" not in line]
        if form == "json" or name == "audit.log":
            assert all(json.loads(line) for line in lines)
        for path in answered:
            assert sum(f" {path} in " in line or f'"{path}"' in line for line in lines) == 1, (name, path)
