"""Bans on real servers with two workers: who is banned, who is not, for how long, and what becomes of them.

Clients have addresses of their own in 127.0.0.0/8; only 127.0.0.1, where nginx is, may speak for others.
"""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hmacfs.state.redis import PREFIX
from tests.cli.running import hmacfs
from tests.support.http import MIB, Answer, Connection, Headers, Site, head_of, put, url_of
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.redis import PASSWORD, RedisServer
from tests.support.server import Server
from tests.support.slot import Slot, face

FAILS = 3
BANNED = (403, "banned")
WRONG = (403, "bad-signature")
REFRESH_SECONDS = 0.05
"""Instead of one second, so that a test need not watch for long that all workers know."""
SOON = {"hmacfs.services.bans:REFRESH_SECONDS": REFRESH_SECONDS}
LONG = 5000
"""Seconds of a ban that no test outlives."""

_names = (f"{number}.bin" for number in itertools.count())
_hosts = (f"127.{second}.{third}.7" for second in range(1, 200) for third in range(1, 200))


@pytest.fixture
def client() -> str:
    """An address that no test has used before."""
    return next(_hosts)


@pytest.fixture
def neighbour() -> str:
    return next(_hosts)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@contextmanager
def ready(folder: Path, **keys: Any) -> Iterator[Server]:
    """A server where a signature has been right already."""
    limits = {"BlockAfterFails": FAILS, "BlockDuration": LONG, "AutoBanTime": 2 * LONG}
    with Server(folder, constants=SOON, **(limits | keys)) as server:
        for _ in range(8):
            assert put(server, next(_names), b"x").status == 201
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Server]:
    address = f"redis://:{PASSWORD}@127.0.0.1:{redis_server.port}/0"
    with ready(tmp_path_factory.mktemp("shared"), NumCores=2, RedisAddr=address) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(shared: Server) -> Iterator[Nginx]:
    with Nginx(shared) as running:
        yield running


def ask(site: Site, source: str, head: bytes) -> Answer:
    with Connection(site.address, source=source) as connection:
        connection.send(head)
        return connection.read_answer()


def upload(site: Site, source: str, headers: Headers = ()) -> tuple[int, str | None]:
    """A rightly signed empty file."""
    return face(ask(site, source, Slot(site, next(_names), 0).put_head(0, headers)))


def refused_with_body(site: Site, source: str) -> tuple[int, str | None]:
    """What a client reads that sends a whole file in spite of a refusal."""
    body = bytes(4 * MIB)
    with Connection(site.address, source=source) as connection:
        connection.send_all_or_until_refused(Slot(site, next(_names), len(body)).put_head(len(body)), body)
        return face(connection.read_answer())


def guess(site: Site, source: str, headers: Headers = (), query: str | None = None) -> tuple[int, str | None]:
    """The same with a wrong MAC, or another query."""
    slot = Slot(site, next(_names), 0).unsigned
    if query is not None:
        slot = Slot(site, next(_names), 0, query=query)
    return face(ask(site, source, slot.put_head(0, headers)))


def fail(site: Site, source: str, times: int = FAILS, headers: Headers = ()) -> None:
    for _ in range(times):
        guess(site, source, headers)


def is_banned(site: Site, source: str) -> bool:
    """In every worker."""
    return only_gets(site, source, BANNED)


def is_free(site: Site, source: str) -> bool:
    return only_gets(site, source, (404, "not-found"))


def only_gets(site: Site, source: str, expected: tuple[int, str]) -> bool:
    """Whichever worker answers: for several times as long as one takes to know what another knows."""
    head = head_of("GET", url_of(site, "nothing"))
    end = time.monotonic() + 12 * REFRESH_SECONDS
    while time.monotonic() < end:
        if face(ask(site, source, head)) != expected:
            return False
    return True


def ban(site: Site, source: str) -> None:
    """By failing."""
    fail(site, source)
    until(lambda: is_banned(site, source), f"{source} is banned in all workers")


# --- who ---


def test_block_after_fails(shared: Server, client: str) -> None:
    faces = []
    until(lambda: faces.append(guess(shared, client)) or faces[-1] == BANNED, "it is banned")

    assert set(faces[:-1]) == {WRONG}
    assert FAILS <= len(faces) - 1 <= 2 * FAILS + 2, "each worker counts by itself for a second at most"
    until(lambda: is_banned(shared, client), "both workers know")
    assert upload(shared, client) == BANNED, "a right signature does not help"


def test_a_ban_leaves_the_neighbour_behind_the_same_proxy_alone(proxy: Nginx, client: str, neighbour: str) -> None:
    ban(proxy, client)

    assert [upload(proxy, neighbour)[0] for _ in range(6)] == [201] * 6
    assert refused_with_body(proxy, client) == BANNED, "no 502 of nginx in the middle of a body"
    assert is_banned(proxy, client)


def test_a_banned_client_gets_options_only_and_is_told_for_how_long(shared: Server, client: str) -> None:
    ban(shared, client)

    preflight = ask(shared, client, head_of("OPTIONS", url_of(shared, "a")))
    odd = ask(shared, client, head_of("BREW", url_of(shared, "a")))
    bad = ask(shared, client, head_of("GET", url_of(shared, "a") + "//b"))
    refused = ask(shared, client, head_of("GET", url_of(shared, "a")))

    assert (preflight.status, odd.status, bad.status) == (204, 405, 400)
    assert face(refused) == BANNED
    assert LONG - 60 < int(refused["Retry-After"]) <= LONG
    assert refused["Connection"] == "close"


def test_what_a_banned_client_sends_does_not_extend_the_ban(shared: Server, client: str) -> None:
    ban(shared, client)
    head = head_of("GET", url_of(shared, "a"))
    before = int(ask(shared, client, head)["Retry-After"])

    fail(shared, client, 10)
    upload(shared, client)

    assert int(ask(shared, client, head)["Retry-After"]) <= before
    until(lambda: shared.lines(f"Address banned address={client} "), "it is told")
    assert len(shared.lines(f"Address banned address={client} ")) == 1, "by one of the workers, once"


def listed(server: Server, client: str) -> list[str]:
    """What the command says of a ban: its end, its reason and its age; nothing where there is none."""
    shown = hmacfs("bans", "list", "--config", str(server.config)).stdout
    return next((line.split("  ")[1:] for line in shown.splitlines() if line.startswith(f"{client} ")), [])


def ban_number(server: Server, number: int, client: str) -> None:
    """By failing; as the log tells, because a short ban may be over before it is looked at."""
    fail(server, client)
    until(lambda: len(server.lines("Address banned")) == number, f"ban number {number}")


def test_a_forged_x_forwarded_for_bans_nobody_else(shared: Server, proxy: Nginx, client: str, neighbour: str) -> None:
    victim = next(_hosts)
    forged = [("X-Forwarded-For", f"{victim}, 127.0.0.1")]

    fail(shared, client, 2 * FAILS, forged)  # straight, by nobody whom we trust
    fail(proxy, neighbour, 2 * FAILS, forged)  # through nginx, which adds the address that it sees

    until(lambda: is_banned(shared, client) and is_banned(proxy, neighbour), "those who sent it are banned")
    assert is_free(shared, victim)
    assert is_free(proxy, victim)
    assert upload(shared, "127.0.0.1")[0] == 201


def test_a_proxy_that_tells_nobody_is_never_banned(shared: Server) -> None:
    fail(shared, "127.0.0.1", 4 * FAILS)

    assert is_free(shared, "127.0.0.1")


def test_only_a_wrong_mac_counts(shared: Server, client: str) -> None:
    path = next(_names)
    assert put(shared, path, b"").status == 201
    taken = Slot(shared, path, 0).put_head(0)
    large = Slot(shared, next(_names), 2**40).put_head(2**40)

    faces = [
        [guess(shared, client, query="") for _ in range(FAILS)],
        [guess(shared, client, query="v2=" + "z" * 64) for _ in range(FAILS)],
        [face(ask(shared, client, head_of("GET", url_of(shared, "none")))) for _ in range(FAILS)],
        [face(ask(shared, client, taken)) for _ in range(FAILS)],
        [face(ask(shared, client, large)) for _ in range(FAILS)],
    ]

    assert [{status for status, _ in row} for row in faces] == [{403}, {403}, {404}, {409}, {413}]
    assert is_free(shared, client)


def test_a_banned_client_is_not_waited_for(shared: Server, client: str) -> None:
    ban(shared, client)

    with Connection(shared.address, source=client) as connection:
        connection.send(Slot(shared, next(_names), 1 << 30).put_head(1 << 30))
        assert connection.read_head().code == "banned"

        begun = time.monotonic()
        until(lambda: is_cut(connection), "nobody reads what it still sends")

    assert time.monotonic() - begun < 4, "a lingering close would have taken five seconds of silence"


def is_cut(connection: Connection) -> bool:
    try:
        connection.send(b"x")
    except OSError:
        return True
    return False


# --- by hand ---


def test_a_lifted_ban_is_over_everywhere_within_seconds(shared: Server, client: str) -> None:
    ban(shared, client)
    until(lambda: listed(shared, client), "it is shared")

    done = hmacfs("bans", "lift", client, "--config", str(shared.config))

    assert (done.returncode, done.stdout) == (0, f"Lifted: {client}\n")
    until(lambda: is_free(shared, client), "both workers know", patience=5)
    fail(shared, client, FAILS - 1)
    assert is_free(shared, client), "it begins anew"


def test_an_operator_bans_an_address(shared: Server, client: str) -> None:
    done = hmacfs("bans", "add", client, "--for", "1h", "--config", str(shared.config))

    assert done.returncode == 0, done.stderr
    until(lambda: is_banned(shared, client), "both workers know", patience=5)


# --- shared state ---


def test_a_redis_that_is_killed_frees_nobody_and_breaks_nothing(
    shared: Server, redis_server: RedisServer, client: str, neighbour: str
) -> None:
    ban(shared, client)

    redis_server.kill()
    faces = {upload(shared, neighbour)[0] for _ in range(20)} | {upload(shared, client) for _ in range(20)}
    banned_without = is_banned(shared, client)
    fail(shared, neighbour)
    until(lambda: is_banned(shared, neighbour), "bans go on without it")
    redis_server.recover()  # with nothing of what it knew
    until(lambda: redis_knows(redis_server, client), "it is told of the bans")

    assert faces == {201, BANNED}
    assert banned_without
    assert is_banned(shared, client)
    until(lambda: is_banned(shared, neighbour), "and of those from meanwhile")


def test_a_lift_during_an_outage_holds_when_redis_returns_also_behind_a_reload(
    tmp_path: Path, redis_server: RedisServer, client: str
) -> None:
    address = f"redis://:{PASSWORD}@127.0.0.1:{redis_server.port}/1"
    told: list[str] = []

    def is_lifted() -> bool:
        told[:] = hmacfs("bans", "lift", client, "--config", str(server.config)).stdout.splitlines()
        return told[:1] == [f"Lifted: {client}"]

    with ready(tmp_path, RedisAddr=address) as server:
        ban(server, client)
        old = server.worker()

        redis_server.pause()
        until(lambda: server.lines("embedded serves"), "it is known to be away")
        until(is_lifted, "the embedded tier has heard of the ban, and of its end")
        server.signal(signal.SIGHUP)
        until(lambda: len(server.lines("embedded serves")) == 2, "there is a new worker")
        redis_server.resume()
        until(lambda: len(server.lines("State tier: redis serves")) == 2, "it is back")

        until(lambda: is_free(server, client), "the lift holds")
        assert old not in server.worker_pids()
        assert [line.partition(":")[0] for line in told[1:]] == ["redis was not reached"]


def redis_knows(server: RedisServer, address: str) -> bool:
    with server.client() as connection:
        return bool(connection.hexists(f"{PREFIX}bans", address))


# --- a server alone, its keys, and its secret ---


def test_a_secret_that_differs_is_told_once_and_bans_nobody_until_a_signature_was_right(tmp_path: Path) -> None:
    clients = [next(_hosts) for _ in range(3)]
    with Server(tmp_path, NumCores=2, constants=SOON, BlockAfterFails=FAILS, BlockDuration=LONG) as server:
        for source in clients:
            guess(server, source)
        for source in clients:
            fail(server, source, 3 * FAILS)

        until(lambda: server.lines("Nobody is banned for now"), "the warning")
        assert all(is_free(server, source) for source in clients)
        assert upload(server, next(_hosts))[0] == 201
        fail(server, clients[0])
        until(lambda: is_banned(server, clients[0]), "bans work from then on")
        assert len(server.lines("Nobody is banned for now")) == 1
        assert is_free(server, clients[1])


def test_bans_survive_a_restart_and_a_changed_secret_lifts_them(tmp_path: Path, client: str) -> None:
    with ready(tmp_path) as server:
        ban(server, client)
        until(lambda: listed(server, client), "it is shared")
        server.stop()
        server.start()
        until(lambda: is_banned(server, client), "it is known after a restart", patience=5)

        server.write_config(Secret="another-secret-for-tests-0123456789")
        server.signal(signal.SIGHUP)

        until(lambda: is_free(server, client), "the new secret lifts it")
        until(lambda: server.lines("All bans lifted"), "and that is said")


def test_block_duration_and_auto_ban_time(tmp_path: Path, client: str) -> None:
    with ready(tmp_path, BlockDuration=2, AutoBanTime=LONG) as server:
        ban_number(server, 1, client)
        until(lambda: is_free(server, client), "BlockDuration is over")
        ban_number(server, 2, client)

        told = ask(server, client, head_of("GET", url_of(server, "a")))

    assert 2 < int(told["Retry-After"]) <= LONG
    assert [line.rpartition(" ")[0].rpartition(" ")[2] for line in server.lines("Address banned")] == [
        "seconds=2",
        f"seconds={LONG}",
    ]


def test_auto_unban_false_keeps_the_second_ban_until_it_is_lifted(tmp_path: Path, client: str) -> None:
    with ready(tmp_path, BlockDuration=1, AutoUnban=False) as server:
        ban_number(server, 1, client)
        until(lambda: is_free(server, client), "the first ban ends all the same")
        ban_number(server, 2, client)

        until(lambda: listed(server, client)[:2] == ["until it is lifted", "block 2 in a row"], "it stays")


def test_never_ban(tmp_path: Path, client: str) -> None:
    with ready(tmp_path, NeverBan=[f"{client}/32"]) as server:
        fail(server, client, 4 * FAILS)
        refused = hmacfs("bans", "add", client, "--config", str(server.config))

        assert is_free(server, client)
        assert refused.returncode == 1
        assert "NeverBan" in refused.stderr


def test_block_after_fails_of_zero_bans_nobody_but_by_hand(tmp_path: Path, client: str, neighbour: str) -> None:
    with ready(tmp_path, BlockAfterFails=0) as server:
        fail(server, client, 30)
        assert is_free(server, client)

        hmacfs("bans", "add", neighbour, "--config", str(server.config))
        until(lambda: is_banned(server, neighbour), "an operator may")
        assert listed(server, neighbour)[:2] == ["until it is lifted", "by hand"]
        done = hmacfs("bans", "lift", "--all", "--config", str(server.config))
        assert (done.returncode, done.stdout) == (0, f"Lifted: {neighbour}\n"), done.stderr
        until(lambda: is_free(server, neighbour), "and lift it")
