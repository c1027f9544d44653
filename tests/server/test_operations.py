"""The operations listener: where it is bound, and which of several inherited sockets it is."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hmacfs.errors import ConfigError
from hmacfs.server import operations
from hmacfs.server.worker import TransferWorker, WorkerLimits, worker_class
from hmacfs.settings import Settings, contradictions, operations_address, operations_on_main
from hmacfs.units import parse_address
from tests.support.ports import free_port


def settings(metrics: str | None = "127.0.0.1:9090", listen: str = ":8080", *, enabled: bool = True) -> Settings:
    port = None if metrics is None else parse_address(metrics)
    return Settings(metrics_enabled=enabled, metrics_port=port, listen_port=parse_address(listen))


@pytest.fixture
def listening() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def handed(stack: ExitStack, *ports: int) -> dict[str, str]:
    """The environment in which an old master hands over sockets on these ports."""
    socks = [stack.enter_context(socket.create_server(("127.0.0.1", port))) for port in ports]
    return {"GUNICORN_FD": ",".join(str(sock.fileno()) for sock in socks)}


# --- which address ---


def test_it_is_apart_unless_it_is_off_or_on_the_main_listener() -> None:
    assert str(operations_address(settings())) == "127.0.0.1:9090"
    assert operations_address(settings(None)) is None
    assert operations_address(settings(":8080")) is None
    assert operations_address(settings(enabled=False)) is None


@pytest.mark.parametrize(
    ("metrics", "enabled", "on_main"),
    [(None, True, True), (":8080", True, True), (":8081", True, False), (None, False, False), (":8080", False, False)],
)
def test_it_is_on_the_main_listener_where_nothing_else_is_named(
    metrics: str | None, enabled: bool, on_main: bool
) -> None:
    assert operations_on_main(settings(metrics, enabled=enabled)) is on_main


@pytest.mark.parametrize("prefix", ["", "health"])
def test_a_main_listener_on_which_its_paths_are_slots_is_refused(prefix: str) -> None:
    beside = Settings(metrics_port=None, upload_sub_dir=prefix)
    apart = Settings(upload_sub_dir=prefix)

    assert any("MetricsPort" in problem and "UploadSubDir" in problem for problem in contradictions(beside))
    assert contradictions(apart) == []
    assert contradictions(Settings(metrics_port=None, metrics_enabled=False, upload_sub_dir=prefix)) == []


@pytest.mark.parametrize(
    ("metrics", "listen", "is_wrong"),
    [
        ("127.0.0.1:8080", ":8080", True),
        (":8080", "127.0.0.1:8080", True),
        ("127.0.0.2:8080", "127.0.0.1:8080", False),
        (":8080", ":8080", False),
        ("unix:/run/a", ":8080", False),
        ("127.0.0.1:9090", "unix:/run/a", False),
    ],
)
def test_one_port_on_two_addresses_is_refused(metrics: str, listen: str, is_wrong: bool) -> None:
    assert any("one port" in problem for problem in contradictions(settings(metrics, listen))) is is_wrong


# --- binding ---


def test_nothing_is_bound_where_it_is_off_or_on_the_main_listener() -> None:
    assert operations.bind(settings(None)) == []
    assert operations.bind(settings(enabled=False)) == []


def test_it_listens_where_the_key_says() -> None:
    port = free_port()

    (sock,) = operations.bind(settings(f"127.0.0.1:{port}"))

    with sock:
        assert sock.getsockname() == ("127.0.0.1", port)
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_taken_port_names_the_key_and_says_what_to_do(listening: ExitStack) -> None:
    taken = listening.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]

    with pytest.raises(ConfigError) as caught:
        operations.bind(settings(f"127.0.0.1:{taken}"))

    (problem,) = caught.value.problems
    assert problem.startswith(f"MetricsPort: 127.0.0.1:{taken} is in use")
    assert 'MetricsPort = ""' in problem


def test_an_address_of_another_machine_is_refused_before_anything_listens() -> None:
    with pytest.raises(ConfigError, match="MetricsPort"):
        operations.check(settings("240.0.0.1:9090"))


# --- inherited sockets ---


def test_an_inherited_socket_is_known_by_its_address(listening: ExitStack) -> None:
    main, other = free_port(), free_port()

    environ = handed(listening, main, other)

    assert operations.among_inherited(settings(f"127.0.0.1:{other}"), environ) == {1}
    assert operations.among_inherited(settings(f"127.0.0.1:{main}"), environ) == {0}
    assert operations.among_inherited(settings("127.0.0.1:1"), environ) == set()
    assert operations.among_inherited(settings(enabled=False), environ) == set()


def test_of_two_inherited_sockets_with_one_port_the_address_tells(listening: ExitStack) -> None:
    port = free_port()
    socks = [listening.enter_context(socket.create_server((host, port))) for host in ("127.0.0.2", "127.0.0.1")]
    environ = {"GUNICORN_FD": ",".join(str(sock.fileno()) for sock in socks)}

    assert operations.among_inherited(settings(f"127.0.0.1:{port}"), environ) == {1}
    assert operations.among_inherited(settings(f"127.0.0.2:{port}"), environ) == {0}
    assert operations.among_inherited(settings(f"localhost:{port}"), environ) == {1}


def test_a_socket_on_another_address_than_the_configuration_has_is_known_by_its_port(listening: ExitStack) -> None:
    main, other = free_port(), free_port()

    environ = handed(listening, main, other)

    assert operations.among_inherited(settings(f"127.0.0.2:{other}"), environ) == {1}
    assert operations.among_inherited(settings(f":{other}"), environ) == {1}


def test_where_only_it_is_inherited_nothing_is_left_for_slots(listening: ExitStack) -> None:
    port = free_port()

    with pytest.raises(ConfigError, match="MetricsPort"):
        operations.among_inherited(settings(f"127.0.0.1:{port}"), handed(listening, port))


def test_of_systemds_sockets_the_first_is_the_main_one(listening: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    socks = [listening.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
    first = 900  # far above what the tests before have open, which may have holes
    for number, sock in enumerate(socks):
        listening.callback(os.close, os.dup2(sock.fileno(), first + number))
    monkeypatch.setattr("hmacfs.server.listeners._FIRST_FD", first)

    assert operations.among_inherited(settings("127.0.0.1:1"), {"LISTEN_FDS": "2"}) == {1}
    assert operations.among_inherited(settings("127.0.0.1:1"), {"LISTEN_FDS": "1"}) == set()


def test_a_worker_knows_its_place() -> None:
    made = worker_class(WorkerLimits(), None, [1])

    assert issubclass(made, TransferWorker)
    assert made.operations == {1}
    assert TransferWorker.operations == set()


def test_descriptors_are_left_as_they_were(listening: ExitStack) -> None:
    environ = handed(listening, free_port())
    before = os.listdir("/proc/self/fd")

    operations.among_inherited(settings(), environ)

    assert os.listdir("/proc/self/fd") == before
