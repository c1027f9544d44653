"""Listening sockets, bound by us before gunicorn starts: it would retry a taken port for five seconds, and cannot set
the mode and group of a Unix socket apart from everything else's.

gunicorn gets them as ``fd://N``. Under systemd socket activation, and in the new master of a binary upgrade, the
sockets are inherited and nothing is bound here.
"""

import errno
import grp
import os
import socket
import stat
from collections.abc import Mapping
from typing import Any

from hmacfs.errors import ConfigError
from hmacfs.settings import Settings
from hmacfs.units import Address

BACKLOG = 2048
_FIRST_FD = 3
"""sd_listen_fds(3): descriptors begin behind standard error."""


def are_inherited(environ: Mapping[str, str], pid: int) -> bool:
    """Whether somebody hands us open sockets: systemd (to this very process) or the old master (GUNICORN_FD)."""
    return "GUNICORN_FD" in environ or (environ.get("LISTEN_PID") == str(pid) and environ.get("LISTEN_FDS", "0") != "0")


def inherited_names(environ: Mapping[str, str]) -> list[Any]:
    """Where each socket listens that somebody hands us, as ``getsockname`` says it; for ``are_inherited`` alone."""
    if "GUNICORN_FD" in environ:
        numbers = [int(each) for each in environ["GUNICORN_FD"].split(",")]
    else:
        numbers = list(range(_FIRST_FD, _FIRST_FD + int(environ["LISTEN_FDS"])))
    names = []
    for number in numbers:
        with socket.socket(fileno=os.dup(number)) as sock:
            names.append(sock.getsockname())
    return names


def bind(settings: Settings) -> list[socket.socket]:
    """Listening sockets for ListenPort.

    Raises:
        ConfigError: one sentence that names the key and says what to do.
    """
    return bind_to(
        settings.listen_port,
        "ListenPort",
        'Stop the other program, or choose another address, for example ListenPort = ":8081".',
        mode=settings.unix_socket_mode,
        group=settings.unix_socket_group,
    )


def bind_to(address: Address, key: str, advice: str, *, mode: int, group: str = "") -> list[socket.socket]:
    """Listening sockets for ``address``.

    Args:
        key: names the address in errors.
        advice: what to do where a TCP address is in use.
        mode, group: of a Unix socket; ``group`` empty for our own.

    Raises:
        ConfigError: one sentence that names the key and says what to do.
    """
    try:
        if address.path:
            return [_unix(address.path, mode, group)]
        return _tcp(address)
    except OSError as error:
        raise ConfigError([_explained(key, address, error, advice)]) from error
    except UnicodeError as error:  # from the encoding of host names, for empty or overlong labels
        raise ConfigError([f"{key}: {address.host} cannot be the name of a host."]) from error


def check(settings: Settings) -> None:
    """Raises ConfigError for what ``bind`` would refuse whoever listens now: an unknown host, address or group."""
    if settings.unix_socket_group:
        _group(settings.unix_socket_group)
    check_address(settings.listen_port, "ListenPort")


def check_address(address: Address, key: str) -> None:
    """Raises ConfigError for what ``bind_to`` would refuse whoever listens now: an unknown host, address or folder."""
    try:
        if address.path and not os.path.isdir(os.path.dirname(address.path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if address.host:
            for sock in _tcp(Address(address.host, 0)):
                sock.close()
    except OSError as error:
        raise ConfigError([_explained(key, address, error, "")]) from error
    except UnicodeError as error:
        raise ConfigError([f"{key}: {address.host} cannot be the name of a host."]) from error


def _tcp(address: Address) -> list[socket.socket]:
    if not address.host:
        return [_every_interface(address.port)]
    found: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, target in dict.fromkeys(
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ):
        try:
            found.append(_listening(family, target))
        except OSError as error:  # "localhost" on a machine without IPv6, say
            failure = error
            if error.errno != errno.EADDRNOTAVAIL:
                break
    if failure is not None and (not found or failure.errno != errno.EADDRNOTAVAIL):
        for sock in found:
            sock.close()
        raise failure
    return found


def _every_interface(port: int) -> socket.socket:
    """One socket for IPv6 and IPv4, or for IPv4 alone where the machine has no IPv6."""
    try:
        return _listening(socket.AF_INET6, ("::", port))
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _listening(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - what ":8080" asks for


def _listening(family: int, target: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if target[0] != "::" else 0)  # type: ignore[index]
        sock.bind(target)  # type: ignore[arg-type]
        sock.listen(BACKLOG)  # at once: two sockets may bind one port until the first of them listens
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str, mode: int, group: str) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)  # nobody else may connect before the mode is set
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    try:
        if group:
            os.chown(path, -1, _group(group))
        os.chmod(path, mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        os.unlink(path)
        raise
    return sock


def _group(name: str) -> int:
    try:
        return grp.getgrgid(int(name)).gr_gid if name.isascii() and name.isdigit() else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError, OverflowError):
        raise ConfigError([f"UnixSocketGroup: there is no group {name!r} on this machine."]) from None


def _remove_stale(path: str) -> None:
    """A socket that nobody answers on is left over from a crash. Anything else stays."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file of that name that is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _explained(key: str, address: Address, error: OSError, advice: str) -> str:
    if error.errno == errno.EADDRINUSE and address.path:
        return f"{key}: {address} is in use by another program. Stop it, or choose another path."
    if error.errno == errno.EADDRINUSE:
        return f"{key}: {address} is in use by another program. {advice}"
    if error.errno == errno.EACCES:
        return f"{key}: this user may not listen on {address}. Choose a port above 1023 or a folder it may write."
    if isinstance(error, socket.gaierror):
        return f"{key}: the host of {address} is not known ({error.strerror}). Write an address of this machine."
    advice = "Make its folder, or choose another path." if address.path else "Write an address of this machine."
    return f"{key}: cannot listen on {address} ({error.strerror or error}). {advice}"
