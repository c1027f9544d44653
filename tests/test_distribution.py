"""Who runs which tests, and when: the table of tests/support/distribution.py is true of the folders that there are."""

from pathlib import Path

import pytest

from tests.support.distribution import FIRST, TOGETHER, Scheduling, place_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("folder", [*TOGETHER, *(f"tests/{name}" for name in FIRST)])
def test_every_folder_that_is_named_has_tests(folder: str) -> None:
    assert list((ROOT / folder).glob("test_*.py"))


def test_what_starts_processes_comes_before_what_does_not() -> None:
    found = ["tests/core/test_a.py::test_b", "tests/test_a.py::test_b", "tests/live/test_a.py::test_b[x/y]"]

    assert sorted(found, key=place_of) == found[::-1]


def test_the_next_file_is_the_next_in_order_and_the_tests_of_one_clone_stay_together(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig.option, "loadscopereorder", True)
    monkeypatch.setattr(pytestconfig.option, "tx", ["popen"])

    scheduling = Scheduling(pytestconfig)

    found = [f"tests/{path}::test_b" for path in ("install/test_a.py", "install/test_c.py", "live/test_a.py")]
    scopes = list(map(scheduling._split_scope, found))
    assert scopes == ["tests/install/", "tests/install/", "tests/live/test_a.py"]
    assert not pytestconfig.option.loadscopereorder
