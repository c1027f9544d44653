"""Which errors of a connection are worth another attempt, and what is said of them."""

import errno
import http.client
import socket
import ssl

import pytest

from hmacfs.cli import connecting
from hmacfs.settings import Settings
from hmacfs.units import Address

PASSING: list[OSError | http.client.HTTPException] = [
    ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    BrokenPipeError(errno.EPIPE, "pipe"),
    TimeoutError("timed out"),
    OSError(errno.ENETUNREACH, "no network"),
    OSError(errno.EHOSTUNREACH, "no host"),
    ssl.SSLEOFError(8, "cut within TLS"),
    socket.gaierror(socket.EAI_AGAIN, "the resolver is busy"),
    http.client.RemoteDisconnected("closed without an answer"),
    http.client.IncompleteRead(b""),
]
LASTING: list[OSError | http.client.HTTPException] = [
    socket.gaierror(socket.EAI_NONAME, "no such name"),
    ssl.SSLCertVerificationError(1, "a certificate of somebody else"),
    PermissionError(errno.EACCES, "not our socket"),
    http.client.BadStatusLine("SSH-2.0"),
    http.client.LineTooLong("header"),
]


def to_server() -> http.client.HTTPConnection:
    return connecting.connection(None, "http", "upload.example.org:8080")


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_an_error_that_may_pass_is_worth_another_attempt(error: OSError | http.client.HTTPException) -> None:
    assert connecting.trouble(to_server(), error).may_pass


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_an_error_that_stays_is_not(error: OSError | http.client.HTTPException) -> None:
    assert not connecting.trouble(to_server(), error).may_pass


def test_a_refused_connection_names_the_place() -> None:
    told = connecting.trouble(to_server(), ConnectionRefusedError()).sentence

    assert told == "nobody listens at upload.example.org:8080. Is the server running?"


def test_a_missing_unix_socket_is_a_server_that_does_not_run() -> None:
    settings = Settings(listen_port=Address(path="/run/hmacfs.sock"))

    trouble = connecting.trouble(connecting.connection(settings, "http", "localhost"), FileNotFoundError())

    assert trouble.may_pass
    assert "nobody listens at /run/hmacfs.sock" in trouble.sentence


def test_the_other_sides_words_cannot_steer_the_terminal() -> None:
    told = connecting.trouble(to_server(), http.client.BadStatusLine("\x1b[2Jgone\r\n")).sentence

    assert told.isprintable()
    assert "gone" in told
