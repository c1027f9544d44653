#!/usr/bin/env python3
"""The command line of the benchmark: start the servers, run the items in rounds, print the table, write the JSON."""

import argparse
import fnmatch
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # `bench/run.py` from any folder

from bench import report  # noqa: E402
from bench.measure import Figures, rounds  # noqa: E402
from bench.place import QUICK, Ground, Scale  # noqa: E402
from bench.servers import CannotStart, Fleet, Peer, parse_peer  # noqa: E402
from bench.work import OBSERVED, Work, catalogue  # noqa: E402

_RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results.json")


def main() -> None:
    arguments = _parser().parse_args()
    scale = QUICK if arguments.quick else Scale()
    works = _chosen(catalogue(scale), arguments.only, arguments.skip)
    if arguments.list:
        print("\n".join(f"{work.name:<18} {work.title}: {', '.join(work.servers)}" for work in works))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    _prepare_machine(works, scale, arguments)
    setting = report.Setting(
        store=os.path.abspath(arguments.store),
        filesystem=_filesystem(arguments.store),
        workers=arguments.workers,
        durability=arguments.durability,
        rounds=arguments.rounds,
        quick=arguments.quick,
        peers=tuple(peer.name for peer in arguments.peer),
    )
    head = report.header(setting)
    runs = _measured(works, scale, setting, arguments.peer)
    print(report.table(head, works, runs))
    _write_json(arguments.json, head, works, runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare this server with nginx and with other running servers.")
    add = parser.add_argument
    add("--store", default="/dev/shm", help="folder for the files of all servers; its filesystem counts (%(default)s)")
    add("--rounds", type=int, default=3, help="how often every server does every item (%(default)s)")
    add("--only", nargs="+", metavar="NAME", default=["*"], help="items, also as patterns like 'put-*'")
    add("--skip", nargs="+", metavar="NAME", default=[], help="items to leave out, also as patterns")
    add("--list", action="store_true", help="show the items and end")
    add("--json", metavar="FILE", default=_RESULTS, help="every run and the medians (%(default)s)")
    add("--peer", action="append", default=[], type=_peer, metavar="NAME=URL,SECRET,SUBDIR",
        help="another server that runs already; its files are left there")  # fmt: skip
    add("--durability", choices=("none", "full"), default="none", help="ours; nginx never syncs (%(default)s)")
    add("--workers", type=int, default=2, help="processes of every server that is started (%(default)s)")
    add("--quick", action="store_true", help="small sizes: shows that everything runs, the figures mean nothing")
    return parser


def _peer(text: str) -> Peer:
    try:
        return parse_peer(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=http://HOST:PORT,SECRET,SUBDIR") from None


def _chosen(works: list[Work], only: Sequence[str], skip: Sequence[str]) -> list[Work]:
    for pattern in (*only, *skip):
        if not any(fnmatch.fnmatchcase(work.name, pattern) for work in works):
            sys.exit(f"bench: there is no item {pattern!r}; --list shows them")

    def matches(work: Work, patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(work.name, pattern) for pattern in patterns)

    return [work for work in works if matches(work, only) and not matches(work, skip)]


def _prepare_machine(works: Sequence[Work], scale: Scale, arguments: argparse.Namespace) -> None:
    """What is missing is said now and not after half an hour."""
    packages = [name for name in ("wrk", "nginx") if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if packages:
        sys.exit(f"bench: programs are missing: apt-get install {' '.join(packages)}")
    store = arguments.store
    if not os.path.isdir(store):
        sys.exit(f"bench: {store} is not a folder")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if any(work.name == "idle-10k" for work in works) and 0 < hard < scale.idle + 500:
        print(f"bench: idle-10k needs {scale.idle + 500} descriptors, the limit is {hard} (ulimit -n)", file=sys.stderr)
    need = _space(works, scale, 1 if _filesystem(store) == "tmpfs" else arguments.rounds)
    if (free := shutil.disk_usage(store).free) < need:
        sys.exit(f"bench: {store} has {free >> 20} MiB free, {need >> 20} MiB are needed")


def _space(works: Sequence[Work], scale: Scale, kept_rounds: int) -> int:
    """Bytes that the store must have room for, at most: files for GETs, and the small files of so many rounds."""
    sizes = {"4k": 4096, "64k": 65536}
    need = 6 * (scale.large + 2 * scale.medium)
    for work in works:
        kind, _, size = work.name.removeprefix(OBSERVED).removesuffix("-proxied").partition("-")
        if kind == "put" and size in sizes:
            files = dict(scale.puts)[sizes[size]] * len(work.servers) * kept_rounds
            need += files * (sizes[size] + 8192)  # a directory block and an inode for each
    return need


def _measured(works: Sequence[Work], scale: Scale, setting: report.Setting, peers: Sequence[Peer]) -> list[Figures]:
    """Every run so far, also when it was interrupted."""
    names = list(dict.fromkeys(name for work in works for name in work.servers))
    folder = tempfile.mkdtemp(prefix="hmacfs-bench-", dir=setting.store)
    runs: list[Figures] = []
    try:
        os.mkdir(os.path.join(folder, "run"))
        with Fleet(os.path.join(folder, "run"), folder, setting.workers, setting.durability) as fleet:
            fleet.start(names, peers)
            ground = Ground(fleet, scale, setting.filesystem == "tmpfs")
            for figures in rounds(ground, works, setting.peers, setting.rounds):
                runs.append(figures)
    except CannotStart as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        print("bench: interrupted, this is what was measured", file=sys.stderr)
    finally:
        print("bench: removing the files", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    return runs


def _filesystem(folder: str) -> str:
    """Type of the filesystem, from the deepest mount point above the folder."""
    path = os.path.realpath(folder)
    best = ("", "unknown")
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, point, kind = line.split()[:3]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]


def _write_json(path: str, head: dict[str, str], works: Sequence[Work], runs: Sequence[Figures]) -> None:
    medians = [
        row for work in works if (found := [run for run in runs if run.work == work.name])
        for row in report.summary(work, found)
    ]  # fmt: skip
    content = {"header": head, "caveats": report.CAVEATS, "medians": medians, "runs": [run.as_json() for run in runs]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    print(f"\n{path}")


if __name__ == "__main__":
    main()
