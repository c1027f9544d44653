"""Two servers on one store, each with a StateDir of its own, and one Redis: they resume, refuse and sweep as one."""

import fcntl
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.live.faces import FACES, Upload
from tests.live.tierservers import RedisTierServer, TierServer
from tests.support.http import Connection, get, put
from tests.support.polling import until
from tests.support.redis import RedisServer
from tests.support.server import Server

PIECE = 150_000
ROUNDS = 50
MOST_SESSIONS = 4

Pair = tuple[Server, Server]


@contextmanager
def two_masters(folder: Path, **keys: Any) -> Iterator[Pair]:
    with ExitStack() as stack:
        servers = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            server = Server(folder / name, StoreDir=str(folder / "store"), **keys)
            servers.append(stack.enter_context(server))
        yield servers[0], servers[1]


@pytest.fixture(scope="module")
def tier() -> Iterator[TierServer]:
    with RedisServer() as server:
        assert isinstance(server, RedisServer)
        yield RedisTierServer(server)


@pytest.fixture(scope="module")
def pair(tier: TierServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with two_masters(tmp_path_factory.mktemp("pair"), MaxSessionsPerSlot=MOST_SESSIONS, **tier.keys()) as servers:
        for server in servers:
            until(lambda server=server: server.lines(tier.serves), "Redis serves")  # type: ignore[misc]
        yield servers


# --- resuming ---


@pytest.mark.parametrize("face", FACES)
def test_an_upload_goes_on_at_either_server_with_every_piece(pair: Pair, face: str) -> None:
    upload = Upload(face, f"alternating/{face}", os.urandom(6 * PIECE))
    here, there = pair
    upload.begin(here)
    for first in range(0, upload.total - PIECE, PIECE):
        here, there = there, here
        assert upload.send(here, first, first + PIECE).status in (202, 204)
        assert upload.offset(there) == upload.offset(here) == first + PIECE

    last = upload.send(there, upload.total - PIECE, upload.total)

    assert last.status in (201, 204)
    assert [get(server, upload.path).body == upload.content for server in pair] == [True, True]


def test_pieces_come_to_both_servers_at_once_and_in_any_order(pair: Pair) -> None:
    upload = Upload("session", "parallel/file", os.urandom(24 * PIECE))
    firsts = list(range(0, upload.total, PIECE))
    random.Random(7).shuffle(firsts)
    upload.begin(pair[0], PIECE)

    with ThreadPoolExecutor(6) as pool:
        sent = pool.map(lambda at, first: upload.send(at, first, first + PIECE).status, cycle(pair), firsts)
        statuses = list(sent)

    assert set(statuses) == {201, 202}
    assert [get(server, upload.path).body == upload.content for server in pair] == [True, True]


@pytest.mark.parametrize("face", FACES)
def test_a_stalled_piece_at_one_server_gives_way_to_the_other_within_5_seconds(pair: Pair, face: str) -> None:
    here, there = pair
    upload = Upload(face, f"stalled/{face}", os.urandom(4 * PIECE))
    upload.begin(here, PIECE)
    with Connection(here.address) as stalled:
        stalled.send(upload.head(here, PIECE, upload.total) + upload.content[PIECE : 2 * PIECE])
        until(lambda: any(name.endswith(".part") for name in here.open_store_files()), "the piece is being written")
        begun = time.monotonic()

        offset = PIECE if face == "session" else upload.offset(there)
        done = upload.send(there, offset, upload.total)

        ended = stalled.read_to_end()
        seconds = time.monotonic() - begun
    assert done.status in (201, 204)
    assert PIECE <= offset <= 2 * PIECE
    assert ended.startswith(b"HTTP/1.1 409 ")
    assert seconds < 5
    assert [get(server, upload.path).body == upload.content for server in pair] == [True, True]


def test_what_is_published_at_one_server_is_complete_at_the_other(pair: Pair) -> None:
    here, there = pair
    upload = Upload("session", "published/file", os.urandom(PIECE))
    upload.begin(here, PIECE)

    answer = upload.ask(there)

    assert (answer.status, answer["Upload-Offset"]) == (201, str(PIECE))
    assert upload.send(there, 0, PIECE, os.urandom(PIECE)).status == 201
    assert get(there, upload.path).body == upload.content


def test_a_token_of_another_slot_is_refused_by_both(pair: Pair) -> None:
    known = Upload("session", "token/one", os.urandom(2 * PIECE))
    known.begin(pair[0], PIECE)
    other = Upload("session", "token/other", os.urandom(2 * PIECE), token=known.token)

    refused = [(other.ask(server), other.send(server, 0, PIECE)) for server in pair]

    assert [(answer.status, answer.code) for answers in refused for answer in answers] == [(403, "wrong-slot")] * 4
    assert [known.offset(server) for server in pair] == [PIECE] * 2


# --- duplicates and bounds ---


@pytest.mark.parametrize("size", [10_000, 200_000])
def test_of_puts_that_race_at_both_servers_one_is_stored(pair: Pair, size: int) -> None:
    wrong = []
    with ThreadPoolExecutor(4) as pool:
        for number in range(ROUNDS // 2):
            path, bodies, start = f"race-{size}/{number}", [os.urandom(size) for _ in range(4)], Barrier(4)

            def race(at: int, path: str = path, bodies: list[bytes] = bodies, start: Barrier = start) -> int:
                start.wait(30)
                return put(pair[at % 2], path, bodies[at]).status

            statuses = list(pool.map(race, range(4)))
            stored = [get(server, path).body for server in pair]
            winner = bodies[statuses.index(201)] if 201 in statuses else b""
            if Counter(statuses) != {201: 1, 409: 3} or stored != [winner, winner]:
                wrong.append((number, statuses))

    assert wrong == []


def test_unfinished_uploads_of_a_slot_are_counted_over_both(pair: Pair) -> None:
    content = os.urandom(2 * PIECE)
    begun = [Upload("session", "full/slot", content).begin(pair[number % 2], PIECE) for number in range(MOST_SESSIONS)]

    more = [Upload("session", "full/slot", content).begin(server, PIECE) for server in pair]

    assert [answer.status for answer in begun] == [202] * MOST_SESSIONS
    assert [(answer.status, answer.code) for answer in more] == [(429, "too-many-sessions")] * 2


@pytest.mark.parametrize("face", ["tus", "draft"])
def test_a_creation_too_many_drops_the_least_advanced_upload_wherever_it_began(pair: Pair, face: str) -> None:
    here, there = pair
    uploads = [Upload(face, f"full/{face}", os.urandom(2 * PIECE)) for _ in range(MOST_SESSIONS)]
    for number, upload in enumerate(uploads):
        upload.begin(here, 1000 if number == 1 else PIECE)

    one_more = Upload(face, f"full/{face}", os.urandom(2 * PIECE))
    answer = one_more.begin(there, PIECE)

    assert answer.status == 201
    assert [upload.ask(here).status for upload in (uploads[1], one_more)] == [404, 200 if face == "tus" else 204]
    assert [upload.offset(there) for number, upload in enumerate(uploads) if number != 1] == [PIECE] * 3


# --- sweeping ---


def test_what_expires_is_removed_by_one_server_at_a_time_and_once(tier: TierServer, tmp_path: Path) -> None:
    ttl = 2  # sweeps come every second then
    partials = tmp_path / "store/.hmacfs/partials"
    with two_masters(tmp_path, SessionTTL=ttl, **tier.keys()) as servers:
        uploads = [Upload(face, f"old/{face}-{number}", os.urandom(PIECE)) for face in FACES for number in range(4)]
        with open(partials.parent / "sweep.lock", "ab") as sweeping:  # as a third server that is at it
            fcntl.flock(sweeping, fcntl.LOCK_EX)
            for number, upload in enumerate(uploads):
                upload.begin(servers[number % 2], 1000)
            until(lambda: age_of_youngest(partials) > ttl + 2, "all are overdue")
            while_another_sweeps = removed(servers)

        until(lambda: removed(servers).total() == len(uploads), "all are removed")
        until(lambda: not list(partials.glob("*/*/*")), "nothing of them is left")

        assert while_another_sweeps == Counter()
        assert removed(servers) == Counter(upload.path for upload in uploads)
        assert [server.lines("Sweep failed") for server in servers] == [[], []]
        assert [uploads[0].send(server, 1000, PIECE).status for server in servers] == [404, 404]


def age_of_youngest(partials: Path) -> float:
    """Seconds since any of the unfinished uploads changed."""
    return time.time() - max((journal.stat().st_mtime for journal in partials.glob("*/*/*.log")), default=0.0)


def removed(servers: Pair) -> Counter[str]:
    """Paths of the uploads that both say they removed, and how often."""
    lines = [line for server in servers for line in server.lines("Unfinished upload removed: ")]
    return Counter(line.partition("removed: ")[2].partition(" ")[0] for line in lines)
