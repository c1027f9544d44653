"""Where files of ours may lie: not where a download reaches them, whatever links lead there."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hmacfs import places
from hmacfs.errors import ConfigError
from hmacfs.settings import Settings
from hmacfs.units import Address


def settings(folder: Path, **values: Any) -> Settings:
    return replace(Settings(), store_dir=str(folder / "store"), state_dir=str(folder / "state"), **values)


INSIDE = [
    ("StateDir", lambda place: {"state_dir": place}),
    ("LogFile", lambda place: {"log_file": place}),
    ("AuditLog", lambda place: {"audit_log": place}),
    ("SecretFile", lambda place: {"secret_file": place}),
    ("ListenPort", lambda place: {"listen_port": Address(path=place)}),
    ("MetricsPort", lambda place: {"metrics_port": Address(path=place)}),
]


@pytest.mark.parametrize(("key", "values"), INSIDE)
@pytest.mark.parametrize("place", ["store/x", "store/deep/er/x", "store/.hidden", "elsewhere/../store/x", "link/x"])
def test_nothing_of_ours_may_lie_in_the_store(key: str, values: Any, place: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    made = replace(settings(tmp_path), **values(str(tmp_path / place)))

    (problem,) = places.problems(made, "")

    assert problem.startswith(f"{key}: {tmp_path / place} lies in StoreDir")
    with pytest.raises(ConfigError):
        places.check(made, "")


@pytest.mark.parametrize(("key", "values"), INSIDE)
@pytest.mark.parametrize("place", ["store-2/x", "x", "out/x"])
def test_everything_may_lie_beside_the_store_above_it_and_behind_a_link_in_it(
    key: str, values: Any, place: str, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "out").symlink_to("store-2")

    assert places.problems(replace(settings(tmp_path), **values(str(tmp_path / place))), "") == []


def test_the_store_may_lie_in_statedir_but_not_be_it(tmp_path: Path) -> None:
    inside = replace(Settings(), store_dir=str(tmp_path / "store"), state_dir=str(tmp_path))
    same = replace(inside, state_dir=inside.store_dir)

    assert places.problems(inside, "") == []
    assert len(places.problems(same, "")) == 1


def test_a_store_behind_a_link_is_what_the_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to("disk")

    assert len(places.problems(settings(tmp_path, log_file=str(tmp_path / "disk" / "x.log")), "")) == 1


def test_the_configuration_file_holds_secrets_and_may_not_lie_in_the_store_either(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    config = tmp_path / "store" / "config.toml"
    missing = places.problems(settings(tmp_path), str(config))
    config.touch()

    found = places.problems(settings(tmp_path), str(config))

    assert (len(missing), len(found)) == (0, 1)
    assert str(config) in found[0]


def test_log_and_audit_log_are_two_files(tmp_path: Path) -> None:
    os.symlink("h.log", tmp_path / "a.log")

    one = places.problems(settings(tmp_path, log_file=str(tmp_path / "h.log"), audit_log=str(tmp_path / "a.log")), "")
    two = places.problems(settings(tmp_path, log_file=str(tmp_path / "h.log"), audit_log=str(tmp_path / "b.log")), "")

    assert [problem.partition(":")[0] for problem in one] == ["AuditLog"]
    assert two == []
