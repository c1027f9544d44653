"""Processors that may be used: the affinity mask, cut down by quotas of the cgroup and of those above it."""

import os
from pathlib import Path

import pytest

from hmacfs.server import cpus


def cgroup(tmp_path: Path, membership: str, **quotas: str) -> tuple[str, str]:
    """A fake tree of cgroups: the arguments of ``_quotas``. In keys, two underscores stand for a slash."""
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, content in quotas.items():
        folder = root / name.replace("__", "/").removeprefix("root")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(content + "\n", encoding="ascii")
    member = tmp_path / "membership"
    member.write_text(membership, encoding="ascii")
    return str(root), str(member)


@pytest.mark.parametrize(
    ("content", "whole"),
    [("200000 100000", 2), ("150000 100000", 2), ("100001 100000", 2), ("50000 100000", 1), ("1000 100000", 1)],
)
def test_a_quota_is_rounded_up_to_whole_processors(content: str, whole: int, tmp_path: Path) -> None:
    assert cpus._quotas(*cgroup(tmp_path, "0::/app\n", app=content)) == [whole]


def test_no_limit_is_no_quota(tmp_path: Path) -> None:
    assert cpus._quotas(*cgroup(tmp_path, "0::/app\n", app="max 100000")) == []


def test_the_quotas_of_the_groups_above_count_too(tmp_path: Path) -> None:
    tree = cgroup(tmp_path, "0::/slice/app\n", slice__app="400000 100000", slice="200000 100000", root="800000 100000")

    assert sorted(cpus._quotas(*tree)) == [2, 4, 8]


def test_a_container_that_sees_its_own_group_as_root_has_its_quota(tmp_path: Path) -> None:
    assert cpus._quotas(*cgroup(tmp_path, "0::/\n", root="300000 100000")) == [3]


def test_lines_of_cgroup_v1_are_passed_over(tmp_path: Path) -> None:
    membership = "12:cpu,cpuacct:/old\n1:name=systemd:/init.scope\n0::/app\n"

    assert cpus._quotas(*cgroup(tmp_path, membership, app="200000 100000", old="100000 100000")) == [2]


@pytest.mark.parametrize("content", ["", "rubbish", "1 2 3", "x 100000"])
def test_a_file_that_cannot_be_understood_is_no_quota(content: str, tmp_path: Path) -> None:
    assert cpus._quotas(*cgroup(tmp_path, "0::/app\n", app=content)) == []


def test_a_machine_without_cgroups_has_no_quotas(tmp_path: Path) -> None:
    assert cpus._quotas(str(tmp_path / "cgroup"), str(tmp_path / "membership")) == []


def test_a_group_that_is_not_mounted_here_has_no_quota(tmp_path: Path) -> None:
    assert cpus._quotas(*cgroup(tmp_path, "0::/not/visible/here\n")) == []


@pytest.mark.parametrize(("mask", "quotas", "usable"), [(8, [], 8), (8, [2, 4], 2), (2, [4], 2), (1, [1], 1)])
def test_the_least_of_mask_and_quotas_counts(
    mask: int, quotas: list[int], usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(mask)))
    monkeypatch.setattr(cpus, "_quotas", lambda: quotas)

    assert cpus.usable_cpus() == usable


def test_this_machine_has_at_least_one() -> None:
    assert 1 <= cpus.usable_cpus() <= len(os.sched_getaffinity(0))
