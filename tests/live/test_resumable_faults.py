"""Resumable uploads of a running server under stops, kills, stalls and a full disk: what was taken is never lost, and
nobody waits for longer than the protocol says (section 5)."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.live.faces import FACES, Upload
from tests.support.http import MIB, Connection, Headers, get, put
from tests.support.polling import until
from tests.support.running import begin_upload, only, small_tmpfs
from tests.support.server import Server, open_files
from tests.support.slot import content

TOTAL = 3 * MIB
SENT = 1_100_000
GIVE_WAY = 5.0
"""Seconds within which a request that is taken over has ended (protocol, section 5, "Taking over")."""
numbers = count()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers."""
    with Server(tmp_path_factory.mktemp("pair"), NumCores=2) as running:
        yield running


def fresh(face: str, total: int = TOTAL) -> Upload:
    """An upload of a slot that no other test has."""
    return Upload(face, f"{face}/{next(numbers)}.bin", content(total))


def parts(server: Server) -> list[int]:
    """How large the partials are on disk."""
    sizes = []
    for path in (server.store_dir / ".hmacfs/partials").glob("??/*/*.part"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sizes


@contextmanager
def stalled(server: Server, upload: Upload, first: int = 0, sent: int = SENT) -> Iterator[Connection]:
    """A request for the whole rest that stalls after ``sent`` bytes, all of which the server has written."""
    if upload.face != "session":
        upload.begin(server)
    with Connection(server.address) as connection:
        connection.send(upload.head(server, first, upload.total) + upload.content[first : first + sent])
        until(lambda: first + sent in parts(server), "what was sent is written")
        yield connection


def holder_of(server: Server) -> int:
    """The only worker that has a partial open for writing."""
    (pid,) = (pid for pid in server.worker_pids() if any(name.endswith(".part") for name in open_files(pid)))
    return pid


def other_than_holder(server: Server) -> int:
    holder = holder_of(server)
    (pid,) = (pid for pid in server.worker_pids() if pid != holder)
    return pid


def finish(server: Server, upload: Upload) -> int:
    """Send what is missing and compare the file; the offset that it went on from."""
    offset = upload.offset(server)
    answer = upload.send(server, offset, upload.total)
    assert answer.status in (201, 204), (answer.status, answer.code)
    assert get(server, upload.path).body == upload.content
    return offset


def is_closed(connection: Connection) -> bool:
    """Whether nothing more comes; what is left of the answer is read."""
    try:
        connection.read_to_end()
    except ConnectionResetError:
        pass
    return True


# --- stopping ---


def test_a_stop_saves_what_stalled_uploads_have_brought_and_is_in_time(tmp_path: Path) -> None:
    uploads = [fresh(face, TOTAL + number) for number, face in enumerate(FACES)]
    server = Server(tmp_path, GracefulShutdownTimeout=1)
    with server, ExitStack() as stack:
        connections = []
        for number, upload in enumerate(uploads):
            connections.append(stack.enter_context(stalled(server, upload, sent=SENT + number)))
        begun = time.monotonic()

        server.signal(signal.SIGTERM)
        answers = [connection.read_answer() for connection in connections]

        assert server.wait() == 0
        assert time.monotonic() - begun < 1 + 3 + 2
        assert [(answer.status, answer.code) for answer in answers] == [(503, "draining")] * 3
        assert "Traceback" not in server.output()
    with server:
        assert [finish(server, upload) for upload in uploads] == [SENT, SENT + 1, SENT + 2]


def test_a_stalled_plain_put_with_a_token_is_saved_by_a_stop_and_one_without_leaves_nothing(tmp_path: Path) -> None:
    upload = fresh("session")
    token: Headers = [("X-Session-Token", upload.token)]
    server = Server(tmp_path, GracefulShutdownTimeout=1)
    with server, ExitStack() as stack:
        begin_upload(server, stack, upload.path, TOTAL, SENT, headers=token)
        begin_upload(server, stack, "plain/file", TOTAL, SENT)
        until(lambda: SENT in parts(server), "what was sent is written")

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
    assert parts(server) == [SENT]
    with server:
        assert upload.offset(server) == SENT
        assert get(server, "plain/file").status == 404


# --- killed workers ---


@pytest.mark.parametrize("face", FACES)
def test_a_worker_that_is_killed_in_the_middle_of_a_piece_loses_nothing_it_had_recorded(
    pair: Server, face: str
) -> None:
    upload = fresh(face, 24 * MIB)
    told = int(upload.begin(pair, 100_000)["Upload-Offset"])
    sent = told

    def send_half(connection: Connection) -> None:
        nonlocal sent
        try:
            while sent < upload.total // 2:
                sent += connection.sock.send(upload.content[sent : sent + 65536])
        except OSError:
            pass  # the worker is gone

    with Connection(pair.address) as connection:
        connection.send(upload.head(pair, told, upload.total))
        sender = threading.Thread(target=send_half, args=(connection,))
        sender.start()
        until(lambda: any(size > told + 500_000 for size in parts(pair)), "a part of it is written")
        written = max(parts(pair))
        holder = holder_of(pair)
        os.kill(holder, signal.SIGKILL)
        sender.join(20)
    until(lambda: len(pair.ready_workers()) == 2 and holder not in pair.worker_pids(), "there is a new worker")

    offset = finish(pair, upload)

    assert told <= offset <= sent
    assert offset >= written - MIB  # at most the block that was on its way


def test_a_killed_worker_holds_up_nobody(pair: Server) -> None:
    upload = fresh("tus")
    with stalled(pair, upload):
        holder = holder_of(pair)
        os.kill(holder, signal.SIGKILL)
        begun = time.monotonic()

        offset = upload.offset(pair)

        assert time.monotonic() - begun < GIVE_WAY
        assert offset == SENT
    until(lambda: len(pair.ready_workers()) == 2 and holder not in pair.worker_pids(), "there is a new worker")
    assert finish(pair, upload) == SENT


# --- taking over ---


@pytest.mark.parametrize("face", FACES)
def test_a_piece_that_stalls_on_one_worker_is_taken_over_through_the_other(pair: Server, face: str) -> None:
    upload = fresh(face)
    with stalled(pair, upload) as silent, ExitStack() as stack:
        other = other_than_holder(pair)
        with only(pair, other):
            late = stack.enter_context(Connection(pair.address))
            late.send(upload.head(pair, SENT, upload.total))
            until(lambda: any(name.endswith(".log") for name in open_files(other)), "the other worker has it")
        begun = time.monotonic()

        answer = silent.read_answer()
        assert is_closed(silent)

        assert time.monotonic() - begun < GIVE_WAY
        assert (answer.status, answer.code) == (409, "taken-over")
        late.send(upload.content[SENT:])
        assert late.read_answer().status in (201, 204)
    assert get(pair, upload.path).body == upload.content


def test_what_the_first_had_brought_is_not_written_again_by_the_one_that_takes_over(pair: Server) -> None:
    upload = fresh("session")
    with stalled(pair, upload) as silent, ExitStack() as stack:
        other = other_than_holder(pair)
        with only(pair, other):
            late = stack.enter_context(Connection(pair.address))
            late.send(upload.head(pair, 0, upload.total))
            until(lambda: any(name.endswith(".log") for name in open_files(other)), "the other worker has it")

        late.send(b"x" * SENT + upload.content[SENT:])

        assert late.read_answer().status == 201
        assert silent.read_answer().code == "taken-over"
    assert get(pair, upload.path).body == upload.content


def test_disjoint_pieces_on_two_workers_go_on_in_parallel(pair: Server) -> None:
    upload = fresh("session")
    with ExitStack() as stack:
        first = stack.enter_context(Connection(pair.address))
        first.send(upload.head(pair, 0, 2 * MIB) + upload.content[:SENT])
        until(lambda: SENT in parts(pair), "what was sent is written")
        with only(pair, other_than_holder(pair)):
            second = stack.enter_context(Connection(pair.address))
            second.send(upload.head(pair, 2 * MIB, TOTAL) + upload.content[2 * MIB : TOTAL - 10])
            until(lambda: TOTAL - 10 in parts(pair), "the second piece is written meanwhile")
        assert upload.offset(pair) == SENT

        second.send(upload.content[TOTAL - 10 :])
        assert second.read_answer()["Upload-Offset"] == str(SENT)
        first.send(upload.content[SENT : 2 * MIB])
        assert first.read_answer().status == 201
    assert get(pair, upload.path).body == upload.content


# --- a plain PUT beside it ---


def test_a_plain_put_publishes_past_a_stalled_upload_and_ends_it(pair: Server) -> None:
    upload = fresh("tus")
    other = content(70_000)[::-1]
    with stalled(pair, upload) as silent:
        begun = time.monotonic()

        assert put(pair, upload.path, other).status == 201
        answer = silent.read_answer()

        assert answer.status in (409, 410)
        assert time.monotonic() - begun < GIVE_WAY
    assert get(pair, upload.path).body == other
    assert upload.ask(pair).status == 404
    until(lambda: not pair.open_store_files(), "no worker holds anything of it")


# --- a full disk ---


@pytest.mark.parametrize("face", FACES)
def test_a_disk_that_is_full_in_the_middle_of_a_piece_keeps_the_offset_and_goes_on_once_there_is_space(
    tmp_path: Path, face: str
) -> None:
    upload = fresh(face, 10 * MIB)
    with (
        small_tmpfs(tmp_path / "mount", 16) as mount,
        Server(tmp_path, StoreDir=str(mount / "store"), MinFreeSpace=0) as server,
    ):
        told = int(upload.begin(server, 1 * MIB)["Upload-Offset"])
        ballast = mount / "ballast"
        ballast.write_bytes(bytes(10 * MIB))

        refused = upload.send(server, told, upload.total)

        assert (refused.status, refused.code) == (507, "storage-full")
        offset = upload.offset(server)
        assert told <= offset < upload.total
        refused = upload.send(server, offset, upload.total)  # still full, and nothing is lost by trying
        assert refused.status == 507
        assert upload.offset(server) >= offset
        ballast.unlink()
        assert finish(server, upload) >= offset
        until(lambda: not server.open_store_files(), "no file is held open")
