"""Steps that the tests of the running server share."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.http import Connection, Headers, put_head
from tests.support.polling import until
from tests.support.server import Server, open_files, stat_fields
from tests.support.skipping import skip_or_fail


def held_by(server: Server, pid: int) -> list[str]:
    """Files below StoreDir that one worker holds open."""
    root = f"{server.store_dir}/"
    return [target for target in open_files(pid) if target.startswith(root) and not os.path.isdir(target)]


def begin_upload(
    server: Server, stack: ExitStack, path: str, size: int, sent: int = 100_000, headers: Headers = ()
) -> Connection:
    """An upload of ``size`` bytes that stalls after ``sent``, once the server holds a file for it.

    Args:
        stack: closes the connection, which is an abort.
    """
    before = len(server.open_store_files())
    connection = stack.enter_context(Connection(server.address))
    connection.send(put_head(server, path, size, headers=headers) + bytes(sent))
    until(lambda: len(server.open_store_files()) > before, "the body is being collected")
    return connection


def send_for_ever(connection: Connection, pieces: Iterable[bytes], patience: float, pause: float = 0.0) -> None:
    """Send piece after piece until the server has had enough, which is an OSError; gives up after ``patience``."""
    deadline = time.monotonic() + patience
    for piece in pieces:
        if time.monotonic() > deadline:
            return
        connection.send(piece)
        time.sleep(pause)


@contextmanager
def only(server: Server, pid: int) -> Iterator[None]:
    """While the block runs, no worker but ``pid`` takes a connection: the others are stopped."""
    others = [other for other in server.worker_pids() if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        for other in others:
            until(lambda other=other: stat_fields(other)[:1] == ["T"], "the worker stands still")  # type: ignore[misc]
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        skip_or_fail(f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """``mount ARGUMENTS folder`` for as long as the block runs; the folder is made."""
    if os.geteuid():
        skip_or_fail("mounting needs root")
    folder.mkdir()
    _run(["mount", *arguments, str(folder)])
    try:
        yield folder
    finally:
        until(lambda: not subprocess.run(["umount", str(folder)], check=False).returncode, f"{folder} is unmounted")


@contextmanager
def small_tmpfs(folder: Path, mebibytes: int) -> Iterator[Path]:
    with mounted(folder, "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs") as store:
        yield store


def make_ext4(image: Path, mebibytes: int) -> None:
    """An image file with an empty ext4."""
    with open(image, "wb") as opened:
        opened.truncate(mebibytes * 1024 * 1024)
    _run(["mkfs.ext4", "-q", "-F", str(image)])


def make_xfs(image: Path, mebibytes: int) -> None:
    """An image file with an empty xfs, which has reflinks; at least 300 MiB, sparse."""
    with open(image, "wb") as opened:
        opened.truncate(mebibytes * 1024 * 1024)
    try:
        _run(["mkfs.xfs", "-q", str(image)])
    except FileNotFoundError:
        skip_or_fail("mkfs.xfs is not installed")


def refuses(server: Server) -> bool:
    """Whether new connections are refused."""
    try:
        Connection(server.address).sock.close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the queue when the listener closed
        return False
    return False
