"""Sockets bound by us: every interface, one host, a Unix socket with its mode and group; or inherited ones."""

import errno
import grp
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from hmacfs.errors import ConfigError
from hmacfs.server import listeners
from hmacfs.settings import Settings
from hmacfs.units import Address
from tests.support.ports import free_port


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what a test binds."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: a Unix socket's may have 107 bytes at most."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def bind(opened: ExitStack, address: Address, **keys: Any) -> list[socket.socket]:
    sockets = listeners.bind(Settings(listen_port=address, **keys))
    for sock in sockets:
        opened.enter_context(closing(sock))
    return sockets


def refused(opened: ExitStack, address: Address, **keys: Any) -> str:
    """The one problem that binding ends with."""
    with pytest.raises(ConfigError) as caught:
        bind(opened, address, **keys)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


def answers(sock: socket.socket, address: Any) -> bool:
    """Whether ``sock`` accepts who connects to ``address``."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        try:
            client.connect(address)
        except ConnectionRefusedError:
            return False
        sock.settimeout(5)
        peer, _ = sock.accept()
        peer.close()
        return True


class TestTcp:
    @needs_ipv6
    def test_a_port_alone_is_every_interface_of_ipv6_and_ipv4(self, opened: ExitStack) -> None:
        (sock,) = bind(opened, Address(port=0))

        port = sock.getsockname()[1]
        assert answers(sock, ("127.0.0.1", port))
        assert answers(sock, ("::1", port))

    def test_without_ipv6_in_the_kernel_it_is_ipv4_alone(
        self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = socket.socket

        def without_ipv6(family: int = -1, *arguments: Any, **keys: Any) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return real(family, *arguments, **keys)

        monkeypatch.setattr(socket, "socket", without_ipv6)
        (sock,) = bind(opened, Address(port=0))
        monkeypatch.undo()

        assert sock.family == socket.AF_INET
        assert answers(sock, ("127.0.0.1", sock.getsockname()[1]))

    def test_with_ipv6_switched_off_it_is_ipv4_alone(self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        class SwitchedOff(socket.socket):
            def bind(self, address: Any) -> None:
                if self.family == socket.AF_INET6:
                    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
                super().bind(address)

        monkeypatch.setattr(socket, "socket", SwitchedOff)
        (sock,) = bind(opened, Address(port=0))

        assert sock.family == socket.AF_INET
        assert sock.getsockname()[0] == "0.0.0.0"

    def test_an_ipv4_address_listens_there_alone(self, opened: ExitStack) -> None:
        (sock,) = bind(opened, Address("127.0.0.1", 0))

        assert sock.getsockname()[0] == "127.0.0.1"

    @needs_ipv6
    def test_an_ipv6_address_listens_there_alone(self, opened: ExitStack) -> None:
        (sock,) = bind(opened, Address("::1", 0))

        port = sock.getsockname()[1]
        assert answers(sock, ("::1", port))
        assert not answers(sock, ("127.0.0.1", port))

    @needs_ipv6
    def test_a_host_name_listens_on_all_of_its_addresses(
        self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = free_port()
        resolve(monkeypatch, "::1", "127.0.0.1")

        first, second = bind(opened, Address("upload.internal", port))

        assert answers(first, ("::1", port))
        assert answers(second, ("127.0.0.1", port))

    def test_an_address_that_the_resolver_says_twice_is_bound_once(
        self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve(monkeypatch, "127.0.0.1", "127.0.0.1")

        assert len(bind(opened, Address("upload.internal", free_port()))) == 1

    def test_addresses_that_this_machine_does_not_have_are_left_out(
        self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve(monkeypatch, "240.0.0.1", "127.0.0.1")

        (sock,) = bind(opened, Address("localhost", free_port()))

        assert sock.getsockname()[0] == "127.0.0.1"

    def test_a_name_without_an_address_of_this_machine_is_refused(
        self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve(monkeypatch, "240.0.0.1", "240.0.0.2")

        problem = refused(opened, Address("elsewhere.example", 8080))

        assert problem.startswith("ListenPort: ")
        assert "elsewhere.example:8080" in problem

    def test_an_unknown_name_is_refused(self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*arguments: Any, **keys: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)

        problem = refused(opened, Address("no.such.host", 8080))

        assert problem.startswith("ListenPort: ")
        assert "no.such.host" in problem
        assert "not known" in problem

    @pytest.mark.parametrize("host", ["", "127.0.0.1"])
    def test_a_taken_port_is_refused_with_its_address(self, host: str, opened: ExitStack) -> None:
        other = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = other.getsockname()[1]

        problem = refused(opened, Address(host, port))

        assert problem.startswith("ListenPort: ")
        assert f"{host}:{port} is in use" in problem

    @needs_ipv6
    def test_a_name_is_bound_whole_or_not_at_all(self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        other = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = other.getsockname()[1]
        resolve(monkeypatch, "::1", "127.0.0.1")

        assert "in use" in refused(opened, Address("localhost", port))

        monkeypatch.undo()
        bind(opened, Address("::1", port))

    def test_a_privileged_port_says_what_to_choose(self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        class Forbidden(socket.socket):
            def bind(self, address: Any) -> None:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(socket, "socket", Forbidden)

        problem = refused(opened, Address(port=80))

        assert "ListenPort" in problem
        assert ":80" in problem
        assert "1023" in problem

    def test_a_port_of_a_moment_ago_can_be_had_again(self, opened: ExitStack) -> None:
        (first,) = bind(opened, Address("127.0.0.1", 0))
        address = first.getsockname()
        with socket.create_connection(address) as client:
            peer, _ = first.accept()
            peer.close()  # the server's side closes first: TIME_WAIT is here
            client.recv(1)
        first.close()

        (second,) = bind(opened, Address(*address))

        assert second.getsockname() == address


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses."""

    def getaddrinfo(host: str, port: int, *arguments: Any, **keys: Any) -> list[Any]:
        found: list[Any] = []
        for address in addresses:
            if ":" in address:
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)))
            else:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestUnix:
    def test_a_socket_answers_at_its_path(self, opened: ExitStack, folder: Path) -> None:
        (sock,) = bind(opened, Address(path=str(folder / "s")))

        assert answers(sock, str(folder / "s"))

    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_its_mode_is_the_configured_one_whatever_the_umask(
        self, mode: int, umask: int, opened: ExitStack, folder: Path
    ) -> None:
        before = os.umask(umask)
        try:
            bind(opened, Address(path=str(folder / "s")), unix_socket_mode=mode)
            after = os.umask(before)
        finally:
            os.umask(before)

        assert mode_of(folder / "s") == mode
        assert after == umask

    def test_its_group_can_be_a_name(self, opened: ExitStack, folder: Path) -> None:
        name = grp.getgrgid(os.getgid()).gr_name

        bind(opened, Address(path=str(folder / "s")), unix_socket_group=name)

        assert (folder / "s").stat().st_gid == os.getgid()

    def test_its_group_can_be_a_number(self, opened: ExitStack, folder: Path) -> None:
        number = 65534 if os.geteuid() == 0 else os.getgid()

        bind(opened, Address(path=str(folder / "s")), unix_socket_group=str(number))

        assert (folder / "s").stat().st_gid == number
        assert mode_of(folder / "s") == 0o660

    def test_an_unknown_group_is_refused(self, opened: ExitStack, folder: Path) -> None:
        problem = refused(opened, Address(path=str(folder / "s")), unix_socket_group="no-such-group")

        assert problem.startswith("UnixSocketGroup: ")
        assert "no-such-group" in problem

    def test_the_umask_is_restored_after_a_failure(self, opened: ExitStack, folder: Path) -> None:
        before = os.umask(0o027)
        try:
            refused(opened, Address(path=str(folder / "missing" / "s")))
            refused(opened, Address(path=str(folder / "s")), unix_socket_group="no-such-group")
            after = os.umask(before)
        finally:
            os.umask(before)

        assert after == 0o027

    def test_a_socket_that_a_crash_left_is_replaced(self, opened: ExitStack, folder: Path) -> None:
        path = folder / "s"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as crashed:
            crashed.bind(str(path))
            crashed.listen()
        old = path.stat().st_ino, path.stat().st_ctime_ns

        (sock,) = bind(opened, Address(path=str(path)))

        assert (path.stat().st_ino, path.stat().st_ctime_ns) != old
        assert answers(sock, str(path))

    def test_a_socket_that_somebody_answers_on_stays(self, opened: ExitStack, folder: Path) -> None:
        path = str(folder / "s")
        (first,) = bind(opened, Address(path=path))

        problem = refused(opened, Address(path=path))

        assert "ListenPort" in problem
        assert path in problem
        assert "in use" in problem
        while True:  # the probe's own connection
            first.setblocking(False)
            try:
                first.accept()[0].close()
            except BlockingIOError:
                break
        assert answers(first, path)

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_what_is_no_socket_stays(self, kind: str, opened: ExitStack, folder: Path) -> None:
        path = folder / "precious"
        if kind == "file":
            path.write_bytes(b"data")
        else:
            path.mkdir()

        problem = refused(opened, Address(path=str(path)))

        assert "ListenPort" in problem
        assert str(path) in problem
        assert "not a socket" in problem
        assert path.is_dir() if kind == "folder" else path.read_bytes() == b"data"

    def test_a_missing_folder_is_refused(self, opened: ExitStack, folder: Path) -> None:
        problem = refused(opened, Address(path=str(folder / "missing" / "s")))

        assert "ListenPort" in problem
        assert str(folder / "missing" / "s") in problem

    def test_a_path_that_is_too_long_is_refused(self, opened: ExitStack, folder: Path) -> None:
        problem = refused(opened, Address(path=str(folder / ("x" * 200))))

        assert "ListenPort" in problem
        assert "too long" in problem


class TestInherited:
    def test_systemd_hands_sockets_to_this_process(self) -> None:
        assert listeners.are_inherited({"LISTEN_FDS": "1", "LISTEN_PID": "42"}, 42)

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"LISTEN_FDS": "1"},
            {"LISTEN_FDS": "1", "LISTEN_PID": "41"},
            {"LISTEN_FDS": "0", "LISTEN_PID": "42"},
            {"LISTEN_PID": "42"},
        ],
    )
    def test_sockets_for_another_process_or_none_are_not_ours(self, environ: dict[str, str]) -> None:
        assert not listeners.are_inherited(environ, 42)

    def test_the_old_master_of_a_binary_upgrade_hands_sockets_on(self) -> None:
        assert listeners.are_inherited({"GUNICORN_FD": "5,6", "GUNICORN_PID": "41"}, 42)


@pytest.mark.parametrize("group", ["\u00b2", "99999999999999", "no-such-group"])
def test_a_group_that_does_not_exist_is_told_and_leaves_no_socket(tmp_path: Path, group: str) -> None:
    path = tmp_path / "hmacfs.sock"

    with pytest.raises(ConfigError, match="UnixSocketGroup"):
        listeners.bind(Settings(unix_socket=True, listen_port=Address(path=str(path)), unix_socket_group=group))

    assert not path.exists()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_name_that_no_host_can_have_is_told(host: str) -> None:
    with pytest.raises(ConfigError, match="ListenPort"):
        listeners.bind(Settings(listen_port=Address(host=host, port=8099)))
