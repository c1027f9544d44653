"""The table for people and the JSON file for programs: medians over the rounds, and ratios paired within each round."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from statistics import median

import hmacfs
from bench.measure import CPU_UNITS, RATE_UNITS, Figures
from bench.work import Work

_COLUMNS = ("server", "rate", "cpu", "peak MiB", "p50 ms", "p99 ms", "max ms", "failed", "rate ratio", "cpu ratio")

CAVEATS = (
    "Rates, CPU, peak memory and waits are medians over the rounds. A ratio is the first server of an item divided by "
    "this one, paired within a round: median [lowest-highest]. rate above 1 and cpu below 1 speak for the first.",
    "Clients, servers and pings share the processors: rates include the clients' cost, and only figures of one "
    "table may be compared.",
    "nginx dav checks no signature, replaces existing files and never syncs: it is comparable with Durability = "
    '"none" only, and even then it does less. Plain Flask checks the signature and does not sync.',
    "CPU is that of all processes of a server (and of nginx in front where it stands there), ended children included; "
    "the kernel's writing back to disk is in nobody's account. Where pings are sent it includes answering them.",
    "In wait-, slow- and idle- items the waits are those of pings (GET of 1 byte every 2 ms over 8 connections); "
    "elsewhere those of the requests or transfers themselves.",
)


@dataclass(frozen=True)
class Setting:
    """Under what everything was measured."""

    store: str
    filesystem: str
    workers: int
    durability: str
    rounds: int
    quick: bool
    peers: tuple[str, ...]


def header(setting: Setting) -> dict[str, str]:
    """What a reader must know about the machine and the versions."""
    return {
        "processors": f"{len(os.sched_getaffinity(0))} ({_processor()}), shared by servers and clients",
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "kernel": f"{platform.system()} {platform.release()}",
        "store": f"{setting.store} ({setting.filesystem})",
        "hmacfs": f"{hmacfs.__version__}, {setting.workers} workers, Durability = {setting.durability}",
        "python": f"{platform.python_version()}, "
        + ", ".join(f"{name} {_version(name)}" for name in ("gunicorn", "gevent", "flask")),
        "nginx, wrk": f"{_told(['nginx', '-v'])}, {_told(['wrk', '-v'])}",
        "peers": ", ".join(setting.peers) or "none",
        "rounds": f"{setting.rounds}" + (", --quick: sizes scaled down, figures mean nothing" if setting.quick else ""),
    }


def table(head: dict[str, str], works: Sequence[Work], runs: Sequence[Figures]) -> str:
    """Everything that is printed."""
    lines = [f"{name:<12} {value}" for name, value in head.items()]
    groups = [(work, found) for work in works if (found := [run for run in runs if run.work == work.name])]
    cells = [[_row(row) for row in summary(work, found)] for work, found in groups]
    widths = [max(len(row[n]) for row in (_COLUMNS, *(row for rows in cells for row in rows))) for n in range(10)]
    lines += ["", _aligned(_COLUMNS, widths)]
    for (work, _), rows in zip(groups, cells, strict=True):
        lines += ["", f"{work.name}: {work.title}"]
        for row in rows:
            lines += [_aligned(row[:10], widths)] + ([f"{'':{widths[0]}}  ({row[10]})"] if row[10] else [])
    return "\n".join([*lines, "", *(f"* {text}" for text in CAVEATS)])


def summary(work: Work, runs: Sequence[Figures]) -> list[dict[str, object]]:
    """One row for each server of the item: medians, and ratios of the first server to it."""
    names = list(dict.fromkeys(run.server for run in sorted(runs, key=lambda run: run.round)))
    names.sort(key=lambda name: work.servers.index(name) if name in work.servers else len(work.servers))
    by_name = {name: [run for run in runs if run.server == name] for name in names}
    first = by_name[names[0]]
    rows: list[dict[str, object]] = []
    for name, own in by_name.items():
        row: dict[str, object] = {"work": work.name, "server": name}
        row |= {"rate_unit": RATE_UNITS[work.unit], "cpu_unit": CPU_UNITS[work.unit]}
        for figure in ("rate", "cpu", "peak_mib", "p50_ms", "p99_ms", "max_ms"):
            values = [value for run in own if (value := getattr(run, figure)) is not None]
            row[figure] = median(values) if values else None
        row["failed"] = sum(run.failed for run in own)
        row["note"] = next((run.note for run in reversed(own) if run.note), "")
        if own is not first:
            row["rate_ratio"] = _ratio(first, own, "rate")
            row["cpu_ratio"] = _ratio(first, own, "cpu")
        rows.append(row)
    return rows


def _ratio(first: Sequence[Figures], other: Sequence[Figures], figure: str) -> list[float] | None:
    """Median, lowest and highest of the rounds' ratios."""
    of_round = {run.round: getattr(run, figure) for run in first}
    pairs = [(of_round.get(run.round), getattr(run, figure)) for run in other]
    ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
    return [median(ratios), min(ratios), max(ratios)] if ratios else None


def _row(row: dict[str, object]) -> list[str]:
    rate, cpu = _number(row["rate"]), _number(row["cpu"])
    return [
        f"  {row['server']}",
        f"{rate} {row['rate_unit']}" if rate != "-" else rate,
        f"{cpu} {row['cpu_unit']}" if cpu != "-" else cpu,
        *(_number(row[name]) for name in ("peak_mib", "p50_ms", "p99_ms", "max_ms")),
        str(row["failed"]),
        _range(row.get("rate_ratio")),
        _range(row.get("cpu_ratio")),
        str(row["note"]),
    ]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join((f"{cells[0]:<{widths[0]}}", *numbers))


def _number(value: object) -> str:
    """Three significant digits, none cut off before the point."""
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _range(value: object) -> str:
    if not isinstance(value, list):
        return ""
    middle, low, high = value
    return f"{middle:.2f} [{low:.2f}-{high:.2f}]"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _told(command: Sequence[str]) -> str:
    """The first line of what a program says about its version."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return f"{command[0]} absent"
    ran = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=False)
    line = (ran.stdout or ran.stderr).strip().partition("\n")[0]
    return line.removeprefix("nginx version: ").partition(" Copyright")[0]
