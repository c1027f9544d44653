"""hmacfs status --watch stays until a signal, on a terminal and in a pipe, and outlives the server."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.running import HMACFS, environment, hmacfs
from tests.support.heard import said
from tests.support.polling import PATIENCE, until
from tests.support.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as running:
        until(lambda: hmacfs("status", "--config", running.config).returncode == 0, "it is well")
        yield running


class Watching:
    """``hmacfs status --watch`` in a process of its own, and what it has written so far.

    Args:
        on_terminal: with a terminal as its output, else a pipe.
    """

    def __init__(self, config: Path, arguments: Sequence[str], *, on_terminal: bool) -> None:
        self._reading, writing = pty.openpty() if on_terminal else os.pipe()
        self.process = subprocess.Popen(
            (*HMACFS, "status", "--config", str(config), *arguments),
            env=environment(TERM="xterm", COLUMNS="100", LINES="40"),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
        )
        os.close(writing)
        self._bytes = b""

    def output(self) -> str:
        while select.select([self._reading], [], [], 0)[0]:
            try:
                data = os.read(self._reading, 65536)
            except OSError:  # EIO: nobody has the other end of the terminal any more
                break
            if not data:
                break
            self._bytes += data
        return self._bytes.decode(errors="replace").replace("\r\n", "\n")

    def shows(self, text: str, count: int = 1) -> None:
        until(lambda: self.output().count(text) >= count, f"{text!r} is shown {count} times")

    def end(self, number: int) -> tuple[int, str]:
        """Exit status after a signal, and all that was written."""
        self.process.send_signal(number)
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self.output()
            assert time.monotonic() < deadline, "it does not end"
        return self.process.returncode, self.output()

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        said(self.process, "stdout", self.output())
        os.close(self._reading)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_is_drawn_again_and_again_until_a_signal(server: Server, number: int) -> None:
    with Watching(server.config, ["--watch", "0.2"], on_terminal=True) as watching:
        watching.shows("Health", count=3)

        exit_status, text = watching.end(number)

    assert exit_status == 0
    assert "Traceback" not in text
    assert "Aborted" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again
    assert "ready" in text


def test_seconds_may_be_left_out_and_ctrl_c_leaves_no_trace(server: Server) -> None:
    with Watching(server.config, ["--watch"], on_terminal=True) as watching:
        watching.shows("Last sweep")

        exit_status, text = watching.end(signal.SIGINT)

    assert exit_status == 0
    assert "Traceback" not in text


def test_a_pipe_gets_one_text_behind_the_other_and_no_colours(server: Server) -> None:
    with Watching(server.config, ["--watch", "0.2"], on_terminal=False) as watching:
        watching.shows("Health      ready\n", count=3)

        exit_status, text = watching.end(signal.SIGINT)

    assert exit_status == 0
    assert "\x1b" not in text
    assert "Traceback" not in text


def test_a_program_that_watches_gets_one_object_a_line(server: Server) -> None:
    with Watching(server.config, ["--watch", "0.2", "--json"], on_terminal=False) as watching:
        watching.shows("\n", count=3)

        exit_status, text = watching.end(signal.SIGINT)

    assert exit_status == 0
    complete = text[: text.rindex("\n")].splitlines()
    assert [json.loads(line)["condition"] for line in complete] == ["ready"] * len(complete)


@pytest.mark.parametrize("on_terminal", [True, False])
def test_who_watches_sees_a_server_go_and_come_back(tmp_path: Path, on_terminal: bool) -> None:
    with (
        Server(tmp_path) as server,
        Watching(server.config, ["--watch", "0.2"], on_terminal=on_terminal) as watching,
    ):
        watching.shows("Health")
        server.stop()
        watching.shows("nobody listens at")
        before = watching.output().count("Health")
        server.start()
        watching.shows("Health", count=before + 1)

        exit_status, text = watching.end(signal.SIGINT)

    assert exit_status == 0
    assert "Traceback" not in text
