"""Whether a configuration makes an application is found out beside the master, in bounded time."""

import os
from pathlib import Path

import pytest

from hmacfs import rehearsal
from hmacfs.rehearsal import Rehearsal
from tests.support.polling import until
from tests.support.server import SECRET, toml


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(toml({"Secret": SECRET, "StoreDir": str(tmp_path), "StateDir": str(tmp_path)}), encoding="utf-8")
    return path


def answer(attempt: Rehearsal) -> list[str]:
    found = until(lambda: [found] if (found := attempt.problems()) is not None else [], "it is known")
    return found[0]


def test_nobody_waits_for_the_answer(config: Path) -> None:
    attempt = Rehearsal(str(config))

    assert attempt.problems() is None
    assert answer(attempt) == []


def test_what_is_wrong_is_told(config: Path) -> None:
    config.write_text("Secret = [", encoding="utf-8")

    (problem,) = answer(Rehearsal(str(config)))

    assert str(config) in problem


@pytest.mark.parametrize("content", [None, "Secret = ["])
def test_the_answer_is_right_where_the_master_has_reaped_it_with_its_workers(config: Path, content: str | None) -> None:
    if content is not None:
        config.write_text(content, encoding="utf-8")
    attempt = Rehearsal(str(config))
    os.waitpid(attempt._process.pid, 0)

    assert bool(answer(attempt)) is (content is not None)


def test_one_that_takes_too_long_is_broken_off(config: Path) -> None:
    attempt = Rehearsal(str(config), seconds=0)

    (problem,) = answer(attempt)

    assert "took longer than 0 s" in problem
    assert attempt._process.returncode is not None


def test_who_wants_to_wait_gets_the_same_answer(config: Path) -> None:
    assert rehearsal.problems(str(config)) == []


def test_what_lies_in_the_working_directory_is_no_program(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the store, and then the file is somebody's upload."""
    (tmp_path / "here/hmacfs").mkdir(parents=True)
    for name in ("hmacfs/__init__.py", "secrets.py"):
        (tmp_path / "here" / name).write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path / "here")

    assert rehearsal.problems(str(config)) == []
