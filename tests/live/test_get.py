"""GET and HEAD: headers, ranges, conditions, and files that were there before us."""

from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

import pytest

from tests.support.http import Answer, Connection, get, head_of, put, request, url_of
from tests.support.polling import until
from tests.support.server import Server

BODY = bytes(range(256)) * 40  # 10,240 bytes, every position told apart within 256
SIZE = len(BODY)
PATH = "ranges/file.bin"


@pytest.fixture(scope="module")
def etag(server: Server) -> str:
    """ETag of BODY, stored under PATH."""
    return put(server, PATH, BODY, "image/png")["ETag"]


def ranged(server: Server, value: str, *more: tuple[str, str]) -> Answer:
    return get(server, PATH, [("Range", value), *more])


def test_every_safety_header_is_there(server: Server, etag: str) -> None:
    answer = get(server, PATH)

    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer["ETag"] == etag
    assert answer["Content-Length"] == str(SIZE)
    assert answer["Content-Type"] == "image/png"
    assert answer.get("Set-Cookie") is None


def test_last_modified_is_the_time_of_the_file(server: Server, etag: str) -> None:
    stored = (server.store_dir / PATH).stat()

    assert get(server, PATH)["Last-Modified"] == formatdate(int(stored.st_mtime), usegmt=True)


def test_head_is_get_without_the_body(server: Server, etag: str) -> None:
    fetched = get(server, PATH)

    with Connection(server.address) as connection:
        connection.send(head_of("HEAD", url_of(server, PATH)))
        head = connection.read_head()
        rest = connection.read_to_end()

    assert rest == b""
    assert head.status == 200
    assert head["Content-Length"] == str(SIZE)
    own = ("Date", "X-Request-ID")
    alike = [[header for header in answer.headers if header[0] not in own] for answer in (head, fetched)]
    assert alike[0] == alike[1]


def test_head_of_what_is_not_there_is_404_without_a_body(server: Server) -> None:
    with Connection(server.address) as connection:
        connection.send(head_of("HEAD", "/upload/nothing/here"))
        head = connection.read_head()
        rest = connection.read_to_end()

    assert head.status == 404
    assert int(head["Content-Length"]) > 0
    assert rest == b""


def test_an_empty_file_has_a_length_of_zero(server: Server) -> None:
    put(server, "empty/file")

    assert get(server, "empty/file")["Content-Length"] == "0"
    assert get(server, "empty/file", method="HEAD")["Content-Length"] == "0"
    assert get(server, "empty/file", [("Range", "bytes=0-0")]).status == 416


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=300-5000", 300, 5000),
        ("bytes=5000-", 5000, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-300", SIZE - 300, SIZE - 1),
        (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-{SIZE * 9}", SIZE - 1, SIZE - 1),
        (f"bytes=0-{10**30}", 0, SIZE - 1),
        ("BYTES=1-2", 1, 2),
    ],
)
def test_one_range_is_honoured(server: Server, etag: str, value: str, first: int, last: int) -> None:
    answer = ranged(server, value)

    assert answer.status == 206
    assert answer["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer["Content-Length"] == str(last - first + 1)
    assert answer["ETag"] == etag
    assert answer["Content-Type"] == "image/png"
    assert answer.body == BODY[first : last + 1]


@pytest.mark.parametrize(
    "value",
    [
        "bytes=0-1,5-6",
        "bytes=0-0, -1",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=1-2x",
        "bytes=--5",
        "bytes 0-1",
        "items=0-1",
        "0-1",
        "bytes=0x0-0x5",
        "bytes=١-٢".encode().decode("latin-1"),
    ],
)
def test_several_and_malformed_ranges_are_ignored(server: Server, etag: str, value: str) -> None:
    answer = ranged(server, value)

    assert answer.status == 200
    assert answer.get("Content-Range") is None
    assert answer.body == BODY


@pytest.mark.parametrize("value", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0", f"bytes={10**30}-"])
def test_an_unsatisfiable_range_is_416_and_tells_the_size(server: Server, etag: str, value: str) -> None:
    answer = ranged(server, value)

    assert (answer.status, answer.code) == (416, "range-not-satisfiable")
    assert answer["Content-Range"] == f"bytes */{SIZE}"


def test_head_ignores_a_range(server: Server, etag: str) -> None:
    answer = get(server, PATH, [("Range", "bytes=0-1")], method="HEAD")

    assert (answer.status, answer["Content-Length"]) == (200, str(SIZE))


def test_if_range_with_this_etag_or_date_honours_the_range(server: Server, etag: str) -> None:
    date = get(server, PATH)["Last-Modified"]

    assert ranged(server, "bytes=0-4", ("If-Range", etag)).status == 206
    assert ranged(server, "bytes=0-4", ("If-Range", date)).status == 206


@pytest.mark.parametrize("wrong", ['"other"', "W/{etag}", "Sat, 01 Jan 2000 00:00:00 GMT", "nonsense", "{later}"])
def test_if_range_with_anything_else_answers_the_whole_file(server: Server, etag: str, wrong: str) -> None:
    modified = parsedate_to_datetime(get(server, PATH)["Last-Modified"]).timestamp()
    value = wrong.format(etag=etag, later=formatdate(modified + 60, usegmt=True))

    assert ranged(server, "bytes=0-4", ("If-Range", value)).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-None-Match", "{etag}"),
        ("If-None-Match", "W/{etag}"),
        ("If-None-Match", '"x", {etag}, "y"'),
        ("If-None-Match", "*"),
        ("If-Modified-Since", "{date}"),
        ("If-Modified-Since", "{later}"),
    ],
)
def test_what_the_client_has_already_is_304(server: Server, etag: str, name: str, value: str) -> None:
    with Connection(server.address) as connection:
        connection.send(head_of("GET", url_of(server, PATH), [(name, filled(server, etag, value))]))
        answer = connection.read_head()
        rest = connection.read_to_end()

    assert answer.status == 304
    assert answer["ETag"] == etag
    assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
    assert rest == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-None-Match", '"other"'),
        ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ("If-Modified-Since", "nonsense"),
        ("If-Match", "{etag}"),
        ("If-Match", "*"),
        ("If-Unmodified-Since", "{date}"),
        ("If-Unmodified-Since", "nonsense"),
    ],
)
def test_a_condition_that_holds_answers_the_file(server: Server, etag: str, name: str, value: str) -> None:
    assert get(server, PATH, [(name, filled(server, etag, value))]).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Match", '"other"'),
        ("If-Match", "W/{etag}"),
        ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ],
)
def test_a_precondition_that_fails_is_412(server: Server, etag: str, name: str, value: str) -> None:
    answer = get(server, PATH, [(name, filled(server, etag, value))])

    assert (answer.status, answer.code) == (412, "precondition-failed")


def test_if_none_match_outranks_if_modified_since(server: Server, etag: str) -> None:
    date = get(server, PATH)["Last-Modified"]

    assert get(server, PATH, [("If-None-Match", '"other"'), ("If-Modified-Since", date)]).status == 200


def test_the_etag_changes_with_the_file(server: Server) -> None:
    stored = server.store_dir / "edited.txt"
    stored.write_bytes(b"one")
    first = get(server, "edited.txt")["ETag"]

    stored.unlink()
    stored.write_bytes(b"two")

    assert get(server, "edited.txt")["ETag"] != first


@pytest.mark.parametrize(
    "content_type",
    ["Text/PLAIN; Charset=UTF-8", "image/jpeg", 'x-unknown/y; a=b; c="d e"', "t" * 255],
)
def test_the_stored_type_is_served_verbatim(server: Server, content_type: str) -> None:
    path = f"verbatim/{quote(content_type[:50], safe='')}.html"

    assert put(server, path, b"x", content_type).status == 201
    assert get(server, path)["Content-Type"] == content_type


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "image/svg+xml",
        "application/pdf",
        "application/xml",
        "text/xml",
        "application/xhtml+xml",
        "text/javascript",
        "application/octet-stream",
        "x/y",
    ],
)
def test_what_could_run_in_a_browser_is_an_attachment(server: Server, content_type: str) -> None:
    path = f"active/{quote(content_type, safe='')}.png"
    put(server, path, b"<script>alert(1)</script>", content_type)

    answer = get(server, path)

    assert answer["Content-Disposition"].startswith("attachment;")
    assert answer["Content-Type"] == content_type
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "content_type", ["image/png", "IMAGE/PNG", "text/plain; charset=utf-8", "video/mp4", "audio/ogg"]
)
def test_passive_types_are_shown_inline(server: Server, content_type: str) -> None:
    path = f"passive/{quote(content_type, safe='')}"
    put(server, path, b"x", content_type)

    disposition = get(server, path).get("Content-Disposition")

    assert disposition is None or disposition.startswith("inline")


def test_the_attachment_is_named_after_the_file_in_both_forms(server: Server) -> None:
    put(server, 'named/Grüße "1"\\%41;ä.pdf', b"x", "application/pdf")

    disposition = get(server, 'named/Grüße "1"\\%41;ä.pdf')["Content-Disposition"]

    assert disposition.endswith("filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%221%22%5C%2541%3B%C3%A4.pdf")
    plain = disposition.split('filename="', 1)[1].split('"', 1)[0]
    assert plain.isascii()
    assert plain.startswith("Gr__e ")
    assert plain.endswith(".pdf")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("photo.jpg", "image/jpeg"),
        ("PHOTO.JPEG", "image/jpeg"),
        ("picture.png", "image/png"),
        ("notes.txt", "text/plain"),
        ("page.html", "text/html"),
        ("drawing.svg", "image/svg+xml"),
        ("paper.pdf", "application/pdf"),
        ("clip.mp4", "video/mp4"),
        ("voice.ogg", "audio/ogg"),
        ("picture.webp", "image/webp"),
        ("archive.unknown", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
    ],
)
def test_a_file_that_was_there_before_us_has_the_type_of_its_extension(
    server: Server, name: str, content_type: str
) -> None:
    # prosody-filer leaves StoreDir/slot/name, without any attribute
    folder = server.store_dir / "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"foreign")

    answer = get(server, f"{folder.name}/{name}")

    assert (answer.status, answer.body) == (200, b"foreign")
    assert answer["Content-Type"] == content_type


def test_a_put_on_a_foreign_file_is_409(server: Server) -> None:
    (server.store_dir / "foreign.txt").write_bytes(b"foreign")

    assert put(server, "foreign.txt", b"ours").status == 409
    assert get(server, "foreign.txt").body == b"foreign"


def test_a_receiver_that_goes_away_leaves_the_file_closed(server: Server) -> None:
    put(server, "gone/file", bytes(8 * 1024 * 1024))

    with Connection(server.address) as connection:
        connection.send(head_of("GET", url_of(server, "gone/file")))
        assert connection.read_head().status == 200

    until(lambda: not server.open_store_files(), "the file is closed")
    assert get(server, "gone/file").status == 200


def test_get_needs_no_signature_and_ignores_a_foreign_query(server: Server, etag: str) -> None:
    assert request(server, "GET", f"{url_of(server, PATH)}?utm_source=x&v=wrong").status == 200


def filled(server: Server, etag: str, value: str) -> str:
    """``value`` with this file's tag and dates in the braces."""
    date = get(server, PATH)["Last-Modified"]
    later = formatdate(parsedate_to_datetime(date).timestamp() + 60, usegmt=True)
    return value.format(etag=etag, date=date, later=later)
