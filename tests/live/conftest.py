"""Servers for the live tests: one ordinary one for each file, and one for each secret of the vectors."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.server import Server, ServerOf


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def server_with_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerOf]:
    """Answers the server of this file for a secret; started when first asked for."""
    with ExitStack() as stack:
        running: dict[str, Server] = {}

        def server_of(secret: str) -> Server:
            if secret not in running:
                fresh = Server(tmp_path_factory.mktemp("secret"), Secret=secret, AllowWeakSecret=True)
                running[secret] = stack.enter_context(fresh)
            return running[secret]

        yield server_of
