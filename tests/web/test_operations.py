"""The paths of operations, and where they are answered."""

from typing import Any

import pytest

from hmacfs.errors import StorageBusy
from hmacfs.web.operations import Operations
from hmacfs.web.reply import Reply

COUNTED: list[tuple[str, str]] = []


def environ(path: str, method: str = "GET", *, came_in_on_it: bool = True, **more: Any) -> dict[str, Any]:
    flag = {"hmacfs.operations": True} if came_in_on_it else {}
    return {"REQUEST_METHOD": method, "PATH_INFO": path, **flag, **more}


def hello(_environ: dict[str, Any]) -> Reply:
    return Reply(200, [("Content-Length", "5")], b"hello")


def busy(_environ: dict[str, Any]) -> Reply:
    raise StorageBusy


def operations(*, is_apart: bool = True) -> Operations:
    COUNTED.clear()
    table = {"/metrics": hello, "/busy": busy}
    return Operations(table, is_apart=is_apart, count=lambda *counted: COUNTED.append(counted))


def test_a_listener_of_its_own_takes_every_path_and_knows_those_of_the_table() -> None:
    apart = operations()

    assert apart.takes(environ("/metrics"))
    assert apart.takes(environ("/upload/a"))
    assert apart.answer(environ("/metrics")).body == b"hello"
    assert apart.answer(environ("/upload/a")).status == 404
    assert COUNTED == [("GET", "/metrics"), ("GET", "")]


def test_on_the_main_listener_every_other_path_is_a_slots() -> None:
    beside = operations(is_apart=False)

    assert beside.takes(environ("/metrics"))
    assert not beside.takes(environ("/upload/a"))
    assert not beside.takes(environ("/metrics/"))
    assert not beside.takes(environ("//metrics"))


@pytest.mark.parametrize("is_apart", [True, False])
def test_on_the_public_listener_nothing_is_taken(is_apart: bool) -> None:
    assert not operations(is_apart=is_apart).takes(environ("/metrics", came_in_on_it=False))


def test_no_header_of_a_client_is_the_mark_of_the_server() -> None:
    named = environ("/metrics", came_in_on_it=False, HTTP_HMACFS_OPERATIONS="True")

    assert not operations().takes(named)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_only_reading_is_allowed(method: str) -> None:
    reply = operations().answer(environ("/metrics", method))

    assert reply.status == 405
    assert ("Allow", "GET, HEAD") in reply.headers


def test_head_has_the_headers_alone() -> None:
    reply = operations().answer(environ("/metrics", "HEAD"))

    assert (reply.status, reply.body) == (200, b"")
    assert ("Content-Length", "5") in reply.headers


def test_an_error_has_its_face() -> None:
    reply = operations().answer(environ("/busy"))

    assert reply.status == 503
    assert ("X-Error-Code", "storage-busy") in reply.headers
