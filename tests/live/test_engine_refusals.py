"""A refused upload: the client can always read why, and nobody else notices."""

import http.client
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import pytest

from tests.support.flood import Pings, flood
from tests.support.http import (
    MIB,
    Answer,
    Connection,
    Headers,
    Site,
    get,
    head_of,
    put,
    put_head,
    query_of,
    request,
    url_of,
)
from tests.support.nginx import MODES, Mode, Nginx
from tests.support.polling import until
from tests.support.running import send_for_ever
from tests.support.server import Server, open_files, tree
from tests.support.skipping import skip_or_fail

SIZE = 50_000_000
LARGEST = SIZE
GIB = 1024 * MIB
WRONG = f"v2={'0' * 64}"
ROUNDS = 2


@dataclass(frozen=True)
class Refusal:
    """An upload that is refused for one reason. ``target`` is its signed URL path."""

    status: int
    code: str
    path: str
    is_signed: bool = True
    size: int = SIZE

    def target(self, site: Site) -> str:
        query = query_of(site, self.path, self.size) if self.is_signed else WRONG
        return f"{url_of(site, self.path)}?{query}"


REFUSALS = [
    Refusal(403, "bad-signature", "refused/unsigned", is_signed=False),
    Refusal(409, "file-exists", "refused/existing"),
    Refusal(413, "too-large", "refused/large", size=LARGEST + 1),
]
IDS = [str(refusal.status) for refusal in REFUSALS]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("refusing"), UploadMaxSize=LARGEST) as running:
        assert put(running, "refused/existing", b"first").status == 201
        yield running


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("body") / "body"
    with open(file, "wb") as opened:
        opened.truncate(LARGEST + 1)
    return file


@pytest.fixture(scope="module", params=[None, *MODES], ids=lambda mode: f"nginx-{mode}" if mode else "direct")
def site(refusing: Server, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The server itself, and the server behind nginx in each of its modes."""
    mode: Mode | None = request.param
    if mode is None:
        yield refusing
        return
    with Nginx(refusing, mode) as proxy:
        yield proxy


def by_socket(site: Site, refusal: Refusal, body: Path) -> Answer:
    """Sends everything before it reads, as a client without any sense does."""
    with Connection(site.address) as connection:
        connection.send(head_of("PUT", refusal.target(site), [("Content-Length", str(refusal.size))]))
        block, left = bytes(MIB), refusal.size
        while left:
            connection.send(block[: min(left, MIB)])
            left -= min(left, MIB)
        return connection.read_answer()


def by_http_client(site: Site, refusal: Refusal, body: Path) -> Answer:
    assert not isinstance(site.address, str)
    client = http.client.HTTPConnection(*site.address, timeout=30)
    try:
        with open(body, "rb") as opened:
            headers = {"Content-Length": str(refusal.size)}
            client.request("PUT", refusal.target(site), _Limited(opened.read, refusal.size), headers)
        answer = client.getresponse()
        return Answer(answer.status, answer.reason, answer.getheaders(), answer.read())
    finally:
        client.close()


class _Limited:
    """A file that ends after ``left`` bytes. Args: read: of the file."""

    def __init__(self, read: Callable[[int], bytes], left: int) -> None:
        self._read = read
        self._left = left

    def read(self, size: int = -1, /) -> bytes:
        data = self._read(min(size, self._left))
        self._left -= len(data)
        return data


def by_curl(site: Site, refusal: Refusal, body: Path) -> Answer:
    """With -H Expect: so that it begins to send at once."""
    assert not isinstance(site.address, str)
    if shutil.which("curl") is None:
        skip_or_fail("curl is not installed")
    head = body.parent / "head"
    url = f"http://{site.address[0]}:{site.address[1]}{refusal.target(site)}"
    command = ["curl", "-sS", "--max-time", "30", "-D", str(head), "-H", "Expect:", "-H", "Content-Type:"]
    command += ["-X", "PUT", "--data-binary", "@-"]
    with open(body, "rb") as opened:
        fed = opened.read(refusal.size)
    done = subprocess.run([*command, url], input=fed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *lines = head.read_text(encoding="latin-1").rstrip().splitlines()
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(first.split()[1]), first.partition(" ")[2], headers, done.stdout)


@pytest.mark.parametrize("send", [by_socket, by_http_client, by_curl])
@pytest.mark.parametrize("refusal", REFUSALS, ids=IDS)
def test_a_refused_body_of_50_mb_is_answered_and_never_a_502_or_a_reset(
    refusing: Server, site: Site, body: Path, refusal: Refusal, send: Callable[[Site, Refusal, Path], Answer]
) -> None:
    before = tree(refusing.store_dir)

    answers = [send(site, refusal, body) for _ in range(ROUNDS)]

    assert [(answer.status, answer.code) for answer in answers] == [(refusal.status, refusal.code)] * ROUNDS
    assert all(answer.body.endswith(b"\n") and answer.body.count(b"\n") == 1 for answer in answers)
    assert tree(refusing.store_dir) == before


def test_a_server_behind_nginx_goes_on_after_refusals(site: Site) -> None:
    path = f"after/{site.address[1]}"

    assert put(site, path, bytes(MIB)).status == 201
    assert get(site, path).body == bytes(MIB)


def expecting(site: Site, refusal: Refusal) -> bytes:
    headers: Headers = [("Content-Length", str(refusal.size)), ("Expect", "100-continue"), ("Connection", "keep-alive")]
    return head_of("PUT", refusal.target(site), headers)


@pytest.mark.parametrize("refusal", REFUSALS, ids=IDS)
def test_a_client_that_waits_for_100_continue_is_refused_without_it(refusing: Server, refusal: Refusal) -> None:
    with Connection(refusing.address) as connection:
        connection.send(expecting(refusing, refusal))
        answer = connection.read_answer()

    assert (answer.status, answer.code) == (refusal.status, refusal.code)
    assert answer["Connection"] == "close"  # nobody knows whether the body will come


@pytest.mark.parametrize("size", [1, 5000, 3 * MIB])
def test_an_admitted_upload_is_asked_to_go_on_exactly_once(refusing: Server, size: int) -> None:
    content = b"x" * size
    with Connection(refusing.address) as connection:
        connection.send(put_head(refusing, f"continued/{size}", size, headers=[("Expect", "100-continue")]))
        interim = connection.read_head()
        connection.send(content)
        answer = connection.read_answer()
        rest = connection.read_to_end()

    assert (interim.status, answer.status) == (100, 201)
    assert rest == b""
    assert get(refusing, f"continued/{size}").body == content


def test_a_body_that_comes_without_waiting_is_taken_too(refusing: Server) -> None:
    with Connection(refusing.address) as connection:
        head = put_head(refusing, "continued/unasked", 5, headers=[("Expect", "100-continue")])
        connection.send(head + b"hello")
        answer = connection.read_head()
        if answer.status == 100:
            answer = connection.read_answer()

    assert answer.status == 201


@pytest.mark.parametrize("target", ["/upload/x", "/upload/../x"])
def test_an_unknown_expectation_is_417(refusing: Server, target: str) -> None:
    answer = request(refusing, "PUT", target, [("Content-Length", "1"), ("Expect", "the-unexpected")])

    assert answer.status == 417


def sockets(server: Server) -> int:
    """Of the worker; what it has duplicated counts once."""
    return len({target for target in open_files(server.worker()) if target.startswith("socket:")})


@pytest.mark.parametrize("through", ["tcp", "unix"])
def test_a_refused_client_that_falls_silent_is_let_go_after_some_seconds(tmp_path: Path, through: str) -> None:
    address = str(tmp_path / "hmacfs.sock") if through == "unix" else None
    shorter = {"hmacfs.server.connection:LINGER_IDLE_SECONDS": 1.0}
    with Server(tmp_path, address=address, constants=shorter) as server:
        before = 2  # it listens, for clients and for operations
        until(lambda: sockets(server) == before, "the connection of the start-up is closed")
        with Connection(server.address) as connection:
            connection.send(head_of("PUT", f"/upload/silent?{WRONG}", [("Content-Length", str(SIZE))]) + bytes(1000))
            assert connection.read_answer().status == 403
            assert connection.read_to_end() == b""
            started = time.monotonic()
            assert sockets(server) > before

            until(lambda: sockets(server) == before, "the connection is closed")

            assert 0.5 < time.monotonic() - started < 5  # a second of silence; five in earnest


def test_a_refused_client_that_sends_for_ever_is_cut_off(tmp_path: Path) -> None:
    shorter = {"hmacfs.server.connection:LINGER_SECONDS": 1.5}
    with Server(tmp_path, constants=shorter) as server, Connection(server.address) as connection:
        connection.send(head_of("PUT", f"/upload/endless?{WRONG}", [("Content-Length", str(10**15))]))
        assert connection.read_answer().status == 403
        started = time.monotonic()

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(connection, repeat(bytes(MIB)), 20)

        assert 1 < time.monotonic() - started < 5


def test_only_so_many_refused_clients_may_linger(tmp_path: Path) -> None:
    fewer = {"hmacfs.server.connection:MAX_LINGERING": 3}
    with Server(tmp_path, constants=fewer) as server, ExitStack() as stack:
        before = 2  # it listens, for clients and for operations
        until(lambda: sockets(server) == before, "the connection of the start-up is closed")
        for _ in range(10):
            connection = stack.enter_context(Connection(server.address))
            connection.send(head_of("PUT", f"/upload/many?{WRONG}", [("Content-Length", str(SIZE))]))
            assert connection.read_answer().status == 403

        until(lambda: sockets(server) <= before + 3, "the surplus is cut off", 4)

        assert put(server, "many/others", b"x").status == 201


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Server]:
    """One worker, and a store in memory where there is room: the disk is not what is looked at."""
    shared = Path("/dev/shm")
    in_memory = shared.is_dir() and shutil.disk_usage(shared).free >= 3 * GIB
    with (
        tempfile.TemporaryDirectory(dir=shared if in_memory else tmp_path) as store,
        Server(tmp_path, StoreDir=store, UploadMaxSize=0) as running,
    ):
        yield running


def test_nobody_waits_while_a_gibibyte_is_refused(roomy: Server) -> None:
    head = head_of("PUT", f"/upload/flood?{WRONG}", [("Content-Length", str(GIB))])

    with Pings(roomy) as pings:
        output = flood(roomy, head, GIB)

    assert output.startswith(b"HTTP/1.1 403 ")
    assert pings.quantile(0.99) < 0.1
    assert max(pings.seconds) < 1


def test_nobody_waits_while_a_gibibyte_goes_up_and_comes_down(roomy: Server) -> None:
    with Pings(roomy) as up:
        output = flood(roomy, put_head(roomy, "flood/file", GIB), GIB)
    with Pings(roomy) as down:
        received = discarded(roomy, head_of("GET", url_of(roomy, "flood/file")))

    assert output.startswith(b"HTTP/1.1 201 ")
    assert received > GIB
    for pings in (up, down):
        assert pings.quantile(0.99) < 0.1
        assert max(pings.seconds) < 1


def discarded(server: Server, head: bytes) -> int:
    """Bytes of the answer, which the kernel throws away unread."""
    count = 0
    with Connection(server.address) as connection:
        connection.send(head)
        scratch = bytearray(MIB)
        while got := connection.sock.recv_into(scratch, MIB, socket.MSG_TRUNC):
            count += got
    return count
