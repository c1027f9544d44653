"""One ordinary server for each file, and a folder that other users may enter."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def unix_server() -> Iterator[Server]:
    """On a Unix socket. Its path is short: the kernel takes no more than 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with Server(path, address=str(path / "hmacfs.sock")) as running:
            yield running


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may read and enter: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp())
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder)
