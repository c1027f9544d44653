"""In a worker's process a hung database stops its own callers for a second at most, and nobody else at all."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import mariadb as maria
from tests.support import postgres as pg
from tests.support import redis as red
from tests.support.server import ROOT
from tests.support.servers import StateServer

SOON = 2.0
"""Seconds. A tier counts as dead within one; the rest is for a busy machine."""
STALL = 0.5
"""Seconds that the loop may stand on a busy machine; a blocking driver would make it a whole second or more."""
CROWD = 50

Ask = Callable[[int], dict[str, Any]]

SERVERS = {
    "postgres": ("postgres", pg.USER, pg.PASSWORD, pg.DATABASE),
    "mysql": ("mariadb", maria.USER, maria.PASSWORD, maria.DATABASE),
    "redis": ("redis_server", "", red.PASSWORD, "0"),
}


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> StateServer:
    found: StateServer = request.getfixturevalue(SERVERS[kind][0])
    return found


@pytest.fixture
def record(kind: str, server: StateServer, tmp_path: Path) -> Iterator[Ask]:
    """Has a patched process record so many files at once; answers how that went."""
    _, user, password, database = SERVERS[kind]
    command = [sys.executable, "-W", "error", "-m", "tests.state.ticking", kind, str(server.port)]
    process = subprocess.Popen(
        [*command, user, password, database, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pipe_in, pipe_out = process.stdin, process.stdout

    def ask(count: int) -> dict[str, Any]:
        pipe_in.write(f"{count}\n")
        pipe_in.flush()
        line = pipe_out.readline()
        assert line, process.communicate()[1]
        answer: dict[str, Any] = json.loads(line)
        return answer

    try:
        yield ask
    finally:
        server.resume()
        process.stdin.close()
        process.stdin = None
        try:
            _, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    assert (process.returncode, errors) == (0, "")


def test_a_hung_server_stops_its_callers_for_a_moment_and_nobody_else(
    kind: str, server: StateServer, record: Ask
) -> None:
    well = record(CROWD)
    server.pause()

    hung = record(CROWD)
    afterwards = record(CROWD)
    server.resume()
    record(1)
    back = record(1)

    serving = "embedded" if kind == "redis" else kind
    assert (well["catalog"], well["down"]) == (serving, [])
    assert (hung["catalog"], hung["down"]) == ("embedded", [kind])
    assert hung["slowest"] < SOON
    assert hung["gap"] < STALL
    assert afterwards["slowest"] < SOON
    assert afterwards["gap"] < STALL
    assert (back["catalog"], back["down"]) == (serving, [])
