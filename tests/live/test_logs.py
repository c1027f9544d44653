"""The log tells an operator what happened, and never a secret; nobody can write lines of their own into it."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.faces import Upload
from tests.support.http import Connection, Headers, get, head_of, put, put_head, query_of, request, sign_v2, url_of
from tests.support.polling import until
from tests.support.server import Server

WRONG = "0123456789abcdef" * 4
LINE = re.compile(r"(DEBUG|INFO|WARN|ERROR)\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\] \S")


def line_with(server: Server, text: str) -> str:
    """The first line of the log that contains ``text``; it may come a moment after the answer."""
    return until(lambda: server.lines(text), f"a line with {text!r} is logged")[0]


def refused_line(server: Server, target: str, headers: Headers = ()) -> str:
    """What a PUT of ``target`` with a wrong MAC leaves in the log."""
    seen = len(server.lines("Signature refused"))
    assert request(server, "PUT", target, [("Content-Length", "7"), *headers], b"1234567").status == 403
    return until(lambda: server.lines("Signature refused")[seen:], "the refusal is logged")[0]


def test_an_upload_and_its_request_are_one_line_each(server: Server) -> None:
    put(server, "told/ä b.txt", b"body", "text/plain")

    assert "size=4" in line_with(server, "Upload completed: told/ä%20b.txt")
    line = line_with(server, "Incoming request: PUT told/ä%20b.txt")
    assert "status=201" in line
    assert "protocol=v2" in line
    assert "client=127.0.0.1" in line


def test_a_wrong_mac_is_logged_with_protocol_path_size_and_type(server: Server) -> None:
    line = refused_line(server, f"/upload/why/file.txt?v2={WRONG}", [("Content-Type", "text/x-strange")])

    assert line.startswith("WARN[")
    for field in ("reason=wrong", "protocol=v2", "path=why/file.txt", "size=7", "type=text/x-strange"):
        assert field in line


def test_missing_and_malformed_macs_are_told_apart_in_the_log_alone(server: Server) -> None:
    assert "reason=missing protocol=none" in refused_line(server, "/upload/why/x")
    assert "reason=malformed protocol=token" in refused_line(server, "/upload/why/x?token=abc")


def test_the_log_hints_at_a_prefix_that_stands_there_twice(server: Server) -> None:
    assert "prefix twice" in refused_line(server, f"/upload/upload/a/b?v={WRONG}")


def test_the_log_hints_at_a_missing_content_type(server: Server) -> None:
    assert "no Content-Type header was sent" in refused_line(server, f"/upload/a/b?v2={WRONG}")


def test_the_log_hints_at_a_sender_that_signs_by_extension(server: Server) -> None:
    mac = sign_v2(server.secret, b"a/b.txt", 7, "text/plain")

    line = refused_line(server, f"/upload/a/b.txt?v2={mac}", [("Content-Type", "application/x-other")])

    assert "ContentTypeFromExtension" in line


def test_no_mac_query_or_secret_is_ever_logged(server: Server) -> None:
    right = query_of(server, "quiet/file", 5, "text/plain")
    typed = [("Content-Type", "text/plain"), ("Content-Length", "5")]
    head = head_of("PUT", f"/upload/quiet/file?{right}", typed)
    junk = [
        head.replace(b"HTTP/1.1", b"HTTP/9.9"),
        head.replace(b"HTTP/1.1", b"HTTP/1.1 x"),
        head.replace(b"PUT ", b"put "),
        head.replace(b"PUT /", b"PUT /\xc3\xbc"),
        head.replace(b"Content-Length: 5", b"Content-Length: five"),
        head.replace(b"Content-Length: 5", f"Bad Name {WRONG}: 5".encode()),
        head.replace(b"Content-Length: 5", f"X: {WRONG}\r\n folded: {right}".encode()),
        head.replace(b"Content-Length: 5", b"Content-Length: 5\r\nExpect: " + right.encode()),
        head.replace(b"?", b"?x=" + b"y" * 9000 + b"&"),
        head.replace(b"Content-Length: 5", b"Transfer-Encoding: " + WRONG.encode()),
        head.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + WRONG.encode() + b"\r\n",
        head[: len(head) // 2],
        head + b"12",
        head + b"12345",
        head + b"12345",
        put_head(server, "quiet/token", 1, protocol="token") + b"x",
        put_head(server, "quiet/v", 1, protocol="v") + b"x",
        head_of("PUT", f"/upload/quiet/other?v={WRONG}&v={WRONG}", typed),
        head_of("PUT", f"/upload/quiet/other?v2={WRONG}", typed) + b"12345",
        head_of("PUT", f"/upload/quiet/%0a?{right}", typed) + b"12345",
        head_of("GET", f"/upload/quiet/file?{right}"),
        head_of("GET", f"/upload/quiet/file?{right}", [("Referer", f"http://x/?{right}"), ("Cookie", WRONG)]),
        head_of("GET", f"http://user:{WRONG}@host/upload/quiet/file?{right}"),
        head_of("POST", f"/upload/quiet/file?{right}", [("Authorization", f"Bearer {WRONG}"), *typed]) + b"12345",
        head_of("OPTIONS", f"/upload/quiet/file?{right}", [("Origin", right)]),
    ]
    for data in junk:
        with Connection(server.address) as connection:
            try:
                connection.send(data)
                connection.half_close()
                connection.read_to_end()
            except (ConnectionResetError, BrokenPipeError):
                pass  # refused before all was sent
    put(server, "quiet/last", b"x")
    line_with(server, "Incoming request: PUT quiet/last")

    output = server.output()

    assert "quiet/file" in output
    macs = [right.partition("=")[2], WRONG, *(query_of(server, f"quiet/{p}", 1, "", p)[-64:] for p in ("v", "token"))]
    for secret in (server.secret, *macs, *(mac[:16] for mac in macs), "v2=", "token=", "yyyy"):
        assert secret not in output


def test_the_secret_is_not_shown_at_start_nor_when_the_configuration_is_wrong(tmp_path: Path) -> None:
    server = Server(tmp_path, Secret="short", UploadMaxSize="huge")

    with pytest.raises(AssertionError, match="the server ended with 2"):
        server.start()

    assert "Secret" in server.output()
    assert 'short"' not in server.output()
    assert "'short'" not in server.output()


@pytest.fixture(scope="module", params=["text", "json"])
def formed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that writes all it can in one of the two forms."""
    folder = tmp_path_factory.mktemp(request.param)
    with Server(folder, LogFormat=request.param, LogLevel="debug", LogFile=str(folder / "log")) as running:
        yield running


def log_of(server: Server) -> str:
    return Path(server.keys["LogFile"]).read_text(encoding="utf-8", errors="surrogateescape")


def sent(server: Server, head: bytes, body: bytes = b"") -> None:
    """Send a request that may be refused before all of it is there."""
    with Connection(server.address) as connection:
        try:
            connection.send(head + body)
            connection.half_close()
            connection.read_to_end()
        except (ConnectionResetError, BrokenPipeError):
            pass


def test_a_client_cannot_forge_a_line_or_reach_the_terminal(formed: Server) -> None:
    forged = "INFO[2024-01-01T00:00:00Z] forged"
    as_json = '"}\n{"time": "2024-01-01T00:00:00Z", "level": "info", "message": "forged"}'
    bad = [
        "\n",
        "\r\n",
        "\u2028",
        "\u2029",
        "\u0085",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x00",
        "\x1b[2J",
        "\x9b31m",
        "\u202e",
        "\u2066",
    ]
    names = [f"log/x{each}{forged}" for each in bad] + [
        as_json,
        'log/x" status=200 client="1.1.1.1',
        "log/x status=200",
    ]
    names += ["log/" + "n" * 8000, "log/" + f"\x1b{forged}" * 200, "log/\\", "log/%0a%1b[0m"]
    sent_paths = 0
    for name in names:
        get(formed, name)
        put(formed, name[:900], b"x")
        request(formed, "PUT", url_of(formed, name[:900]), [("Content-Length", "1")], b"x")
        sent_paths += 3
    get(formed, b"log/\xff\xfe\xed\xa0\x80")
    wrong = [("Content-Length", "0"), ("Content-Type", f'a" {forged}'), ("X-Session-Token", "t" * 16)]
    request(formed, "PUT", f"/upload/log/type?v2={WRONG}", wrong)
    for value in (
        forged,
        f"x\x85{forged}",
        f"x\x1b[2J{forged}",
        f"x\x9b31m{forged}",
        "x" * 8000,
        as_json.replace("\n", " "),
    ):
        for name in (
            "X-Forwarded-For",
            "X-Request-ID",
            "X-Session-Token",
            "User-Agent",
            "Content-Type",
            "Authorization",
        ):
            sent(formed, head_of("PUT", "/upload/log/h?token=%0aINFO", [(name, value), ("Content-Length", "1")]), b"x")
    for method in ("INFO[2024]", "G\x1bT", "A" * 500, "get", "PUT%0aINFO", "\u202eGET"):
        sent(formed, head_of(method, "/upload/log/method"))
    get(formed, "log/last")
    until(lambda: "Incoming request: GET log/last" in log_of(formed), "the last request is logged")

    log = log_of(formed)

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", log)
    lines = log.split("\n")[:-1]
    requests = [line for line in lines if "Incoming request: " in line]
    if formed.keys["LogFormat"] == "text":
        assert all(LINE.match(line) for line in lines)
        assert not [line for line in lines if line.startswith(forged)]
        assert all(line.count(" status=") == line.count(" client=") == 1 for line in requests)
    else:
        objects = [json.loads(line) for line in lines]
        assert all({"time", "level", "message"} <= set(each) for each in objects)
        assert not [each for each in objects if each["message"] == "forged" or each["time"] < "2025"]
        assert all(isinstance(each["status"], int) for each in objects if "Incoming request" in each["message"])
    assert sum(": GET log/" in line or ": PUT log/" in line for line in requests) >= sent_paths


@pytest.mark.parametrize("face", ["tus", "draft"])
def test_of_an_upload_s_id_eight_characters_are_logged(formed: Server, face: str) -> None:
    upload = Upload(face, f"told/{face}", b"0123456789")
    assert upload.begin(formed).status == 201
    resource = upload.location.rpartition("/")[2]
    upload.send(formed, 0, 4)
    upload.send(formed, 9, 10)  # refused: nobody has sent what stands before
    upload.ask(formed)
    for before in ("/upload/", "/upload//", "/", "/wrong/"):
        request(formed, "GET", f"{before}.uploads/{resource}")
        request(formed, "BREW", f"{before}.uploads/{resource}/more")
    for mistaken in (".uploads%252F", ".uploads%5C", ".UPLOADS/", ".%2575ploads/", ""):
        request(formed, "HEAD", f"/upload/{mistaken}{resource}")
    upload.terminate(formed)
    upload.ask(formed)
    get(formed, f"told/{face}-last")
    until(lambda: f"GET told/{face}-last" in log_of(formed), "the last request is logged")

    log = log_of(formed)

    assert f".uploads/{resource[:8]}" in log
    assert resource[:9] not in log


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "127.0.0.1"),
        (["198.51.100.7"], "198.51.100.7"),
        (["203.0.113.1, 198.51.100.8"], "198.51.100.8"),
        (["203.0.113.1", "198.51.100.9"], "198.51.100.9"),
        (["203.0.113.1, 198.51.100.10, 127.0.0.1"], "198.51.100.10"),
        (["2001:db8::5"], "2001:db8::5"),
        (["203.0.113.1, nonsense"], "127.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxy(
    server: Server, forwarded: list[str], client: str
) -> None:
    path = f"forwarded/{len(forwarded)}-{client.replace(':', '-')}-{'-'.join(forwarded).count(',')}"

    get(server, path, [("X-Forwarded-For", value) for value in forwarded])

    assert f" client={client} " in line_with(server, f"Incoming request: GET {path}") + " "


def test_nobody_is_believed_who_is_not_among_trusted_proxies(tmp_path: Path) -> None:
    with Server(tmp_path, TrustedProxies=["10.0.0.0/8"]) as server:
        get(server, "not/believed", [("X-Forwarded-For", "198.51.100.7")])

        assert " client=127.0.0.1 " in line_with(server, "Incoming request: GET not/believed")


def test_a_chain_of_trusted_proxies_is_walked_from_the_right(tmp_path: Path) -> None:
    with Server(tmp_path, TrustedProxies=["127.0.0.0/8", "10.0.0.0/8"]) as server:
        get(server, "chain", [("X-Forwarded-For", "203.0.113.1, 198.51.100.7, 10.1.2.3, 10.9.9.9")])

        assert " client=198.51.100.7 " in line_with(server, "Incoming request: GET chain")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", {"DEBUG", "INFO", "WARN", "ERROR"}),
        ("info", {"INFO", "WARN", "ERROR"}),
        ("warn", {"WARN", "ERROR"}),
        ("error", {"ERROR"}),
    ],
)
def test_log_level_is_the_least_that_is_written(tmp_path: Path, level: str, written: set[str]) -> None:
    with Server(tmp_path, LogLevel=level, SweepInterval=1) as server:
        if level == "debug":  # gunicorn has lines of that level too: wait for one of ours
            until(lambda: server.lines("] Sweep done "), "a sweep that removed nothing is logged")
        assert put(server, "level/told", b"x").status == 201
        assert request(server, "PUT", f"/upload/level/warned?v={WRONG}", [("Content-Length", "0")]).status == 403
        server.config.write_text("Secret = [", encoding="utf-8")
        server.signal(signal.SIGHUP)
        until(lambda: server.lines("Reload refused"), "the error is logged")

        found = {match[1] for match in map(LINE.match, server.output().split("\n")) if match}

    assert found == written
