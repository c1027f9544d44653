"""``hmacfs put`` through proxies that cut: it goes on where the server stopped, and the file is right."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.running import Done, config_in, hmacfs, lines
from tests.support.cutting import CuttingProxy, Kind
from tests.support.http import MIB, request
from tests.support.proxy import Proxy, Way
from tests.support.server import Server

SIZE = 8 * MIB + 12_345


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mkv"
    path.write_bytes(os.urandom(SIZE))
    return path


def send(server: Server, film: Path, proxy: Proxy, retries: int = 5) -> Done:
    """Upload ``film`` by way of ``proxy``, with that many repetitions that bring nothing forward."""
    base = f"http://127.0.0.1:{proxy.address[1]}"
    more = {"BaseURL": base, "RetryDelay": 0, "MaxRetries": retries}
    config = config_in(film.parent, Secret=server.secret, StateDir=str(film.parent / "state"), **more)
    return hmacfs("put", "--config", config, film)


def stored(server: Server, done: Done) -> bytes:
    """What the printed link leads to."""
    (link,) = lines(done.stdout)
    return request(server, "GET", urlsplit(link).path).body


def test_put_gets_a_file_through_connections_of_which_none_carries_all_of_it(server: Server, film: Path) -> None:
    with Proxy(server.address, up=Way(cut_after=2 * MIB)) as proxy:
        done = send(server, film, proxy, retries=20)

    assert done.returncode == 0, done.stderr
    assert stored(server, done) == film.read_bytes()
    assert done.stderr.count("Trying again") >= 4


@pytest.mark.parametrize("kind", Kind)
def test_put_sends_only_what_a_cut_left_missing(server: Server, film: Path, kind: Kind) -> None:
    cuts = [3 * MIB, 6 * MIB + 1]

    with CuttingProxy(server.address, cuts, kind) as proxy:
        done = send(server, film, proxy)
        forwarded = proxy.forwarded

    assert done.returncode == 0, done.stderr
    assert stored(server, done) == film.read_bytes()
    assert len(proxy.pending) == 0
    assert SIZE <= forwarded < SIZE + cuts[0]  # beginning anew after each cut would take twice that more


def test_put_whose_last_answer_is_lost_finds_its_file_stored(server: Server, film: Path) -> None:
    with CuttingProxy(server.address, [SIZE]) as proxy:
        done = send(server, film, proxy)
        forwarded = proxy.forwarded

    assert done.returncode == 0, done.stderr
    assert stored(server, done) == film.read_bytes()
    assert forwarded == SIZE
