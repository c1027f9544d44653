"""The work items: what is asked of which servers, how it is counted, and what must be there before."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench import tasks
from bench.place import Place, Scale
from bench.tasks import AUDITED, CONNECTIONS, LOOP, QUIET, RESUMABLE, Task

Prepare = Callable[[Place], object]
BOTH = ("hmacfs", "nginx")
OBSERVED = "observed-"


@dataclass(frozen=True)
class Work:
    """One item.

    Attributes:
        servers: ratios are those of the first to each of the others.
        peers: servers given with --peer take part.
        unit: what is counted: "requests", "bytes", "connections" or "seconds".
        waits: whose waits are reported: "requests", "transfers" or "pings".
        prepare: done once for each server, before anything is measured; raises Skip.
    """

    name: str
    title: str
    servers: tuple[str, ...]
    unit: str
    waits: str
    task: Task
    prepare: Prepare
    proxied: bool = False
    peers: bool = True


def catalogue(scale: Scale) -> list[Work]:
    """Every item, in the order of the report."""
    works = []
    for proxied in (False, True):
        works += [*_small(proxied), *_large(scale, proxied)]
    return [*works, *_observed(), *_waits(scale), *_accels(scale), _resumable(scale), _synced()]


def _small(proxied: bool) -> list[Work]:
    works = []
    for size, short in ((4096, "4k"), (65536, "64k")):
        servers = (*BOTH, "flask") if size == 4096 and not proxied else BOTH
        put, get, title = _names(short, f"{_bytes(size)}, {CONNECTIONS} connections", proxied)
        do_put, do_get = partial(tasks.small_put, size=size), partial(tasks.small_get, size=size)
        there = partial(tasks.small_files, size=size)
        works.append(Work(put, f"PUT {title}", servers, "requests", "requests", do_put, _nothing, proxied))
        works.append(Work(get, f"GET {title}", servers, "requests", "requests", do_get, there, proxied))
    return works


def _large(scale: Scale, proxied: bool) -> list[Work]:
    works = []
    for size, count, short in ((scale.large, 1, "1g"), (scale.medium, 8, "100m-x8")):
        put, get, title = _names(short, _bytes(size) + (f" x{count}" if count > 1 else ""), proxied)
        do_put, do_get = partial(tasks.put, size=size, count=count), partial(tasks.get, size=size, count=count)
        there = partial(tasks.large_file, size=size)
        beside = (*BOTH, "nginx-1m") if not proxied else BOTH
        works.append(Work(put, f"PUT {title}", beside, "bytes", "transfers", do_put, _nothing, proxied))
        works.append(Work(get, f"GET {title}", BOTH, "bytes", "transfers", do_get, there, proxied))
    return works


def _observed() -> list[Work]:
    """What metrics and logs cost: the first server has both as they are by default, with the log in a file."""
    size, servers = 4096, ("hmacfs", QUIET, AUDITED)
    title = (
        f"{_bytes(size)}, {CONNECTIONS} connections; {QUIET} has no metrics and no log, {AUDITED} JSON and audit log"
    )
    put, get = partial(tasks.small_put, size=size), partial(tasks.small_get, size=size)
    return [
        Work(f"{OBSERVED}put-4k", f"PUT {title}", servers, "requests", "requests", put, tasks.observed, peers=False),
        Work(f"{OBSERVED}get-4k", f"GET {title}", servers, "requests", "requests", get, tasks.observed, peers=False),
    ]


def _waits(scale: Scale) -> list[Work]:
    """How long others wait meanwhile."""
    size, shown = scale.large, _bytes(scale.large)
    put, get = partial(tasks.put, size=size, count=1), partial(tasks.get, size=size, count=1)
    refused, there = partial(tasks.refused, size=size), partial(tasks.large_file, size=size)
    rows: list[tuple[str, str, str, Task, Prepare]] = [
        ("wait-nothing", "pings alone", "seconds", tasks.nothing, _nothing),
        ("wait-put-1g", f"pings during a PUT of {shown}", "bytes", put, _nothing),
        ("wait-get-1g", f"pings during a GET of {shown}", "bytes", get, there),
        ("wait-refused-1g", f"pings during a refused PUT of {shown}", "bytes", refused, _nothing),
        ("slow-1000", f"pings beside {scale.slow} uploads of 64 KiB/s", "bytes", tasks.slow, _nothing),
        ("idle-10k", f"pings beside {scale.idle} idle connections", "connections", tasks.idle, _nothing),
    ]
    return [
        Work(name, title, BOTH, unit, "pings", tasks.pinged(task), partial(_with_ping_file, prepare=prepare))
        for name, title, unit, task, prepare in rows
    ]


def _accels(scale: Scale) -> list[Work]:
    """What DirectDownloads saves: skipped where it has no effect."""
    servers = ("hmacfs-accel", *BOTH)
    title = "behind nginx; hmacfs-accel lets nginx send the file"
    small, large = f"GET {_bytes(scale.accel)}, {CONNECTIONS} connections", f"GET {_bytes(scale.medium)} x8"
    one, many = partial(tasks.accel_get, size=scale.accel), partial(tasks.get, size=scale.medium, count=8)
    there = partial(tasks.accel_file, size=scale.accel), partial(tasks.accel_file, size=scale.medium)
    return [
        Work("accel-1m", f"{small}, {title}", servers, "requests", "requests", one, there[0], True, False),
        Work("accel-100m-x8", f"{large}, {title}", servers, "bytes", "transfers", many, there[1], True, False),
    ]


def _resumable(scale: Scale) -> Work:
    title = f"PUT {_bytes(scale.large)}; {RESUMABLE} can be resumed (X-Session-Token)"
    task = partial(tasks.resumable_put, size=scale.large)
    return Work("resumable-1g", title, (RESUMABLE, "hmacfs"), "bytes", "transfers", task, _nothing, peers=False)


def _synced() -> Work:
    title = f'PUT 4 KiB, {CONNECTIONS} connections, Durability = "full"; {LOOP} is the same file work in C, no HTTP'
    servers, task, built = ("hmacfs-full", LOOP), tasks.synced_put, tasks.build_loop
    return Work("synced-4k", title, servers, "requests", "requests", task, built, peers=False)


def _names(short: str, what: str, proxied: bool) -> tuple[str, str, str]:
    end, way = ("-proxied", "behind nginx") if proxied else ("", "direct")
    return f"put-{short}{end}", f"get-{short}{end}", f"{what}, {way}"


def _nothing(_place: Place) -> None:
    """No preparation."""


def _with_ping_file(place: Place, prepare: Prepare) -> None:
    place.ping_target  # noqa: B018 - reading it puts the file there
    prepare(place)


def _bytes(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
