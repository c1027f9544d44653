"""The curl lines of hmacfs sign do what they say when a shell runs them."""

from pathlib import Path

import pytest

from tests.cli.running import Done, asked, config_in, lines, run
from tests.support import http
from tests.support.server import Server


def sign(server: Server, *arguments: str, cwd: Path) -> tuple[str, str]:
    """The line that puts and the line that gets."""
    done = asked("sign", "--config", server.config, *arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    put, get = lines(done.stdout)
    return put, get


CURL_HTTP_ERROR = 22


def shell(line: str, cwd: Path, *, status: int = 0) -> Done:
    done = run(("sh", "-e", "-c", line), cwd=cwd)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where the file lies, and where it is fetched to."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    return here, there


@pytest.mark.parametrize("protocol", ["v", "v2", "token"])
def test_the_lines_of_every_protocol_work(protocol: str, server: Server, folders: tuple[Path, Path]) -> None:
    here, there = folders
    content = bytes(range(256)) * 300
    (here / "file.bin").write_bytes(content)

    put, get = sign(server, "--protocol", protocol, "--file", "file.bin", f"{protocol}/file.bin", cwd=here)

    assert f"?{protocol}=" in put
    assert shell(put, here).stdout == ""
    shell(get, there)
    assert (there / "file.bin").read_bytes() == content


def test_v2_is_the_default(server: Server, tmp_path: Path) -> None:
    put, _ = sign(server, "--size", "1", "a/b", cwd=tmp_path)

    assert "?v2=" in put


def test_the_line_that_gets_holds_no_signature(server: Server, tmp_path: Path) -> None:
    _, get = sign(server, "--size", "1", "a/b", cwd=tmp_path)

    assert "?" not in get


@pytest.mark.parametrize(
    "name", ["two words.txt", "Größe 🐈.txt", "1+1=2.txt", "100%41.txt", "it's $HOME `x`.txt", "a;b&c?d#e.txt", "-v"]
)
def test_no_name_is_too_strange_for_a_shell_and_a_url(name: str, server: Server, folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "file.bin").write_bytes(b"content of " + name.encode())

    put, get = sign(server, "--file", "file.bin", "--", f"strange/{name}", cwd=here)

    shell(put, here)
    shell(get, there)
    assert (there / name).read_bytes() == b"content of " + name.encode()
    assert (server.store_dir / "strange" / name).exists()


def test_a_type_is_sent_as_it_was_signed(server: Server, folders: tuple[Path, Path]) -> None:
    here, _ = folders
    (here / "cat").write_bytes(b"meow")

    put, _ = sign(server, "--file", "cat", "--type", "text/plain; charset=utf-8", "typed/cat", cwd=here)

    shell(put, here)
    assert http.get(server, "typed/cat")["Content-Type"] == "text/plain; charset=utf-8"


def test_a_size_alone_is_enough(server: Server, folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "FILE").write_bytes(b"12345")

    put, get = sign(server, "--size", "5", "sized/file", cwd=here)

    shell(put, here)
    shell(get, there)
    assert (there / "file").read_bytes() == b"12345"


def test_an_empty_file_can_be_signed(server: Server, folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "empty").write_bytes(b"")

    put, get = sign(server, "--file", "empty", "nothing/empty", cwd=here)

    shell(put, here)
    shell(get, there)
    assert (there / "empty").read_bytes() == b""


def test_a_changed_file_is_refused(server: Server, folders: tuple[Path, Path]) -> None:
    here, _ = folders
    (here / "file").write_bytes(b"12345")
    put, _ = sign(server, "--file", "file", "changed/file", cwd=here)
    (here / "file").write_bytes(b"123456")

    done = shell(put, here, status=CURL_HTTP_ERROR)

    assert "signature" in done.stdout
    assert not (server.store_dir / "changed").exists()


@pytest.mark.parametrize("name", ["photo[1].jpg", "a{b,c}.txt"])
def test_a_name_that_curl_would_take_for_a_pattern_works(server: Server, folders: tuple[Path, Path], name: str) -> None:
    here, there = folders
    (here / name).write_bytes(b"bytes")

    put, get = sign(server, "--file", name, f"patterns/{name}", cwd=here)

    shell(put, here)
    shell(get, there)
    assert (there / name).read_bytes() == b"bytes"


def test_an_empty_type_is_the_one_that_a_server_judges(server: Server, folders: tuple[Path, Path]) -> None:
    here, _ = folders
    (here / "file").write_bytes(b"bytes")

    put, _ = sign(server, "--file", "file", "--type", "", "empty/type", cwd=here)

    shell(put, here)


@pytest.mark.parametrize("content_type", ["\u20ac/x", "a/b\r\nX-Header: injected", "x" * 256])
def test_a_type_that_no_header_can_carry_is_refused(tmp_path: Path, content_type: str) -> None:
    done = asked("sign", "--config", config_in(tmp_path), "--size", "1", "--type", content_type, "a/b")

    assert done.returncode == 2
    assert "content type" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_lines_of_a_server_on_a_unix_socket_work(unix_server: Server, folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "file").write_bytes(b"through a socket")

    put, get = sign(unix_server, "--file", "file", "a/file", cwd=here)

    shell(put, here)
    shell(get, there)
    assert (there / "file").read_bytes() == b"through a socket"


def test_a_base_url_is_what_people_see(tmp_path: Path) -> None:
    config = config_in(
        tmp_path, BaseURL="https://upload.example.org/", ListenPort="unix:x.sock", UploadSubDir="up/load"
    )

    done = asked("sign", "--config", config, "--size", "1", "a/b")

    put, get = lines(done.stdout)
    assert " https://upload.example.org/up/load/a/b?v2=" in put.replace("'", "")
    assert get == "curl --fail --globoff -o b https://upload.example.org/up/load/a/b"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a/b",
        "a//b",
        "a/b/",
        "../b",
        "a/./b",
        ".hmacfs/secret",
        ".uploads/x",
        "a/line\nbreak",
        "a/" + "x" * 256,
        "1/2/3/4/5/6/7/8/9",
    ],
)
def test_what_cannot_be_a_path_is_refused(path: str, tmp_path: Path) -> None:
    done = asked("sign", "--config", config_in(tmp_path), "--size", "1", path)

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = lines(done.stderr)
    assert "cannot be a path" in line


def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    done = asked("sign", "--config", config_in(tmp_path), "--size", "1", b"a/\xff.txt")

    assert done.returncode == 2
    assert done.stdout == ""
    assert "UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--size", "1", "--file", "file")])
def test_either_a_file_or_a_size_is_needed(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    config_in(tmp_path)

    done = asked("sign", *arguments, "a/b", cwd=tmp_path)

    assert done.returncode == 2
    assert "--file or --size" in done.stderr


@pytest.mark.parametrize("arguments", [("--size", "-1"), ("--file", "missing"), ("--size", "1", "--protocol", "v9")])
def test_nonsense_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    config_in(tmp_path)

    done = asked("sign", *arguments, "a/b", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
