"""One clone for all tests here: installing takes longer than all the rest."""

from pathlib import Path

import pytest

from tests.install.clone import MakeRun, NoPackages, copy_of_the_tree
from tests.support.skipping import skip_or_fail


@pytest.fixture(scope="session")
def installed_clone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A clone in which `make run` has run once, and what that printed to standard output and error."""
    folder = tmp_path_factory.mktemp("install") / "clone"
    folder.mkdir()
    copy_of_the_tree(folder)
    try:
        with MakeRun(folder) as run:
            out = run.out
    except NoPackages as error:
        skip_or_fail(f"no package index can be reached: {error}")
    return folder, out, run.err


@pytest.fixture(scope="session")
def clone(installed_clone: tuple[Path, str, str]) -> Path:
    return installed_clone[0]
