"""Pairs of real sockets for the tests of the connection. gevent is imported and patches nothing."""

import socket as native
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent import socket

from hmacfs.server import socketbody

from .bodies import SHORTLY

Pair = tuple[Any, native.socket]
"""Our side as the worker has it, and the client's side as plain Python has it."""


@pytest.fixture
def tcp() -> Iterator[Pair]:
    """A connection over the loopback interface."""
    with native.create_server(("127.0.0.1", 0)) as listening:
        client = native.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    ours = socket.socket(fileno=accepted.detach())
    client.settimeout(20)
    yield ours, client
    ours.close()
    client.close()


@pytest.fixture
def unix() -> Iterator[Pair]:
    """A connected pair of Unix sockets."""
    first, client = native.socketpair()
    ours = socket.socket(native.AF_UNIX, native.SOCK_STREAM, fileno=first.detach())
    client.settimeout(20)
    yield ours, client
    ours.close()
    client.close()


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Both kinds of connection."""
    found: Pair = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def parsed() -> Callable[..., Any]:
    """A request as gunicorn's parser makes it from bytes."""
    from gunicorn.config import Config
    from gunicorn.http.parser import RequestParser

    def parse(head: bytes) -> Any:
        return next(RequestParser(Config(), iter([head]), ("127.0.0.1", 5)))

    return parse


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for more of a block."""
    monkeypatch.setattr(socketbody, "PAUSE_SECONDS", SHORTLY)
