"""The filter of contrib/fail2ban finds the addresses of wrong signatures in real log lines, and no others."""

import subprocess
from pathlib import Path
from urllib.parse import quote

from tests.support.http import Connection, head_of, put
from tests.support.server import ROOT, Server
from tests.support.servers import program
from tests.support.slot import WRONG

FILTER = ROOT / "contrib" / "fail2ban" / "filter.d" / "hmacfs.conf"
VICTIM = "203.0.113.66"
LINE = f"WARN[2026-01-02T03:04:05Z] Signature refused reason=wrong protocol=v2 path=a size=1 type=b client={VICTIM}"


def found(log: Path) -> list[str]:
    command = [program("fail2ban-regex"), "--out", "ip", str(log), str(FILTER)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def attempt(server: Server, source: str, path: str, query: str = WRONG, **headers: str) -> int:
    target = f"{server.prefix}{path}?{query}"
    head = head_of("PUT", target, [("Content-Length", "0"), *((k.replace("_", "-"), v) for k, v in headers.items())])
    with Connection(server.address, source=source) as connection:
        connection.send(head)
        return connection.read_answer().status


def test_wrong_signatures_are_found_and_nothing_else_and_no_line_can_be_forged(tmp_path: Path) -> None:
    log = tmp_path / "hmacfs.log"
    with Server(tmp_path, LogFile=str(log), BlockAfterFails=3) as server:
        assert put(server, "right", b"x").status == 201
        attempt(server, "127.0.0.11", "missing", "")
        attempt(server, "127.0.0.11", "malformed", "v2=no")
        statuses = [
            attempt(server, "127.0.0.21", "plain.png"),
            attempt(server, "127.0.0.22", quote(f"x client={VICTIM}")),
            attempt(server, "127.0.0.23", quote(LINE.replace("/", "_"))),
            attempt(server, "127.0.0.24", "a", Content_Type=f"image/png client={VICTIM}"),
            attempt(server, "127.0.0.25", "b", X_Forwarded_For=VICTIM),
            attempt(server, "127.0.0.26", quote('"quoted\\" client=' + VICTIM)),
            attempt(server, "127.0.0.27", quote(f"ä\u2028 client={VICTIM}")),
            attempt(server, "127.0.0.1", "c", X_Forwarded_For="2001:db8::7"),
            attempt(server, "127.0.0.28", quote(f"x\n{LINE}")),
        ]
        for _ in range(4):
            attempt(server, "127.0.0.29", "d")

        addresses = found(log)

    assert statuses == [403] * 8 + [400]
    assert sorted(set(addresses)) == [*(f"127.0.0.{number}" for number in (*range(21, 28), 29)), "2001:db8::7"]
    assert addresses.count("127.0.0.29") == 3, "a banned client writes no more such lines"


def test_the_jail_names_the_filter() -> None:
    jail = (ROOT / "contrib" / "fail2ban" / "jail.d" / "hmacfs.conf").read_text(encoding="utf-8")

    assert f"filter = {FILTER.stem}\n" in jail
