"""What keeps the server from starting is told in one line for each problem, at once and without a traceback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import GUNICORN, HMACFS, config_in, environment, lines
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import ROOT, Server

PROMPT = 5.0
"""Seconds. gunicorn on its own would try a taken address again for five."""

# Everything is imported before the user changes: the interpreter may lie where only root can read.
AS_NOBODY = """
import codecs
import os
import hmacfs.boot
import hmacfs.cli.main
for name in ("utf-8-sig", "latin-1", "idna"):
    codecs.lookup(name)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
hmacfs.cli.main.main()
"""


@dataclass(frozen=True)
class Ending:
    """How a start ended."""

    status: int
    out: str
    err: str


def start(command: Sequence[str], config: Path) -> Ending:
    """Start a server that must end by itself, and soon."""
    started = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(HMACFS_CONFIG=str(config)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=4 * PROMPT)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate()
            pytest.fail(f"it serves instead of refusing:\n{out}\n{err}")
    assert time.monotonic() - started < PROMPT
    return Ending(process.returncode, out, err)


def serve(config: Path) -> Ending:
    return start((*HMACFS, "serve", "--config", str(config)), config)


def gunicorn(config: Path) -> Ending:
    return start(GUNICORN, config)


def serve_as_nobody(config: Path) -> Ending:
    return start((sys.executable, "-c", AS_NOBODY, "serve", "--config", str(config)), config)


Start = Callable[[Path], Ending]
both_ways = pytest.mark.parametrize("way", [serve, gunicorn])


def assert_refused(ending: Ending, *problems: Sequence[str]) -> None:
    """Exit status 2, and on standard error one line for each of ``problems``, with all of its words."""
    assert "Traceback" not in ending.out + ending.err
    assert ending.status == 2
    told = lines(ending.err)
    assert len(told) == len(problems), ending.err
    for words in problems:
        assert any(all(word in line for word in words) for line in told), f"{words} not in {ending.err}"
    assert "Starting" not in ending.out
    assert "Listening" not in ending.out


def a_file(folder: Path) -> str:
    (folder / "a-file").write_bytes(b"not a folder")
    return str(folder / "a-file")


KEYS: dict[str, tuple[Callable[[Path], dict[str, Any]], list[Sequence[str]]]] = {
    "StoreDir is a file": (lambda f: {"StoreDir": a_file(f)}, [("StoreDir", "a-file", "is not a directory")]),
    "StoreDir lies below a file": (
        lambda f: {"StoreDir": a_file(f) + "/store"},
        [("StoreDir", "a-file", "is not a directory")],
    ),
    "StateDir is a file": (lambda f: {"StateDir": a_file(f)}, [("StateDir", "a-file")]),
    "LogFile has no folder": (lambda f: {"LogFile": str(f / "missing" / "x.log")}, [("LogFile", "missing/x.log")]),
    "files of ours in StoreDir": (
        lambda f: {"StoreDir": f"{f}/s", "StateDir": f"{f}/s/state", "AuditLog": f"{f}/s/a.log"},
        [("StateDir", "lies in StoreDir"), ("AuditLog", "lies in StoreDir")],
    ),
    "one file for two logs": (
        lambda f: {"LogFile": str(f / "x.log"), "AuditLog": str(f / "x.log")},
        [("AuditLog", "x.log", "LogFile")],
    ),
    "unknown group": (
        lambda f: {"ListenPort": "unix:s", "UnixSocketGroup": "no-such-group"},
        [("UnixSocketGroup", "no-such-group")],
    ),
    "no socket at the socket path": (
        lambda f: {"ListenPort": f"unix:{a_file(f)}"},
        [("ListenPort", "a-file", "not a socket")],
    ),
    "no folder for the socket": (lambda f: {"ListenPort": f"unix:{f}/missing/s"}, [("ListenPort", "missing/s")]),
    "an address of another machine": (
        lambda f: {"ListenPort": f"240.0.0.1:{free_port()}"},
        [("ListenPort", "240.0.0.1")],
    ),
    "a short secret": (
        lambda f: {"Secret": "fifteen-bytes-x"},
        [("Secret", "16 bytes", "AllowWeakSecret", "hmacfs secret --new")],
    ),
    "a published secret": (
        lambda f: {"Secret": "stellar-wisdom-orbit-echo"},
        [("Secret", "published", "AllowWeakSecret", "hmacfs secret --new")],
    ),
    "UnixSocket with a port": (
        lambda f: {"UnixSocket": True, "ListenPort": ":8080"},
        [("UnixSocket", "ListenPort", ":8080", ".sock")],
    ),
    "several bad values": (
        lambda f: {"ListenPort": ":99999", "UploadMaxSize": "huge", "LogLevel": "loud", "NumCores": 0, "Secret": "x"},
        [
            ("ListenPort", ":99999", '":8080"'),
            ("UploadMaxSize", "huge", "64KiB"),
            ("LogLevel", "loud", "debug"),
            ("NumCores", "0", "auto"),
            ("Secret", "16 bytes"),
        ],
    ),
}


@both_ways
@pytest.mark.parametrize("name", KEYS)
def test_values_that_cannot_be_used_are_named_each_in_one_line(name: str, way: Start, tmp_path: Path) -> None:
    make, problems = KEYS[name]
    keys = {"ListenPort": f"127.0.0.1:{free_port()}", **make(tmp_path)}

    ending = way(config_in(tmp_path, **keys))

    assert_refused(ending, *problems)


@both_ways
def test_a_missing_config_file_is_told_with_its_absolute_path(way: Start, tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"

    ending = way(missing)

    assert_refused(ending, (str(missing), "does not exist", "--config"))


@both_ways
def test_a_folder_is_not_a_config_file(way: Start, tmp_path: Path) -> None:
    assert_refused(way(tmp_path), (str(tmp_path), "is a directory"))


@both_ways
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ListenPort 8080\n", ("not valid TOML", "line 1")),
        (b'ListenPort = ":8080"\nStoreDir = \n', ("not valid TOML", "line 2")),
        (b"\x7fELF\x02\x01\x01\xff\xfe", ("not UTF-8",)),
    ],
    ids=["no equals sign", "no value", "a binary file"],
)
def test_what_is_not_toml_is_no_config_file(content: bytes, words: tuple[str, ...], way: Start, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(content)

    ending = way(config)

    assert_refused(ending, (str(config), *words))


@both_ways
def test_a_taken_port_is_told_at_once_and_names_listenport(way: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        ending = way(config_in(tmp_path, ListenPort=address))

    assert_refused(ending, ("ListenPort", address, "in use"))


@both_ways
def test_a_taken_port_of_operations_names_metricsport_and_a_way_out(way: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        ending = way(config_in(tmp_path, ListenPort=f"127.0.0.1:{free_port()}", MetricsPort=address))

    assert_refused(ending, ("MetricsPort", address, "in use", 'MetricsPort = ""'))


@both_ways
def test_a_port_that_is_taken_on_ipv4_alone_is_taken(way: Start, tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        address = f":{other.getsockname()[1]}"

        ending = way(config_in(tmp_path, ListenPort=address))

    assert_refused(ending, ("ListenPort", address, "in use"))


@both_ways
def test_a_socket_that_somebody_answers_on_is_taken(way: Start, public_folder: Path) -> None:
    path = public_folder / "live.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()

        ending = way(config_in(public_folder, ListenPort=f"unix:{path}"))

    assert_refused(ending, ("ListenPort", str(path), "in use"))
    assert path.is_socket()


@both_ways
def test_a_secret_that_cannot_be_used_is_told(way: Start, tmp_path: Path) -> None:
    secret = tmp_path / "state" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"\xff\xfe rubbish that is not text")

    ending = way(config_in(tmp_path, ListenPort=f"127.0.0.1:{free_port()}", StateDir="state"))

    assert_refused(ending, (str(secret), "usable secret"))


@both_ways
@pytest.mark.parametrize("value", ['"weak-c0ffee"', "0123c0ffee", "12.c0ffee", "0xc0ffee_", '["c0ffee"]', '"c0ffee'])
def test_no_refusal_shows_the_secret(value: str, way: Start, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'LogLevel = "loud"\nSecret = {value}\n', encoding="utf-8")

    ending = way(config)

    assert ending.status == 2
    assert "c0ffee" not in ending.out + ending.err
    assert "Traceback" not in ending.out + ending.err


def test_an_unreadable_config_file_is_told(public_folder: Path) -> None:
    config = config_in(public_folder)
    os.chmod(config, 0)

    ending = serve_as_nobody(config)

    assert_refused(ending, (str(config), "may not be read"))


@pytest.mark.parametrize("key", ["StoreDir", "StateDir"])
def test_a_folder_that_may_not_be_written_is_told(key: str, public_folder: Path) -> None:
    for name in ("StoreDir", "StateDir"):
        (public_folder / name).mkdir()
        os.chmod(public_folder / name, 0o777)
    os.chmod(public_folder / key, 0o555)
    config = config_in(public_folder, ListenPort=f"127.0.0.1:{free_port()}", StoreDir="StoreDir", StateDir="StateDir")

    ending = serve_as_nobody(config)

    assert_refused(ending, (key, "Change its owner"))


def test_a_store_that_cannot_be_made_is_told(public_folder: Path) -> None:
    os.chmod(public_folder, 0o555)
    config = config_in(public_folder, ListenPort=f"127.0.0.1:{free_port()}", Secret="0123456789abcdef0123456789abcdef")

    ending = serve_as_nobody(config)

    assert_refused(ending, ("StoreDir", str(public_folder), "may not be written"))


def test_a_privileged_port_is_told(public_folder: Path) -> None:
    free_for_all = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    if free_for_all <= 1:
        pytest.skip("every user may listen on every port here")
    os.chmod(public_folder, 0o777)
    config = config_in(public_folder, ListenPort=":1")

    ending = serve_as_nobody(config)

    assert_refused(ending, ("ListenPort", ":1", "may not listen", "1023"))


def test_an_unknown_key_is_a_warning_with_a_near_name_and_the_server_serves(tmp_path: Path) -> None:
    with Server(tmp_path, UploadMaxSise=5) as server:
        (line,) = until(lambda: server.lines("UploadMaxSise"), "the warning")

    assert line.startswith("WARN[")
    assert "Did you mean UploadMaxSize?" in line


def test_an_unknown_key_is_a_warning_under_gunicorn_too(tmp_path: Path) -> None:
    with Server(tmp_path, wsgi=True, UploadMaxSise=5) as server:
        (line,) = until(lambda: server.lines("UploadMaxSise"), "the warning")

    assert line.startswith("WARN[")


def test_an_application_that_cannot_be_built_ends_the_server_and_is_not_tried_for_ever(tmp_path: Path) -> None:
    """The master's checks pass, then the worker finds its store gone."""
    store = tmp_path / "store"
    with Server(tmp_path) as server:
        worker = server.worker()
        (store / ".hmacfs").rename(tmp_path / "away")
        (store / ".hmacfs").write_bytes(b"a file in the way")
        os.kill(worker, 9)

        assert server.wait() != 0

        assert "Traceback" not in server.output()
        assert server.lines("StoreDir")
