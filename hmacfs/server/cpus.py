"""How many processors this process may really use."""

import os

_CGROUPS = "/sys/fs/cgroup"


def usable_cpus() -> int:
    """At least 1: the affinity mask, cut down by the CPU quota of the cgroup and of those above it."""
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas()]))


def _quotas(root: str = _CGROUPS, membership: str = "/proc/self/cgroup") -> list[int]:
    """Whole processors that each level's quota allows, rounded up. Empty without quotas or without cgroup v2."""
    try:
        with open(membership, encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    path = next((line.partition("::")[2] for line in lines if line.startswith("0::")), "/")
    found = []
    while True:
        quota = _quota(os.path.join(root, path.lstrip("/"), "cpu.max"))
        if quota is not None:
            found.append(quota)
        if path in ("", "/"):
            return found
        path = os.path.dirname(path)


def _quota(file_name: str) -> int | None:
    try:
        with open(file_name, encoding="ascii") as file:
            quota, period = file.read().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None
