"""contrib/nginx/hmacfs.conf in a real nginx in front of a real server: every method, any size, silent logs."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.live.faces import FACES, Upload
from tests.support.http import MIB, Answer, Connection, get, head_of, mac, put, put_head, query_of, request, url_of
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import ROOT, Server
from tests.support.servers import program
from tests.support.slot import WRONG, Slot, content, draft_location, tus, tus_location

CONFIG = ROOT / "contrib" / "nginx" / "hmacfs.conf"
LIMIT = 8 * MIB
SIZES = [0, 1, 64 * 1024, 64 * 1024 + 1, 5 * MIB]


def adapted(server: Server, folder: Path, port: int) -> str:
    """The configuration for this server, without TLS and on another port; everything else as it stands there."""
    text = CONFIG.read_text(encoding="utf-8")
    for pattern, replacement in (
        (r"listen \[::\]:443 ssl;", ""),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        (r"ssl_certificate\w* \S+;", ""),
        (r"127\.0\.0\.1:8080", f"127.0.0.1:{server.port}"),
        (r"/var/log/nginx/", f"{folder}/"),
        (r"/var/lib/hmacfs/store/", f"{server.store_dir}/"),
        (r"client_max_body_size 1g;", f"client_max_body_size {LIMIT};"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    return text


class Shipped(Nginx):
    """nginx with the configuration that we ship."""

    @property
    def folder(self) -> Path:
        return self._folder

    def _configuration(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in kinds)
        return f"""
daemon off;
master_process off;
pid {self._folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
{temporary}
{adapted(self.server, self._folder, self.address[1])}
}}
"""

    def logged(self) -> str:
        """All that it has written."""
        return "".join(path.read_text(encoding="utf-8") for path in self._folder.glob("*.log"))

    def collected(self) -> list[Path]:
        """Bodies that it has written to its own disk."""
        return [
            path for kind in ("client_body", "proxy") for path in (self._folder / kind).rglob("*") if path.is_file()
        ]


class Alone(Shipped):
    """The same with nobody behind it."""

    def _configuration(self) -> str:
        return super()._configuration().replace(f"127.0.0.1:{self.server.port}", f"127.0.0.1:{free_port()}")

    def _answers(self) -> bool:
        try:
            return request(self, "OPTIONS", self.prefix).status == 502
        except ConnectionRefusedError:
            return False


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = {
        "DirectDownloads": "X-Accel-Redirect:/stored/",
        "UploadMaxSize": LIMIT,
        "DeleteSecret": "delete-secret-0123",
        "CORSOrigins": ["https://app.example"],
    }
    with Server(tmp_path_factory.mktemp("direct"), **keys) as running:
        yield running


@pytest.fixture(scope="module")
def front(direct: Server) -> Iterator[Shipped]:
    with Shipped(direct) as proxy:
        yield proxy


OWN_ID = re.compile(r"[0-9a-f]{32}")


def sent_by_us(server: Server, path: str, fields: list[tuple[str, str]]) -> Answer:
    """A GET of somebody who is no trusted proxy."""
    with Connection(server.address, source="127.0.0.77") as connection:
        connection.send(head_of("GET", url_of(server, path), fields))
        return connection.read_answer()


def comparable(answer: Answer) -> list[tuple[str, str]]:
    """The headers but for those that belong to the connection, or to one request."""
    its_own = ("date", "server", "connection", "x-request-id", "accept-ranges")
    return sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in its_own)


def test_nginx_accepts_the_file_with_a_certificate(tmp_path: Path) -> None:
    subject = ["-subj", "/CN=upload.example.org", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    command = [program("openssl"), "req", "-x509", *subject, "ec_paramgen_curve:prime256v1", *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    text = CONFIG.read_text(encoding="utf-8").replace("443", str(free_port()))
    text = re.sub(r"(ssl_certificate_key) \S+;", rf"\1 {tmp_path}/key.pem;", text)
    text = re.sub(r"(ssl_certificate) \S+;", rf"\1 {tmp_path}/cert.pem;", text)
    text = text.replace("/var/log/nginx/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{text}\n}}\n", encoding="utf-8")

    done = subprocess.run(
        [
            program("nginx"),
            "-t",
            "-p",
            str(tmp_path),
            "-e",
            str(tmp_path / "e.log"),
            "-c",
            str(tmp_path / "nginx.conf"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.parametrize("size", SIZES)
def test_a_file_goes_in_and_comes_out_whole(direct: Server, front: Shipped, size: int) -> None:
    sent = content(size)

    statuses = [put(front, f"sizes/{size}", sent, "image/png").status, put(front, f"sizes/{size}", sent).status]

    assert statuses == [201, 409]
    assert (direct.store_dir / "sizes" / str(size)).read_bytes() == sent
    answer = get(front, f"sizes/{size}")
    assert (answer.status, answer["Content-Type"], answer.body) == (200, "image/png", sent)
    assert front.collected() == []


def test_names_of_any_kind_arrive_byte_for_byte(front: Shipped) -> None:
    for name in ("names/ä ö.txt", "names/a%2Fb", "names/a+b&c", "names/" + "x" * 200):
        assert put(front, name, b"body").status == 201
        assert get(front, name).body == b"body"


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_ranges_of_small_and_large_files(front: Shipped, size: int) -> None:
    sent = content(size)
    assert put(front, f"ranges/{size}", sent).status == 201

    answer = get(front, f"ranges/{size}", [("Range", "bytes=100-499")])

    assert (answer.status, answer["Content-Range"]) == (206, f"bytes 100-499/{size}")
    assert answer.body == sent[100:500]


def test_large_files_are_sent_by_nginx_with_the_headers_that_protect_browsers(direct: Server, front: Shipped) -> None:
    assert put(front, "accel/file", content(MIB), "text/html").status == 201
    left_to_nginx = get(direct, "accel/file")
    direct_small = get(front, "accel/file", method="HEAD")

    answer = get(front, "accel/file")

    assert left_to_nginx["X-Accel-Redirect"] == "/stored/accel/file"
    assert answer.get("X-Accel-Redirect") is None
    assert answer.body == content(MIB)
    for name in (
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "Referrer-Policy",
        "Cross-Origin-Resource-Policy",
        "Content-Disposition",
    ):
        assert answer[name] == direct_small[name]
    assert request(front, "GET", "/stored/accel/file").status == 404


@pytest.mark.parametrize("origin", ["https://app.example", "https://evil.example", ""])
@pytest.mark.parametrize("kind", ["whole", "range", "conditional range"])
def test_an_answer_has_the_same_headers_whoever_sends_the_file(
    direct: Server, front: Shipped, origin: str, kind: str
) -> None:
    digest = hashlib.sha256(content(200_000)).hexdigest()
    put(front, "same/file", content(200_000), "image/png", headers=[("X-Checksum", digest)])
    fields = [("Origin", origin)] if origin else []
    if kind != "whole":
        fields.append(("Range", "bytes=100-499"))
    if kind == "conditional range":
        fields.append(("If-Range", get(direct, "same/file", method="HEAD")["ETag"]))

    ours = sent_by_us(direct, "same/file", fields)
    nginx_s = get(front, "same/file", fields)

    assert nginx_s.status == ours.status
    assert comparable(nginx_s) == comparable(ours)
    assert nginx_s.all("Accept-Ranges") == (["bytes"] if kind == "whole" else [])
    assert OWN_ID.fullmatch(nginx_s["X-Request-ID"])


def test_the_request_id_is_nginx_s_word_and_not_the_client_s(direct: Server, front: Shipped) -> None:
    get(front, "whose/id", [("X-Request-ID", "chosen-by-a-client")])

    until(lambda: direct.lines("GET whose/id"), "the request is logged")
    assert re.search(r" request_id=[0-9a-f]{32}$", direct.lines("GET whose/id")[0])


def test_a_file_above_the_limit_is_refused_before_its_body(front: Shipped) -> None:
    with Connection(front.address) as connection:
        connection.send(put_head(front, "limit/above", LIMIT + 1))
        above = connection.read_head().status
    exactly = put(front, "limit/exactly", bytes(LIMIT)).status

    assert (above, exactly) == (413, 201)


def test_refusals_of_large_uploads_arrive_as_they_are(front: Shipped) -> None:
    answer = Slot(front, "refused/file", 6 * MIB).unsigned.put(bytes(6 * MIB))

    assert (answer.status, answer.code) == (403, "bad-signature")


@pytest.mark.parametrize("face", FACES)
def test_an_upload_goes_on_in_pieces(front: Shipped, face: str) -> None:
    upload = Upload(face, f"pieces/{face}", content(3 * MIB))

    upload.begin(front, MIB)
    upload.send(front, MIB, 2 * MIB)
    upload.send(front, 2 * MIB, 3 * MIB)

    assert get(front, upload.path).body == upload.content


def test_what_arrived_before_a_break_is_kept(front: Shipped) -> None:
    upload = Upload("session", "broken/file", content(2 * MIB))
    with Connection(front.address) as connection:
        connection.send(upload.head(front, 0, 2 * MIB) + upload.content[:MIB])
        until(lambda: upload.ask(front).get("Upload-Offset") not in (None, "0"), "bytes have reached the server")

    offset = int(until(lambda: upload.ask(front).get("Upload-Offset"), "the offset is told"))
    upload.send(front, offset, 2 * MIB)

    assert 0 < offset <= MIB
    assert get(front, upload.path).body == upload.content


def test_files_and_unfinished_uploads_are_deleted(front: Shipped) -> None:
    slot = Slot(front, "deleted/unfinished", 1000)
    assert put(front, "deleted/file", b"x").status == 201
    token = mac(front.secret, b"deleted/file\0delete-secret-0123")

    gone = [tus(front, "DELETE", tus_location(slot)).status]
    gone.append(request(front, "DELETE", f"{url_of(front, 'deleted/file')}?token={token}").status)

    assert gone == [204, 204]
    assert get(front, "deleted/file").status == 410


def test_downloads_share_a_connection_and_uploads_leave_none(direct: Server, front: Shipped) -> None:
    others = connections_to(direct)
    with Shipped(direct) as fresh:
        for number in range(5):
            assert put(fresh, f"shared/{number}", b"x").status == 201
        until(lambda: not connections_to(direct) - others, "uploads have left no connection")
        for number in range(5):
            assert get(fresh, f"shared/{number}").status == 200

        assert len(connections_to(direct) - others) in (1, 2)  # the next one may come before the last is back


def connections_to(server: Server) -> set[str]:
    """Established connections that nginx keeps to the server, by their ports."""
    lines = Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
    fields = [line.split() for line in lines]
    port = f":{server.port:04X}"
    return {local for _, local, remote, state, *_ in fields if remote.endswith(port) and state == "01"}


def test_the_client_s_address_is_nginx_s_word_and_not_the_client_s(direct: Server, front: Shipped) -> None:
    with Connection(front.address, source="127.0.0.77") as connection:
        connection.send(head_of("GET", url_of(front, "whose/file"), [("X-Forwarded-For", "203.0.113.5")]))
        connection.read_answer()

    # 127.0.0.77 is a client here: only 127.0.0.1 is a trusted proxy.
    until(lambda: direct.lines("GET whose/file"), "the request is logged")
    assert "client=127.0.0.77 " in direct.lines("GET whose/file")[0]


def test_other_paths_are_not_handed_on(front: Shipped) -> None:
    targets = ("/", "/metrics", "/health/ready", "/status.json", "/stored/")

    assert [request(front, "GET", target).status for target in targets] == [404] * len(targets)


def test_no_query_string_and_no_upload_id_is_in_nginx_s_logs(direct: Server, front: Shipped) -> None:
    slot = Slot(front, "quiet/file", 1000)
    locations = [tus_location(slot), draft_location(Slot(front, "quiet/other", 1000))]
    for location in locations:
        request(front, "HEAD", location, [("Tus-Resumable", "1.0.0")])
        for spelled in ("%2Euploads/", ".%75ploads/", ".uploads%2f", ".uploads%252F", ".UPLOADS/", ".uploads\\"):
            request(front, "HEAD", location.replace(".uploads/", spelled), [("Tus-Resumable", "1.0.0")])
        encoded = "".join(f"%{ord(each):02x}" for each in location.rsplit("/", 1)[1])
        request(front, "HEAD", f"/upload/.uploads/{encoded}")
    put(front, "quiet/right", b"x")
    request(front, "PUT", f"/upload/quiet/wrong?{WRONG}", [("Content-Length", "1")], b"x")
    with Connection(front.address) as connection:
        connection.send(put_head(front, "quiet/large", LIMIT + 1))
        connection.read_head()
    for query_in_path in ("%3Fv2=", "%253Fv2%253D", ";v2="):
        request(front, "GET", f"/upload/quiet/right{query_in_path}{'0' * 64}")
    request(front, "GET", "/upload/quiet/%C3%A4%20%26%40.txt")
    request(front, "GET", f"/elsewhere?{WRONG}")
    with Alone(direct) as alone:
        put(alone, "quiet/unreachable", b"x")
        refused = until(lambda: alone.logged() if "/unreachable" in alone.logged() else "", "it has logged")

    text = until(lambda: front.logged() if "/elsewhere" in front.logged() else "", "nginx has logged") + refused

    assert '"/upload/quiet/right" 201' in text
    assert '"/upload/quiet/unreachable" 502' in text
    assert '"/upload/.uploads/..."' in text
    assert '"/upload/quiet/%C3%A4%20%26%40.txt" 404' in text
    for location in locations:
        upload_id = location.rsplit("/", 1)[1]
        assert upload_id[9:] not in unquote(text)
    for path, size in (("quiet/right", 1), ("quiet/large", LIMIT + 1), ("quiet/unreachable", 1)):
        assert query_of(front, path, size)[-64:] not in text
    assert "0" * 64 not in text
    assert "?" not in text
