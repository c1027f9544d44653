"""hmacfs put and hmacfs get move bytes, and say in one line why they could not."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.running import HMACFS, Done, config_in, environment, hmacfs, lines
from tests.support import http
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.server import Server

MIB = 1024 * 1024


def put(server: Server, *arguments: str | bytes | os.PathLike[str], cwd: Path | None = None) -> str:
    """The link."""
    done = hmacfs("put", "--config", server.config, *arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    (link,) = lines(done.stdout)
    return link


def assert_failed(done: Done, *words: str) -> None:
    """Exit status 1, nothing on standard output, and one line with all ``words`` on standard error."""
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = lines(done.stderr)
    for word in words:
        assert word in line


def random_file(path: Path, size: int) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    return content


@contextmanager
def scripted_server(*answers: bytes, reset: bool = False) -> Iterator[str]:
    """Answers one connection with ``answers`` and closes; the URL of a file there.

    Args:
        reset: close with RST instead of FIN.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                for answer in answers:
                    peer.sendall(answer)
                if reset:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/upload/id/file.bin"
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB + 7])
def test_what_was_put_comes_back_byte_for_byte(size: int, server: Server, tmp_path: Path) -> None:
    content = random_file(tmp_path / "file.bin", size)
    (tmp_path / "there").mkdir()

    link = put(server, tmp_path / "file.bin")
    done = hmacfs("get", link, cwd=tmp_path / "there")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "file.bin\n"
    assert (tmp_path / "there" / "file.bin").read_bytes() == content


def test_put_prints_the_link_and_no_signature(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)

    link = put(server, tmp_path / "file.bin")

    assert re.fullmatch(rf"{server.url}/upload/[0-9a-f-]{{36}}/file\.bin", link)


def test_every_put_gets_a_path_of_its_own(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)

    assert put(server, tmp_path / "file.bin") != put(server, tmp_path / "file.bin")


@pytest.mark.parametrize("name", ["Größe + 100%41 🐈.txt", "-x", "it's.txt", "a?b#c;d&e.txt", "[1]{2}.txt"])
def test_a_strange_name_survives(name: str, server: Server, tmp_path: Path) -> None:
    content = random_file(tmp_path / name, 10)
    (tmp_path / "there").mkdir()

    link = put(server, "--", name, cwd=tmp_path)
    hmacfs("get", link, cwd=tmp_path / "there")

    assert link.isascii()
    assert (tmp_path / "there" / name).read_bytes() == content


def test_the_name_and_its_type_can_be_chosen(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "IMG_0001", 10)

    named = put(server, "--name", "cat.png", tmp_path / "IMG_0001")
    typed = put(server, "--name", "cat", "--type", "image/jpeg", tmp_path / "IMG_0001")

    assert named.endswith("/cat.png")
    assert http.request(server, "GET", named.removeprefix(server.url))["Content-Type"] == "image/png"
    assert http.request(server, "GET", typed.removeprefix(server.url))["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("name", ["../up", "a//b", "a\nb", "x" * 256])
def test_a_name_that_cannot_be_a_path_is_refused(name: str, server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)

    done = hmacfs("put", "--config", server.config, "--name", name, tmp_path / "file.bin")

    assert done.returncode == 2
    (line,) = lines(done.stderr)
    assert "--name" in line


def test_get_never_replaces_a_file(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)
    link = put(server, tmp_path / "file.bin")
    (tmp_path / "file.bin").write_bytes(b"mine")

    done = hmacfs("get", link, cwd=tmp_path)

    assert_failed(done, "file.bin exists already", "--output")
    assert (tmp_path / "file.bin").read_bytes() == b"mine"


def test_get_never_follows_a_dangling_link(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)
    link = put(server, tmp_path / "file.bin")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file.bin").symlink_to(tmp_path / "elsewhere")

    done = hmacfs("get", link, cwd=tmp_path / "there")

    assert_failed(done, "exists already")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("option", ["-o", "--output"])
def test_get_writes_where_it_is_told(option: str, server: Server, tmp_path: Path) -> None:
    content = random_file(tmp_path / "file.bin", 1000)
    link = put(server, tmp_path / "file.bin")

    done = hmacfs("get", option, tmp_path / "other", link)

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "other").read_bytes() == content


def test_a_dash_is_standard_output_and_nothing_else_goes_there(server: Server, tmp_path: Path) -> None:
    content = random_file(tmp_path / "file.bin", 3 * MIB)
    link = put(server, tmp_path / "file.bin")
    (tmp_path / "there").mkdir()

    done = subprocess.run(
        (*HMACFS, "get", "-o", "-", link), cwd=tmp_path / "there", env=environment(), capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == content
    assert list((tmp_path / "there").iterdir()) == []


def test_get_says_where_it_cannot_write(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)
    link = put(server, tmp_path / "file.bin")

    done = hmacfs("get", "-o", tmp_path / "missing" / "file", link)

    assert_failed(done, str(tmp_path / "missing" / "file"), "cannot be written")


def test_get_of_nothing_tells_404_and_makes_no_file(server: Server, tmp_path: Path) -> None:
    done = hmacfs("get", f"{server.url}/upload/no/such.file", cwd=tmp_path)

    assert_failed(done, "404", "not-found")
    assert list(tmp_path.iterdir()) == []


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "answer", [HEAD, HEAD + b"ten bytes!", CHUNKED + b"a\r\nten bytes!\r\n", CHUNKED + b"a\r\nten"]
)
def test_a_cut_download_leaves_no_file(answer: bytes, reset: bool, tmp_path: Path) -> None:
    with scripted_server(answer, reset=reset) as url:
        done = hmacfs("get", url, cwd=tmp_path)

    assert_failed(done, "broke off") if not reset else assert_failed(done)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_to_standard_output_is_told(tmp_path: Path) -> None:
    with scripted_server(HEAD + b"ten bytes!") as url:
        done = hmacfs("get", "-o", "-", url, cwd=tmp_path)

    assert done.returncode == 1
    assert "990 bytes are missing" in done.stderr


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_does_not_speak_http_is_told(answer: bytes, tmp_path: Path) -> None:
    with scripted_server(answer) as url:
        done = hmacfs("get", url, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hmacfs: the connection to 127.0.0.1 failed")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def state_of(pid: int) -> str:
    """One letter of the kernel: R runs, S sleeps."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0]


def test_an_interrupted_download_leaves_no_file(tmp_path: Path) -> None:
    """Ctrl-C in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/file.bin"
        with subprocess.Popen((*HMACFS, "get", url), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) as client:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(HEAD + b"x" * 500)
                until(lambda: (tmp_path / "file.bin").exists(), "the file is begun")
                until(lambda: state_of(client.pid) == "S", "it waits for more")
                client.send_signal(signal.SIGINT)
                client.communicate(timeout=20)

    assert client.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_is_told_as_413_although_the_server_stops_reading(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with open(large, "wb") as file:
        file.truncate(64 * MIB)

    with Server(tmp_path, UploadMaxSize=MIB) as server:
        for _ in range(3):  # a refusal that is lost now and then is lost
            assert_failed(hmacfs("put", "--config", server.config, large), "413", "too-large")
        large.unlink()
        random_file(large, MIB)
        put(server, large)


@pytest.mark.parametrize("reset", [False, True])
def test_put_reads_the_refusal_of_a_server_that_closes_before_the_body_has_come(reset: bool, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with open(large, "wb") as file:
        file.truncate(64 * MIB)
    refusal = b"HTTP/1.1 413 Too Large\r\nX-Error-Code: too-large\r\nContent-Length: 9\r\n\r\nToo much\n"

    with scripted_server(refusal, reset=reset) as url:
        address = json.dumps(urlsplit(url).netloc)
        (tmp_path / "config.toml").write_text(f"ListenPort = {address}\n", encoding="utf-8")
        done = hmacfs("put", "large.bin", cwd=tmp_path)

    assert_failed(done, "413", "Too much", "too-large")


def test_a_refused_signature_is_told_and_shows_no_mac(server: Server, tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)

    done = hmacfs("put", "--config", server.config, tmp_path / "file.bin", HMACFS_SECRET="another-secret-of-24-bytes")

    assert_failed(done, "403", "bad-signature")
    assert not re.search(r"[0-9a-f]{64}", done.stderr)


def test_put_says_when_nobody_listens(tmp_path: Path) -> None:
    port = free_port()
    random_file(tmp_path / "file.bin", 10)
    config_in(tmp_path, ListenPort=f"127.0.0.1:{port}", MaxRetries=0)

    done = hmacfs("put", "file.bin", cwd=tmp_path)

    assert_failed(done, f"127.0.0.1:{port}", "nobody listens")


def test_get_says_when_nobody_listens(tmp_path: Path) -> None:
    port = free_port()

    done = hmacfs("get", f"http://127.0.0.1:{port}/upload/a/b", cwd=tmp_path)

    assert_failed(done, f"127.0.0.1:{port}", "nobody listens")
    assert list(tmp_path.iterdir()) == []


def test_put_says_when_there_is_no_unix_socket(tmp_path: Path) -> None:
    random_file(tmp_path / "file.bin", 10)
    config_in(tmp_path, ListenPort="unix:missing.sock", MaxRetries=0)

    done = hmacfs("put", "file.bin", cwd=tmp_path)

    assert_failed(done, "nobody listens", str(tmp_path / "missing.sock"))


@pytest.mark.parametrize("url", ["ftp://example.org/x", "file:///etc/passwd", "/upload/a/b", "http:///x", ""])
def test_what_is_no_http_url_is_refused(url: str, tmp_path: Path) -> None:
    done = hmacfs("get", url, cwd=tmp_path)

    assert done.returncode == 2
    (line,) = lines(done.stderr)
    assert "not an http or https URL" in line


@pytest.mark.parametrize("file", ["missing", "."])
def test_put_of_what_is_no_file_is_refused(file: str, server: Server, tmp_path: Path) -> None:
    done = hmacfs("put", "--config", server.config, file, cwd=tmp_path)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_put_reaches_a_server_on_a_unix_socket(unix_server: Server, tmp_path: Path) -> None:
    content = random_file(tmp_path / "file.bin", 3 * MIB)

    link = put(unix_server, tmp_path / "file.bin")

    assert link.startswith("http://localhost/upload/")
    assert http.request(unix_server, "GET", link.removeprefix("http://localhost")).body == content


def test_put_goes_through_base_url_and_prints_it(server: Server, tmp_path: Path) -> None:
    content = random_file(tmp_path / "file.bin", 10)

    done = hmacfs(
        "put", "--config", server.config, tmp_path / "file.bin", HMACFS_BASEURL=f"http://localhost:{server.port}/"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"http://localhost:{server.port}/upload/")
    target = done.stdout.strip().removeprefix(f"http://localhost:{server.port}")
    assert http.request(server, "GET", target).body == content


@pytest.mark.parametrize("host", ["::1", ""])
def test_put_reaches_every_kind_of_listenport(host: str, tmp_path: Path) -> None:
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    random_file(tmp_path / "file.bin", 10)
    shown = f"[{host}]:{port}" if host else f":{port}"

    with Server(tmp_path, address=(host or "127.0.0.1", port), ListenPort=shown) as server:
        link = put(server, tmp_path / "file.bin")
        done = hmacfs("get", "-o", "-", link)

    assert link.startswith(f"http://[::1]:{port}/" if host else f"http://127.0.0.1:{port}/")
    assert done.returncode == 0


def test_put_refuses_what_has_no_size_before_it_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    done = hmacfs("put", "--config", config_in(tmp_path), fifo)

    assert done.returncode == 2
    assert "not a regular file" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("url", ["http://x:abc/", "http://[::1/", "http://", "ftp://x/y", "http://\u00fc.example/"])
def test_get_refuses_what_is_no_url(url: str) -> None:
    done = hmacfs("get", url)

    assert done.returncode == 2
    assert "is not an http or https URL" in done.stderr
    assert "Traceback" not in done.stderr
