"""The short way and Flask's way to the same answers: methods, refusals, files left to the proxy, and the end told."""

import hashlib
import hmac
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask, request, request_started

from hmacfs.app import Application, create_app
from hmacfs.services.observer import Exchange, Observer
from hmacfs.services.uploads import SMALL
from hmacfs.settings import Settings
from hmacfs.storage.local import LocalStorage

SECRET = "a-secret-long-enough-for-anybody"
PROXY = "127.0.0.1"
STRANGER = "192.0.2.7"
LARGE = SMALL + 1


class Answer(NamedTuple):
    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.headers)

    @property
    def code(self) -> str:
        return self.fields.get("X-Error-Code", "")


class Recorder(Observer):
    def __init__(self) -> None:
        self.answers: list[Exchange] = []
        self.errors: list[BaseException] = []

    def answered(self, exchange: Exchange) -> None:
        self.answers.append(exchange)

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        self.errors.append(error)


class House:
    """The whole application over a real store, called as a WSGI server calls it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.store = folder / "store"
        self.told = Recorder()
        given = {"secret": SECRET, "store_dir": str(self.store), "state_dir": str(folder / "state"), **settings}
        self.app: Application = create_app(Settings(**given), self.told)

    def environ(self, method: str, path: str, *, body: bytes = b"", query: str = "", **fields: Any) -> dict[str, Any]:
        return {
            "REQUEST_METHOD": method,
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": STRANGER,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **({"CONTENT_LENGTH": str(len(body))} if method == "PUT" else {}),
            **fields,
        }

    def call(self, environ: dict[str, Any], way: Callable[..., Any] | None = None) -> Answer:
        told: list[Any] = []
        sent = (way or self.app)(environ, lambda status, headers, exc_info=None: told.append((status, headers)))
        try:
            body = b"".join(sent)
        finally:
            if hasattr(sent, "close"):
                sent.close()
        ((status, headers),) = told
        assert [name for name, _ in headers].count("X-Request-ID") == 1
        # Each request has one of its own, and the answers are compared.
        return Answer(status, [field for field in headers if field[0] != "X-Request-ID"], body)

    def by_flask(self, environ: dict[str, Any], start_response: Any) -> Any:
        """The long way, through contexts, routing and the blueprint."""
        return Flask.wsgi_app(self.app, environ, start_response)

    def put(self, path: str, body: bytes, **fields: Any) -> Answer:
        return self.call(self.environ("PUT", f"/upload/{path}", body=body, query=signed(path, len(body)), **fields))

    def get(self, path: str, **fields: Any) -> Answer:
        return self.call(self.environ("GET", f"/upload/{path}", **fields))

    def close(self) -> None:
        storage = self.app.files._site.downloads._storage
        assert isinstance(storage, LocalStorage)
        os.close(storage._root)
        os.close(storage.staging.fd)


def signed(path: str, size: int) -> str:
    return "v=" + hmac.new(SECRET.encode(), f"{path} {size}".encode(), hashlib.sha256).hexdigest()


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    built: list[House] = []

    def build(**settings: Any) -> House:
        built.append(House(tmp_path, **settings))
        return built[-1]

    yield build
    for house in built:
        house.close()


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house(upload_max_size=10 * SMALL)


# --- two ways ---

REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "a/small", {}),
    ("GET", "a/large", {}),
    ("GET", "a/missing", {}),
    ("GET", "a", {}),
    ("GET", "", {}),
    ("GET", "a//b", {}),
    ("GET", "a/../b", {}),
    ("GET", ".hmacfs/x", {}),
    ("GET", "a/\n", {}),
    ("GET", "a/small", {"HTTP_RANGE": "bytes=1-2"}),
    ("GET", "a/large", {"HTTP_RANGE": "bytes=1-70000"}),
    ("GET", "a/small", {"HTTP_RANGE": "bytes=99-"}),
    ("GET", "a/small", {"HTTP_RANGE": "bytes=0-1,2-3"}),
    ("GET", "a/small", {"HTTP_IF_MATCH": '"other"'}),
    ("GET", "a/small", {"HTTP_ORIGIN": "https://example.org"}),
    ("GET", "a/missing", {"HTTP_ACCEPT": "application/json"}),
    ("GET", "a/small", {"QUERY_STRING": "v=1&v=2"}),
    ("GET", "a/small", {"QUERY_STRING": "%zz"}),
    ("HEAD", "a/small", {}),
    ("HEAD", "a/large", {"HTTP_RANGE": "bytes=1-2"}),
    ("OPTIONS", "a//b", {}),
    ("PUT", "a/small", {}),
    ("PUT", "a/small", {"CONTENT_LENGTH": "5"}),
    ("PUT", "a/small", {"QUERY_STRING": signed("a/small", 0)}),
    ("PUT", "a/new", {"QUERY_STRING": signed("a/new", 5), "CONTENT_LENGTH": "5"}),
    ("PUT", "a/new", {"QUERY_STRING": signed("a/new", 10**9), "CONTENT_LENGTH": str(10**9)}),
    ("PUT", "a/new", {"CONTENT_LENGTH": ""}),
    ("PUT", "a/new", {"CONTENT_LENGTH": "-1"}),
    ("PUT", "a/new", {"HTTP_CONTENT_RANGE": "bytes 0-4/5"}),
    ("PUT", "a/new", {"HTTP_TRANSFER_ENCODING": "gzip"}),
    ("POST", "a/small", {}),
    ("PATCH", "a/small", {}),
    ("DELETE", "a/small", {}),
    ("TRACE", "a/small", {}),
    ("PROPFIND", "a/small", {}),
    ("DELETE", "a//b", {}),
    ("DELETE", "", {}),
    ("POST", "a/small", {"HTTP_ACCEPT": "application/problem+json"}),
]


@pytest.mark.parametrize(("method", "path", "fields"), REQUESTS)
def test_both_ways_answer_byte_for_byte_alike(house: House, method: str, path: str, fields: dict[str, str]) -> None:
    house.put("a/small", b"0123456789", CONTENT_TYPE="image/png")
    house.put("a/large", bytes(LARGE), CONTENT_TYPE="video/mp4")
    house.told.answers.clear()

    short = house.call(house.environ(method, f"/upload/{path}", **fields))
    flask = house.call(house.environ(method, f"/upload/{path}", **fields), house.by_flask)

    assert short == flask
    first, second = house.told.answers
    first.seconds = second.seconds = 0.0
    first.request_id = second.request_id = ""
    assert first == second
    assert house.told.errors == []


@pytest.mark.parametrize("path", ["/", "//", "/other", "/upload", "/upload/", "/uploads/a", "/upload//", "/a b+%?"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_both_ways_agree_outside_of_the_slots(house: House, method: str, path: str) -> None:
    short = house.call(house.environ(method, path))
    flask = house.call(house.environ(method, path), house.by_flask)

    assert short == flask
    assert short.status[0] == "4"


def test_only_methods_of_nobody_s_go_through_flask(house: House) -> None:
    by_flask: list[str] = []

    def note(_app: Flask, **_: Any) -> None:
        by_flask.append(request.method)

    with request_started.connected_to(note):
        for method in ("GET", "HEAD", "PUT", "OPTIONS", "POST", "PATCH", "DELETE", "PROPFIND"):
            house.call(house.environ(method, "/upload/a/b"))

    assert by_flask == ["PROPFIND"]


def test_both_ways_store_alike(house: House) -> None:
    query = signed("a/new", 5)
    short = house.call(house.environ("PUT", "/upload/a/new", body=b"hello", query=query))
    (house.store / "a/new").unlink()
    flask = house.call(house.environ("PUT", "/upload/a/new", body=b"hello", query=query), house.by_flask)

    for answer in (short, flask):
        assert (answer.status, answer.body) == ("201 Created", b"")
        assert answer.fields["Location"] == "/upload/a/new"
        assert answer.fields["Content-Length"] == "0"
    assert (house.store / "a/new").read_bytes() == b"hello"


def test_both_ways_tell_what_is_allowed(house: House) -> None:
    for way in (house.app, house.by_flask):
        answer = house.call(house.environ("OPTIONS", "/upload/a/b"), way)

        assert (answer.status, answer.body) == ("204 No Content", b"")
        assert answer.fields["Allow"] == "GET, HEAD, OPTIONS, PUT, POST"
        assert answer.fields["Access-Control-Allow-Origin"] == "*"
        assert answer.fields["Access-Control-Max-Age"] == "7200"


def test_a_method_of_nobody_s_is_answered_by_ours(house: House) -> None:
    answer = house.call(house.environ("BREW", "/upload/a/b"))

    assert (answer.status, answer.code) == ("405 Method Not Allowed", "method-not-allowed")
    assert answer.fields["Allow"] == "GET, HEAD, OPTIONS, PUT, POST"
    assert answer.fields["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["a//b", "a/", "/a", "a//"])
def test_nobody_is_redirected(house: House, path: str) -> None:
    for method in ("GET", "PUT", "POST", "OPTIONS"):
        for way in (house.app, house.by_flask):
            answer = house.call(house.environ(method, f"/upload/{path}"), way)
            assert (answer.status, answer.code) == ("400 Bad Request", "bad-path")


# --- what goes through ---


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE, 5 * SMALL + 3])
def test_what_was_stored_is_served(house: House, size: int) -> None:
    content = os.urandom(size)

    stored = house.put("a/b c.png", content, CONTENT_TYPE="image/png")
    served = house.get("a/b c.png")

    assert (stored.status, stored.fields["Location"]) == ("201 Created", "/upload/a/b%20c.png")
    assert (served.status, served.body, served.fields["Content-Type"]) == ("200 OK", content, "image/png")
    assert served.fields["ETag"] == stored.fields["ETag"]
    assert served.fields["Content-Length"] == str(size)
    assert [told.received for told in house.told.answers] == [size, 0]
    assert [told.sent for told in house.told.answers] == [0, size]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_arrived_of_a_refused_body_is_told_and_nothing_of_it_as_kept(house: House, size: int) -> None:
    refused = house.put("a/b", bytes(size), HTTP_X_CHECKSUM="0" * 64)
    stored = house.put("a/b", bytes(size))

    told = [(answer.received, answer.kept) for answer in house.told.answers]
    assert (refused.status[:3], stored.status[:3], told) == ("400", "201", [(size, 0), (size, size)])


def test_a_piece_that_is_repeated_arrives_and_is_neither_kept_nor_a_continuation(house: House) -> None:
    for first in (0, 5, 5):
        fields = {"HTTP_CONTENT_RANGE": f"bytes {first}-{first + 4}/10", "HTTP_X_SESSION_TOKEN": "token-of-client-1"}
        house.call(house.environ("PUT", "/upload/a/b", body=b"01234", query=signed("a/b", 10), **fields))

    told = [(answer.received, answer.kept, answer.is_continued) for answer in house.told.answers]
    assert told == [(5, 5, False), (5, 5, True), (5, 0, False)]


@pytest.mark.parametrize("path", ["a/small", "a/large"])
def test_a_head_is_a_get_without_its_body(house: House, path: str) -> None:
    house.put("a/small", b"0123456789")
    house.put("a/large", bytes(LARGE))

    head = house.call(house.environ("HEAD", f"/upload/{path}"))
    get = house.get(path)

    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_a_second_put_is_refused_whatever_its_size(house: House) -> None:
    house.put("a/b", b"first")

    for size in (0, 5, SMALL, LARGE):
        answer = house.put("a/b", bytes(size))
        assert (answer.status, answer.code) == ("409 Conflict", "file-exists")

    assert house.get("a/b").body == b"first"


# --- the end ---


@pytest.mark.parametrize("path", ["a/small", "a/large"])
@pytest.mark.parametrize("blocks", [0, 1])
def test_an_answer_that_is_given_up_closes_its_file_and_is_told(house: House, path: str, blocks: int) -> None:
    house.put("a/small", b"0123456789")
    house.put("a/large", bytes(8 * SMALL))
    house.told.answers.clear()
    before = len(os.listdir("/proc/self/fd"))

    sending = house.app(house.environ("GET", f"/upload/{path}"), lambda *_: None)
    for _ in zip(range(blocks), sending, strict=False):
        pass
    assert house.told.answers == []
    sending.close()

    (told,) = house.told.answers
    assert (told.status, told.path) == (200, path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_place_is_free_again_when_the_answers_are_closed(open_house: Callable[..., House]) -> None:
    house = open_house(max_workers=1)
    house.put("a/large", bytes(LARGE))

    for _ in range(5):
        house.app(house.environ("GET", "/upload/a/large"), lambda *_: None).close()

    assert house.get("a/large").body == bytes(LARGE)


def test_flask_s_way_closes_too(house: House) -> None:
    house.put("a/large", bytes(LARGE))
    house.told.answers.clear()
    before = len(os.listdir("/proc/self/fd"))

    house.call(house.environ("GET", "/upload/a/large"), house.by_flask)

    assert [told.sent for told in house.told.answers] == [LARGE]
    assert len(os.listdir("/proc/self/fd")) == before


# --- draining ---


@pytest.mark.parametrize("size", [5, LARGE])
def test_a_draining_server_takes_nothing_new_and_serves_on(house: House, size: int) -> None:
    house.put("a/b", b"first")

    house.app.drain()

    refused = house.put("a/new", bytes(size))
    assert (refused.status, refused.code, refused.fields["Retry-After"]) == ("503 Service Unavailable", "draining", "5")
    assert house.put("a/b", bytes(size)).code == "file-exists"
    assert house.get("a/b").body == b"first"
    assert house.call(house.environ("OPTIONS", "/upload/a/new")).status == "204 No Content"
    assert house.call(house.environ("PUT", "/upload/a/new", query="v=00")).code == "bad-signature"


# --- left to the proxy ---

NGINX = "X-Accel-Redirect:/hidden/"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "size", "offloaded"),
    [
        (PROXY, STRANGER, LARGE, True),
        (PROXY, "", LARGE, True),
        (PROXY, STRANGER, SMALL, False),
        (STRANGER, PROXY, LARGE, False),
        (STRANGER, "", LARGE, False),
        ("", STRANGER, LARGE, True),
    ],
)
def test_a_large_file_is_left_to_a_trusted_proxy_and_to_nobody_else(
    open_house: Callable[..., House], peer: str, forwarded_for: str, size: int, offloaded: bool
) -> None:
    house = open_house(direct_downloads=NGINX)
    house.put("a/what? 1+1=100%.png", bytes(size))

    answer = house.get("a/what? 1+1=100%.png", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded_for)

    assert answer.status == "200 OK"
    assert answer.fields.get("X-Accel-Redirect") == ("/hidden/a/what%3F%201%2B1%3D100%25.png" if offloaded else None)
    assert len(answer.body) == (0 if offloaded else size)


def test_x_sendfile_names_the_file_in_the_store(open_house: Callable[..., House]) -> None:
    house = open_house(direct_downloads="X-Sendfile")
    house.put("a/b.png", bytes(LARGE))

    answer = house.get("a/b.png", REMOTE_ADDR=PROXY)

    assert answer.fields["X-Sendfile"] == f"{house.store}/a/b.png"


def test_the_proxy_that_sends_judges_the_range(open_house: Callable[..., House]) -> None:
    house = open_house(direct_downloads=NGINX)
    house.put("a/b.png", bytes(LARGE))

    for header in ("bytes=0-9", f"bytes={LARGE}-", "bytes=0-1,2-3"):
        left = house.get("a/b.png", REMOTE_ADDR=PROXY, HTTP_RANGE=header)
        assert left.status == "200 OK"
        assert "Content-Range" not in left.fields
        assert "X-Accel-Redirect" in left.fields
    own = house.get("a/b.png", REMOTE_ADDR=STRANGER, HTTP_RANGE="bytes=0-9")
    assert (own.status, len(own.body)) == ("206 Partial Content", 10)


def test_a_proxy_s_head_and_conditions_are_answered_by_us(open_house: Callable[..., House]) -> None:
    house = open_house(direct_downloads=NGINX)
    tag = house.put("a/b.png", bytes(LARGE)).fields["ETag"]

    head = house.call(house.environ("HEAD", "/upload/a/b.png", REMOTE_ADDR=PROXY))
    unchanged = house.get("a/b.png", REMOTE_ADDR=PROXY, HTTP_IF_NONE_MATCH=tag)

    assert (head.status, head.fields["Content-Length"]) == ("200 OK", str(LARGE))
    assert unchanged.status == "304 Not Modified"
    assert not {"X-Accel-Redirect"} & {*head.fields, *unchanged.fields}


def test_without_direct_downloads_a_proxy_gets_the_bytes(house: House) -> None:
    house.put("a/b.png", bytes(LARGE))

    answer = house.get("a/b.png", REMOTE_ADDR=PROXY)

    assert len(answer.body) == LARGE
    assert not {"X-Accel-Redirect", "X-Sendfile"} & set(answer.fields)


def test_a_refused_head_has_no_body(tmp_path: Path) -> None:
    house = House(tmp_path)

    assert house.call(house.environ("HEAD", "/upload/missing")).body == b""
