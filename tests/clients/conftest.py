"""One server and one of each client for all tests here: a browser takes longer to start than to upload."""

from collections.abc import Iterator

import pytest

from tests.clients.cuts import CHUNK, SIZE, Source, make_source
from tests.clients.fleet import Fleet
from tests.support.server import Server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), ChunkSize=CHUNK) as running:
        yield running


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as started:
        yield started


@pytest.fixture(scope="package")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    made = make_source(tmp_path_factory.mktemp("source"), SIZE)
    yield made
    made.path.unlink()
