"""The names and flags by which people and units call the program."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hmacfs import __version__
from tests.cli.running import Done, hmacfs, lines, run
from tests.support import http
from tests.support.polling import until
from tests.support.server import Server
from tests.support.skipping import skip_or_fail

COMMANDS = ("serve", "check", "config", "secret", "sign", "put", "get")
SCRIPTS = Path(sys.executable).parent


def script(name: str) -> str:
    path = SCRIPTS / name
    if not path.exists():
        skip_or_fail(f"{path} is not installed")
    return str(path)


class ScriptServer(Server):
    """A server that a console script runs."""

    def __init__(self, folder: Path, *command: str, **keys: Any) -> None:
        super().__init__(folder, **keys)
        self._command = (*command, str(self.config))


def test_version_is_printed() -> None:
    done = hmacfs("--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"hmacfs, version {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command_with_a_sentence(flag: str) -> None:
    done = hmacfs(flag)

    assert done.returncode == 0
    described = dict(line.split(maxsplit=1) for line in lines(done.stdout.partition("Commands:\n")[2]) if line.strip())
    assert set(described) >= set(COMMANDS)
    assert all(described.values())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(flag: str, command: str) -> None:
    done = hmacfs(command, flag)

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert "--help" in done.stdout


@pytest.mark.parametrize(
    "arguments", [("no-such-command",), ("serve", "--no-such-option"), ("sign",), ("put",), ("get",)]
)
def test_a_wrong_call_is_exit_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = hmacfs(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_console_script_is_the_same_program() -> None:
    done: Done = run((script("hmacfs"), "--version"))

    assert done.stdout == f"hmacfs, version {__version__}\n"


@pytest.mark.parametrize(
    "command", [("hmac-file-server", "-config"), ("hmac-file-server", "--config"), ("hmacfs", "serve", "--config")]
)
def test_a_console_script_serves(command: tuple[str, ...], tmp_path: Path) -> None:
    name, *arguments = command

    with ScriptServer(tmp_path, script(name), *arguments) as server:
        assert http.put(server, "a/b", b"content").status == 201
        assert http.get(server, "a/b").body == b"content"


@pytest.mark.parametrize("name", ["hmac-file-server", "hmacfs"])
def test_the_line_that_is_printed_at_start_can_be_executed_anywhere(name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = (script(name), *(() if name == "hmac-file-server" else ("serve",)), "--config")

    with ScriptServer(tmp_path, *command) as server:
        (line,) = until(lambda: server.lines("Try it with"), "the line to try")
        done = run(("sh", "-c", line.removeprefix("  Try it with")), cwd=elsewhere)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{server.url}/upload/")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_one_closing_line_and_exit_status_0(number: int, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        os.kill(server.pid, number)

        assert server.wait() == 0

        assert server.output().splitlines()[-1].endswith("] Stopped")
        assert "Traceback" not in server.output()


def test_the_start_prints_no_secret_and_no_signature(tmp_path: Path) -> None:
    with Server(tmp_path, Secret="") as server:
        made = (server.state_dir / "secret").read_text(encoding="ascii").strip()
        until(lambda: server.lines("Try it with"), "the line to try")

        assert made not in server.output()
        assert "v2=" not in server.output()
