"""EnableGetRetries on real servers: a file that is just being published, and a path where there is none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.http import get, put
from tests.support.polling import until
from tests.support.server import Server
from tests.support.tracing import slow_syncs


def seconds_of(line: str) -> float:
    """How long a request took, as the log says."""
    return float(line.partition(" seconds=")[2].split()[0])


def get_while_it_is_published(server: Server, seconds: float) -> tuple[int, int]:
    """What a GET is answered that comes while the file is synced and has no name, and what the PUT is.

    Args:
        seconds: how long a sync takes until the GET is answered; a file gets its name behind the first one.
    """
    with ThreadPoolExecutor(1) as pool:
        with slow_syncs(server.worker(), seconds):
            putting = pool.submit(put, server, "soon/there", b"hello")
            until(server.open_store_files, "the file is being written")
            status = get(server, "soon/there").status
        return status, putting.result().status


def test_enable_get_retries_waits_for_a_file_that_is_being_published(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        assert get_while_it_is_published(server, 0.4) == (200, 201)


def test_enable_get_retries_off_tells_404_at_once(tmp_path: Path) -> None:
    with Server(tmp_path, EnableGetRetries=False) as server:
        assert get_while_it_is_published(server, 3.0) == (404, 201)
        (line,) = until(lambda: server.lines("Incoming request: GET soon/there"), "the GET is logged")

    assert seconds_of(line) < 0.7  # repetitions would have taken 0.775 at least


def test_enable_get_retries_costs_a_plain_404_nothing(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [put(server, f"other/{number}", b"x").status for number in range(20)])
        for number in range(50):
            assert get(server, f"none/{number}").status == 404
        assert set(putting.result()) == {201}
        lines = until(lambda: found if len(found := server.lines("GET none/")) == 50 else [], "all are logged")

    seconds = sorted(map(seconds_of, lines))
    assert seconds[25] < 0.05  # the first delay of a repetition; a busy machine may hold up some
