"""Memory does not grow with the size of what goes through."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import MIB, Connection, get, head_of, put, put_head, url_of
from tests.support.server import Server

GIB = 1024 * MIB
ALLOWED_KIB = 16 * 1024


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Server]:
    """One worker, its store in memory where there is room: the disk is not what is measured."""
    shared = Path("/dev/shm")
    in_memory = shared.is_dir() and shutil.disk_usage(shared).free >= 2 * GIB
    with (
        tempfile.TemporaryDirectory(dir=shared if in_memory else tmp_path) as store,
        Server(tmp_path, StoreDir=store, UploadMaxSize=0) as running,
    ):
        yield running


def resident_kib(pid: int) -> int:
    """VmRSS of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_worker_stays_small_while_a_gibibyte_goes_up_and_comes_down(roomy: Server) -> None:
    block = bytes(MIB)
    put(roomy, "warm/up", bytes(4 * MIB))
    get(roomy, "warm/up")
    worker = roomy.worker()
    before = resident_kib(worker)
    peak = 0

    with Connection(roomy.address) as connection:
        connection.send(put_head(roomy, "large/file", GIB))
        for number in range(1024):
            connection.send(block)
            if number % 64 == 63:
                peak = max(peak, resident_kib(worker))
        assert connection.read_answer().status == 201
    received = 0
    with Connection(roomy.address) as connection:
        connection.send(head_of("GET", url_of(roomy, "large/file")))
        length = int(connection.read_head()["Content-Length"])
        for number, data in enumerate(connection.blocks(length)):
            received += len(data)
            if number % 64 == 63:
                peak = max(peak, resident_kib(worker))
    peak = max(peak, resident_kib(worker))

    assert received == GIB
    assert roomy.worker() == worker
    assert peak - before < ALLOWED_KIB
