"""Load generators in processes of their own: wrk for small requests, Python clients for everything else."""

import json
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bench.outcome import Outcome, waits_of
from bench.pings import Waits, ping
from bench.transfers import Address

_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "small.lua")
_SPAWN = multiprocessing.get_context("spawn")  # nothing of the parent's threads and descriptors


class LoadFailed(Exception):
    """A generator ended without a result; the text says why."""


class Client:
    """A Python function in another process, with an end to waiting for it."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._name = function.__name__
        self._pipe, theirs = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(target=_run, args=(theirs, function, args), daemon=True)
        self._process.start()
        theirs.close()

    def result(self, timeout: float) -> Any:
        """What the function returned. Raises LoadFailed."""
        try:
            if not self._pipe.poll(timeout):
                raise LoadFailed(f"{self._name} was not done after {timeout:g} s")
            good, value = self._pipe.recv()
        except EOFError:
            raise LoadFailed(f"{self._name} died") from None
        finally:
            self.end()
        if not good:
            raise LoadFailed(f"{self._name}: {value}")
        return value

    def end(self) -> None:
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


class Pings:
    """Pings in the background, from entering (when they run) to leaving. ``result`` is theirs afterwards."""

    def __init__(self, address: Address, target: str) -> None:
        self._where = (address, target)
        self.result = Waits()

    def __enter__(self) -> "Pings":
        self._stop = _SPAWN.Event()
        running = _SPAWN.Event()
        self._client = Client(ping, *self._where, running, self._stop)
        if not running.wait(30):
            self._client.end()
            raise LoadFailed("pings got no answer")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if kind is not None:
            self._client.end()
            return
        self.result = self._client.result(30)


def with_pings(address: Address, target: str, load: Callable[[], Outcome]) -> Outcome:
    """``load`` with pings beside it; the waits of the outcome are those of the pings."""
    with Pings(address, target) as pings:
        outcome = load()
    outcome.waits = waits_of(pings.result.seconds)
    if pings.result.failed:
        outcome.note = f"{outcome.note}, {pings.result.failed} pings failed".lstrip(", ")
    return outcome


def wrk(
    address: Address,
    method: str,
    size: int,
    targets: Sequence[str],
    folder: str,
    *,
    connections: int,
    seconds: int,
) -> Outcome:
    """Small requests on keep-alive connections. PUT targets are used once each, GET targets in turn.

    Args:
        folder: where the list of targets may lie.
        seconds: at most; PUTs end earlier when the targets are used up.
    """
    listing = os.path.join(folder, "targets.txt")
    with open(listing, "w", encoding="ascii") as file:
        file.writelines(f"{target}\n" for target in targets)
    program = shutil.which("wrk")
    if program is None:
        raise LoadFailed("wrk is missing: apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", _SCRIPT]
    command += [f"http://{address[0]}:{address[1]}/", "--", method, str(size), listing]
    command += ["once"] if method == "PUT" else []
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    line = next((line for line in ran.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadFailed(f"wrk gave no result: {(ran.stderr or ran.stdout).strip()[-300:]}")
    seen = json.loads(line[len("RESULT ") :])
    good = seen["requests"] - seen["status"]
    return Outcome(good, seen["seconds"], (seen["p50"], seen["p99"], seen["max"]), seen["status"] + seen["broken"])


def _run(pipe: Connection, function: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        answer = (True, function(*args))
    except Exception as error:  # noqa: BLE001 - it is the parent who tells
        answer = (False, f"{type(error).__name__}: {error}")
    try:
        pipe.send(answer)
    except BrokenPipeError:
        pass  # nobody waits any more
