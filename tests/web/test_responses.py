"""Answers that are not errors: headers of a download, and the file that the proxy is told to send instead of us."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import paths
from hmacfs.core.paths import SlotPath
from hmacfs.errors import StorageFailed
from hmacfs.offload import InlinePool
from hmacfs.services.admission import Admission, Limits
from hmacfs.services.downloads import Download, Transfer
from hmacfs.services.observer import Exchange
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage.base import Entity, Metadata
from hmacfs.storage.stored import LocalStored
from hmacfs.web import responses
from hmacfs.web.responses import OFFLOAD_FROM, FileBody, Offload

ENTITY = Entity(1, 10, 784_111_777_000_000_000)
NGINX = Offload("X-Accel-Redirect:/hidden/", "/srv/store")
APACHE = Offload("X-Sendfile", "/srv/my store/ä")
OFF = Offload("", "/srv/store")
PATH = paths.parse(b"a/b.png")


def exchange() -> Exchange:
    return Exchange("GET", "a/b.png", "")


def download(**changed: object) -> Download:
    given: dict[str, object] = {
        "status": 200,
        "entity": ENTITY,
        "content_type": "image/png",
        "disposition": None,
        "cache_control": "public",
        "first": 0,
        "length": 10,
        **changed,
    }
    return Download(**given)  # type: ignore[arg-type]


# --- headers ---


def test_a_download_says_what_it_is_and_what_a_browser_must_not_do() -> None:
    told = exchange()

    reply = responses.downloaded(download(content=b"0123456789"), PATH, OFF, told)

    assert (reply.status, reply.body, told.sent) == (200, b"0123456789", 10)
    assert dict(reply.headers) == {
        "Content-Type": "image/png",
        "ETag": ENTITY.etag,
        "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
        "Accept-Ranges": "bytes",
        "Cache-Control": "public",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Content-Length": "10",
    }


def test_a_slice_says_where_it_lies() -> None:
    reply = responses.downloaded(download(status=206, first=2, length=3, content=b"234"), PATH, OFF, exchange())

    assert dict(reply.headers)["Content-Range"] == "bytes 2-4/10"
    assert dict(reply.headers)["Content-Length"] == "3"


def test_an_unchanged_file_has_neither_body_nor_length() -> None:
    reply = responses.downloaded(download(status=304, length=0), PATH, OFF, exchange())

    assert (reply.status, reply.body) == (304, b"")
    assert dict(reply.headers)["ETag"] == ENTITY.etag
    assert "Content-Length" not in dict(reply.headers)


def test_an_attachment_says_so() -> None:
    reply = responses.downloaded(download(disposition='attachment; filename="x"'), PATH, OFF, exchange())

    assert dict(reply.headers)["Content-Disposition"] == 'attachment; filename="x"'


def test_a_created_file_has_its_place_and_its_tag() -> None:
    reply = responses.created(paths.parse("a/ä b+?.png".encode()), "upload", ENTITY)

    assert (reply.status, reply.body) == (201, b"")
    assert reply.headers == [
        ("Location", "/upload/a/%C3%A4%20b%2B%3F.png"),
        ("ETag", ENTITY.etag),
        ("Content-Length", "0"),
    ]


# --- the proxy sends it ---


@pytest.mark.parametrize("offload", [NGINX, APACHE])
def test_a_file_for_the_proxy_has_our_headers_and_no_body(offload: Offload) -> None:
    told = exchange()

    reply = responses.downloaded(download(offloaded=True), PATH, offload, told)

    headers = dict(reply.headers)
    assert (reply.status, reply.body, told.sent) == (200, b"", 0)
    assert headers["Content-Length"] == "0"
    assert (headers["Content-Type"], headers["ETag"]) == ("image/png", ENTITY.etag)
    assert reply.headers[-1] == offload.header(PATH)


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("a/b.png", "a/b.png"),
        ("a/b c.png", "a/b%20c.png"),
        ("a/what?.png", "a/what%3F.png"),
        ("a/100%.png", "a/100%25.png"),
        ("a/%41.png", "a/%2541.png"),
        ("a/1+1.png", "a/1%2B1.png"),
        ("a/Grüße.png", "a/Gr%C3%BC%C3%9Fe.png"),
        ("a/#1&x=y;z,@!$'()*.png", "a/%231%26x%3Dy%3Bz%2C%40%21%24%27%28%29%2A.png"),
        ('a/"q"\\.png', "a/%22q%22%5C.png"),
        ("a/\N{GRINNING FACE}", "a/%F0%9F%98%80"),
        ("a/-._~", "a/-._~"),
    ],
)
def test_a_path_for_the_proxy_is_percent_encoded(path: str, encoded: str) -> None:
    where = paths.parse(path.encode())

    assert NGINX.header(where) == ("X-Accel-Redirect", f"/hidden/{encoded}")
    assert APACHE.header(where) == ("X-Sendfile", f"/srv/my%20store/%C3%A4/{encoded}")


def test_a_store_with_a_slash_at_its_end_is_the_same_store() -> None:
    assert Offload("X-Sendfile", "/srv/store/").header(PATH) == ("X-Sendfile", "/srv/store/a/b.png")
    assert Offload("X-Sendfile", "/").header(PATH) == ("X-Sendfile", "/a/b.png")


@given(st.binary(min_size=1, max_size=200))
def test_decoded_once_the_header_names_these_very_bytes_and_can_never_split(raw: bytes) -> None:
    path = SlotPath(raw, tuple(raw.split(b"/")))

    for offload, base in ((NGINX, b"/hidden/"), (APACHE, "/srv/my store/ä/".encode())):
        _, value = offload.header(path)
        assert re.fullmatch(r"(?:[A-Za-z0-9/._~-]|%[0-9A-F]{2})*", value)
        assert unquote_to_bytes(value) == base + raw


@pytest.mark.parametrize(
    ("offload", "peer_is_proxy", "threshold"),
    [(OFF, True, None), (OFF, False, None), (NGINX, False, None), (NGINX, True, OFFLOAD_FROM), (APACHE, True, 65537)],
)
def test_only_a_trusted_proxy_is_told_to_send(offload: Offload, peer_is_proxy: bool, threshold: int | None) -> None:
    assert offload.threshold(peer_is_proxy=peer_is_proxy) == threshold


# --- a file as a body ---


CONTENT = bytes(range(256)) * 4096


def transfer(folder: Path) -> Transfer:
    """An open file of 1 MiB."""
    (folder / "file").write_bytes(CONTENT)
    descriptor = os.open(folder / "file", os.O_RDONLY)
    stored = LocalStored(InlinePool(), descriptor, Entity(1, len(CONTENT), 1), Metadata("x/y"), None)
    return Transfer(stored, Admission(Limits(transfers=1), Scoreboard(), lambda: 0, lambda: 0.0))


@pytest.mark.parametrize(("first", "length"), [(0, 2**20), (0, 1), (5, 256 * 1024), (1000, 700_000), (2**20 - 1, 1)])
def test_a_slice_of_a_file_is_sent_whole_and_counted(tmp_path: Path, first: int, length: int) -> None:
    told = exchange()
    body = FileBody(transfer(tmp_path), first, length, told)

    blocks = list(body)

    assert b"".join(blocks) == CONTENT[first : first + length]
    assert max(map(len, blocks)) <= 256 * 1024
    assert told.sent == length
    body.close()


def test_a_file_that_becomes_shorter_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    body = FileBody(transfer(tmp_path), 0, 2**20, exchange())
    next(body)

    os.truncate(tmp_path / "file", 256 * 1024)

    with pytest.raises(StorageFailed):
        next(body)
    body.close()


def test_a_server_that_sends_the_file_itself_is_told_where_and_tells_how_much(tmp_path: Path) -> None:
    told = exchange()
    body = FileBody(transfer(tmp_path), 100, 1000, told)

    descriptor, first, length = body.file_slice()

    assert os.pread(descriptor, length, first) == CONTENT[100:1100]
    body.progress(600)
    body.progress(400)
    assert told.sent == 1000
    body.close()


def test_a_closed_body_closes_its_file(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    body = FileBody(transfer(tmp_path), 0, 10, exchange())

    body.close()
    body.close()

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_file_is_the_body_itself(tmp_path: Path) -> None:
    told = exchange()

    reply = responses.downloaded(download(transfer=transfer(tmp_path), length=2**20), PATH, OFF, told)

    assert isinstance(reply.body, FileBody)
    assert (dict(reply.headers)["Content-Length"], told.sent) == (str(2**20), 0)
    reply.body.close()
