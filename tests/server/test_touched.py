"""Every private name of gunicorn that we lean on is looked for, so that an upgrade fails here and not in production."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHeader
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response
from gunicorn.workers.ggevent import GeventWorker

from hmacfs.server.master import Master
from hmacfs.server.worker import TOUCHED


def parser_of(text: bytes) -> RequestParser:
    return RequestParser(Config(), iter([text]), ("127.0.0.1", 5))


def examples() -> dict[str, Any]:
    """A real object for each class whose attributes exist on its instances only."""
    parser = parser_of(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
    request = next(parser)
    chunked = next(parser_of(b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
    worker = GeventWorker(1, 1, [], Mock(), 30, Config(), Mock())
    worker.tmp.close()  # its heartbeat
    return {
        "gunicorn.http.message:Message": request,
        "gunicorn.http.message:Request": request,
        "gunicorn.http.body:LengthReader": request.body.reader,
        "gunicorn.http.body:Body": request.body,
        "gunicorn.http.body:ChunkedReader": chunked.body.reader,
        "gunicorn.http.parser:Parser": parser,
        "gunicorn.http.wsgi:Response": Response(request, None, Config()),
        "gunicorn.config:Config": Config(),
        "gunicorn.http.errors:InvalidHeader": InvalidHeader("HOST"),
        "gunicorn.workers.base:Worker": worker,
        "gunicorn.arbiter:Arbiter": Arbiter(Master(lambda: {"bind": "127.0.0.1:0", "errorlog": None}, lambda: None)),
    }


def missing(touched: Mapping[str, Sequence[str]], instances: Mapping[str, Any]) -> list[str]:
    """The names that the installed gunicorn does not have."""
    found = []
    for place, names in touched.items():
        module, _, owner = place.partition(":")
        home: Any = importlib.import_module(module)
        if owner:
            home = getattr(home, owner, None)
        example = instances.get(place)
        if home is None or (example is not None and not isinstance(example, home)):
            found.append(place)
            continue
        # A status code exists once the answer has started; a class may declare what its instances get.
        found += [f"{place}.{name}" for name in names if not (hasattr(home, name) or hasattr(example, name))]
    return found


def started(instances: dict[str, Any]) -> dict[str, Any]:
    instances["gunicorn.http.wsgi:Response"].start_response("200 OK", [("Content-Length", "5")])
    return instances


def test_every_name_that_we_touch_exists() -> None:
    assert missing(TOUCHED, started(examples())) == []


@pytest.mark.parametrize("place", list(TOUCHED))
def test_the_checker_sees_a_name_that_is_gone(place: str) -> None:
    names = (*TOUCHED[place], "renamed_by_gunicorn")

    assert missing({place: names}, started(examples())) == [f"{place}.renamed_by_gunicorn"]


def test_the_checker_sees_a_class_that_is_gone() -> None:
    assert missing({"gunicorn.http.body:Invented": ("read",)}, {}) == ["gunicorn.http.body:Invented"]


def test_the_checker_sees_a_request_that_is_made_of_other_classes() -> None:
    instances = {"gunicorn.http.body:ChunkedReader": examples()["gunicorn.http.body:LengthReader"]}

    assert missing({"gunicorn.http.body:ChunkedReader": ("read",)}, instances) == ["gunicorn.http.body:ChunkedReader"]


# --- what they mean to us ---


def test_an_expectation_is_remembered_on_the_request_and_answered_by_whoever_makes_the_environ() -> None:
    request = examples()["gunicorn.http.message:Message"]

    assert request._expected_100_continue is True


def test_a_reader_of_known_length_knows_what_is_left() -> None:
    assert examples()["gunicorn.http.body:LengthReader"].length == 5


def test_what_came_with_the_head_can_be_taken_and_put_back() -> None:
    parser = parser_of(
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    next(parser)

    data = parser.unreader.take_buffered()
    assert data.startswith(b"hello")
    assert parser.unreader.take_buffered() == b""
    parser.unreader.unread(data[5:])


def test_a_parser_goes_on_behind_a_body_that_we_replaced() -> None:
    parser = parser_of(
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    request = next(parser)
    data = parser.unreader.take_buffered()
    parser.unreader.unread(data[5:])

    class Ours:
        failed = False

        def read(self, _size: int) -> bytes:
            return b""

    request.body = Ours()

    assert next(parser).path == "/b"


def test_a_failed_body_ends_the_connection() -> None:
    parser = parser_of(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
    next(parser).body.failed = True

    with pytest.raises(StopIteration):
        next(parser)
