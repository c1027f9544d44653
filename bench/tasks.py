"""What is done in one run of a work item, on one server."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable

from bench import crowds, load, slots, transfers
from bench.load import Client
from bench.outcome import Outcome
from bench.place import Place
from bench.servers import ROOT, logs_of

CONNECTIONS = 32
LOOP = "syncloop"
RESUMABLE = "hmacfs-token"
QUIET, AUDITED = "hmacfs-quiet", "hmacfs-audited"
_SLOW_RATE = 64 * 1024
_PATIENCE = 600  # seconds that one load may take at most

Task = Callable[[Place], Outcome]


class Skip(Exception):
    """This item cannot be done here; the text says why."""


def small_put(place: Place, size: int) -> Outcome:
    scale = place.ground.scale
    tag, count = place.ground.new_tag(), dict(scale.puts)[size]
    targets = [place.server.signer.put(path, size) for path in slots.paths(tag, count)]
    folder = place.ground.fleet.run
    outcome = load.wrk(place.address, "PUT", size, targets, folder, connections=CONNECTIONS, seconds=scale.seconds)
    place.ground.remove(place.server, tag, count)
    return outcome


def small_get(place: Place, size: int) -> Outcome:
    targets = small_files(place, size)
    folder, seconds = place.ground.fleet.run, place.ground.scale.seconds
    return load.wrk(place.address, "GET", size, targets, folder, connections=CONNECTIONS, seconds=seconds)


def put(place: Place, size: int, count: int) -> Outcome:
    tag = place.ground.new_tag()
    targets = [place.server.signer.put(path, size) for path in slots.paths(tag, count)]
    outcome: Outcome = Client(transfers.uploads, place.address, targets, size).result(_PATIENCE)
    place.ground.remove(place.server, tag, count)
    return outcome


def resumable_put(place: Place, size: int) -> Outcome:
    """One upload; on the server that stands for it, one that could be resumed."""
    tag = place.ground.new_tag()
    targets = [place.server.signer.put(path, size) for path in slots.paths(tag, 1)]
    more = (f"X-Session-Token: {tag:->16}",) if place.server.name == RESUMABLE else ()
    outcome: Outcome = Client(transfers.uploads, place.address, targets, size, *more).result(_PATIENCE)
    place.ground.remove(place.server, tag, 1)
    return outcome


def get(place: Place, size: int, count: int) -> Outcome:
    target = large_file(place, size)[0]
    outcome: Outcome = Client(transfers.downloads, place.address, [target] * count, size).result(_PATIENCE)
    return outcome


def large_file(place: Place, size: int) -> list[str]:
    return place.ground.files(place.server, size, 1)


def refused(place: Place, size: int) -> Outcome:
    target = place.server.signer.refused(f"{place.ground.new_tag()}/data.bin")
    outcome: Outcome = Client(transfers.refused_upload, place.address, target, size).result(_PATIENCE)
    return outcome


def nothing(place: Place) -> Outcome:
    """What pings wait where nothing else happens: the floor under the other figures."""
    seconds = place.ground.scale.seconds
    time.sleep(seconds)
    return Outcome(seconds, seconds)


def slow(place: Place) -> Outcome:
    scale = place.ground.scale
    tag, size = place.ground.new_tag(), scale.slow_seconds * _SLOW_RATE
    targets = [place.server.signer.put(path, size) for path in slots.paths(tag, scale.slow)]
    outcome: Outcome = Client(crowds.slow_uploads, place.address, targets, size, _SLOW_RATE).result(_PATIENCE)
    place.ground.remove(place.server, tag, scale.slow)
    return outcome


def idle(place: Place) -> Outcome:
    scale = place.ground.scale
    client = Client(crowds.idle, place.address, place.ping_target, scale.idle, scale.idle_seconds)
    outcome: Outcome = client.result(_PATIENCE)
    return outcome


def synced_put(place: Place) -> Outcome:
    """4 KiB PUTs, or on the reference the same file work without a server."""
    if place.server.name != LOOP:
        return small_put(place, 4096)
    scale, folder = place.ground.scale, os.path.join(place.ground.fleet.store, place.ground.new_tag())
    os.mkdir(folder)
    count = dict(scale.puts)[4096]
    command = [_loop_program(place), folder, str(CONNECTIONS), str(scale.seconds), "4096", str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if ran.returncode:
        raise load.LoadFailed(f"{LOOP}: {ran.stderr.strip()}")
    seen = json.loads(ran.stdout)
    if place.ground.in_memory:
        shutil.rmtree(folder)
    return Outcome(seen["count"], seen["seconds"], (seen["p50"], seen["p99"], seen["max"]), cpu=seen["cpu"])


def pinged(task: Task) -> Task:
    """``task`` with pings beside it."""
    return lambda place: load.with_pings(place.address, place.ping_target, lambda: task(place))


def small_files(place: Place, size: int) -> list[str]:
    return place.ground.files(place.server, size, place.ground.scale.kept)


def observed(place: Place) -> None:
    """The requests that it has had stand in the logs that the server's name promises, and in no other one."""
    name, run = place.server.name, place.ground.fleet.run
    wanted = {QUIET: (0, 0), AUDITED: (1, 1)}.get(name, (1, 0))
    found = tuple(int(os.path.exists(path) and os.path.getsize(path) > 0) for path in logs_of(name, run))
    if found != wanted:
        raise Skip(f"{name} wrote {found} and not {wanted} of its log and its audit log")


def accel_get(place: Place, size: int) -> Outcome:
    targets = large_file(place, size)
    folder, seconds = place.ground.fleet.run, place.ground.scale.seconds
    return load.wrk(place.address, "GET", size, targets, folder, connections=CONNECTIONS, seconds=seconds)


def build_loop(place: Place) -> None:
    if place.server.name == LOOP and not os.path.exists(_loop_program(place)):
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise Skip("gcc is missing: apt-get install gcc libc6-dev")
        source = os.path.join(ROOT, "bench", "syncloop.c")
        command = [compiler, "-O2", "-pthread", "-o", _loop_program(place), source]
        built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if built.returncode:
            raise Skip(f"syncloop.c cannot be compiled: {built.stderr.strip()[-300:]}")


def _loop_program(place: Place) -> str:
    return os.path.join(place.ground.fleet.run, LOOP)


def accel_file(place: Place, size: int) -> None:
    """The file is there, and the server that is to hand it to nginx does so."""
    target = large_file(place, size)[0]
    if not place.server.accel:
        return
    address = place.server.address
    with transfers.connect(address) as sock:
        lines = transfers.request_head("GET", target, address).removesuffix(b"\r\n")
        sock.sendall(lines + b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n")
        answer = transfers.read_answer(sock)
    if b"x-accel-redirect:" not in answer.head.lower():
        raise Skip("DirectDownloads has no effect: the server sends the file itself")
