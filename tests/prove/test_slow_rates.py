"""Rates over the time that they are specified for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest

from tests.prove.tables import write_table
from tests.support.http import MIB, Connection, head_of, put_head
from tests.support.proxy import Proxy, Way
from tests.support.running import send_for_ever
from tests.support.server import Server


def seconds_of(server: Server, path: str, size: int) -> float:
    started = time.monotonic()
    with Connection(server.address, timeout=60) as connection:
        connection.send(put_head(server, path, size) + bytes(size))
        assert connection.read_answer().status == 201
    return time.monotonic() - started


@pytest.mark.parametrize("rate", [64 * 1024, MIB, 20 * MIB])
def test_the_highest_rate_holds_within_five_percent_over_ten_seconds(tmp_path: Path, rate: int) -> None:
    rows = []
    with Server(tmp_path, MaxBytesPerSecond=rate, Durability="none") as server:
        for parallel in (1, 2, 4):
            with ThreadPoolExecutor(parallel) as pool:
                names = [f"rate/{parallel}-{number}" for number in range(parallel)]
                seconds = list(pool.map(lambda name: seconds_of(server, name, 10 * rate), names))
            rows.append((parallel, *(f"{10 * rate / worst / rate:.3f}" for worst in (max(seconds), min(seconds)))))
    columns = ("uploads at once", "slowest", "fastest")
    write_table(f"rate-{rate}", f"Rate reached, as a part of MaxBytesPerSecond = {rate}, over 10 s", columns, rows)

    assert all(0.95 <= float(share) <= 1.05 for row in rows for share in row[1:])


@pytest.mark.parametrize(("rate", "status"), [(5_000, 408), (9_000, 408), (30_000, 201)])
def test_the_least_rate_is_judged_over_thirty_seconds(tmp_path: Path, rate: int, status: int) -> None:
    body = bytes(1_100_000)
    with (
        Server(tmp_path, MinBytesPerSecond=10_000) as server,
        Proxy(server.address, up=Way(rate=rate)) as proxy,
        Connection(proxy.address, timeout=90) as connection,
    ):
        started = time.monotonic()
        sender = threading.Thread(
            target=connection.send_all_or_until_refused, args=(put_head(server, "least/file", len(body)), body)
        )
        sender.start()
        answer = connection.read_answer()
        sender.join(60)

        assert answer.status == status
        assert 29 < time.monotonic() - started < 45


def test_a_refused_client_that_sends_for_ever_is_cut_off_after_thirty_seconds(tmp_path: Path) -> None:
    with Server(tmp_path) as server, Connection(server.address) as connection:
        headers = [("Content-Length", str(10**15))]
        connection.send(head_of("PUT", f"/upload/endless?v2={'0' * 64}", headers))
        assert connection.read_answer().status == 403
        started = time.monotonic()

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(connection, repeat(bytes(MIB)), 60)

        assert 25 < time.monotonic() - started < 35
