"""Which tiers the settings name, and how the log tells which of them serves."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hmacfs import tiers
from hmacfs.settings import Settings
from hmacfs.state.base import FileRow
from hmacfs.state.members import Serving
from tests.support.ports import free_port

ROW = FileRow("id/cat.jpg", 5, "image/jpeg", "", "", 1_700_000_000, 0)


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(state_dir=str(folder / "state"), **given)


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    state = tiers.shared_state(settings(tmp_path, redis_addr=":6379", fallback_enabled=True, fallback_db_host="x"))

    assert os.listdir(tmp_path) == []
    state.stop()


def test_without_any_server_state_lies_in_statedir_for_us_alone(tmp_path: Path) -> None:
    state = tiers.shared_state(settings(tmp_path))

    state.record_files([ROW])

    assert state.find_file("id/cat.jpg") == ROW
    assert state.serving() == Serving("embedded", "embedded", {})
    assert stat.S_IMODE((tmp_path / "state" / tiers.EMBEDDED_FILE).stat().st_mode) == 0o600
    state.stop()


def test_two_processes_see_one_state(tmp_path: Path) -> None:
    one, other = (tiers.shared_state(settings(tmp_path)) for _ in range(2))

    one.record_files([ROW])

    assert other.find_file("id/cat.jpg") == ROW
    one.stop()
    other.stop()


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_the_servers_that_the_settings_name_are_asked_first(kind: str, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    database = {"fallback_db_host": nobody, "fallback_db_user": "u", "fallback_db_name": "n"}
    state = tiers.shared_state(
        settings(tmp_path, redis_addr=nobody, fallback_enabled=True, fallback_db_type=kind, **database)
    )

    state.record_files([ROW])

    serving = state.serving()
    assert (serving.sessions, serving.catalog) == ("embedded", "embedded")
    assert sorted(serving.down) == sorted(["redis", kind])
    state.stop()


def test_the_database_keys_without_the_switch_name_no_server(tmp_path: Path) -> None:
    state = tiers.shared_state(settings(tmp_path, fallback_db_host="x", fallback_db_user="u", fallback_db_name="n"))

    state.record_files([ROW])

    assert state.serving().down == {}
    state.stop()


def test_the_first_use_and_every_change_are_told(tmp_path: Path) -> None:
    seen: list[Serving] = []
    state = tiers.shared_state(settings(tmp_path), seen.append)

    state.probe()
    state.probe()

    assert seen == [Serving("embedded", "embedded", {})]
    state.stop()


@pytest.mark.parametrize(
    ("serving", "line"),
    [
        (Serving("embedded", "embedded", {}), "State tier: embedded serves"),
        (
            Serving("postgres", "postgres", {"redis": "no answer in time"}),
            "State tier: redis is down (no answer in time), postgres serves",
        ),
        (
            Serving("redis", "embedded", {"postgres": "connection refused"}),
            "State tier: postgres is down (connection refused), redis serves unfinished uploads, "
            "embedded the catalogue",
        ),
        (
            Serving("none", "none", {"embedded": "OperationalError"}),
            "State tier: embedded is down (OperationalError), none serves. Files are taken and served without it",
        ),
    ],
)
def test_a_line_names_the_tier_that_serves_and_why_others_do_not(serving: Serving, line: str) -> None:
    assert tiers.told(serving) == line
