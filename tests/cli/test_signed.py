"""v3 and DELETE from the command line: sign, put, get and delete against a server that wants them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import asked, config_in, hmacfs, lines, run
from tests.support import http
from tests.support.server import Server

CONTENT = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everything has to be signed."""
    with Server(tmp_path_factory.mktemp("strict"), EnableV3=True, RequireSignedDownloads=True) as running:
        yield running


@pytest.fixture(scope="module")
def metronome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Deletes what Metronome signs."""
    with Server(tmp_path_factory.mktemp("metronome"), DeleteSecret="a-delete-secret") as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ä file.bin"
    path.write_bytes(CONTENT)
    return path


def shell(line: str, cwd: Path) -> int:
    return run(("sh", "-e", "-c", line), cwd=cwd).returncode


def test_a_put_with_expires_prints_a_link_that_works_where_downloads_are_signed(
    strict: Server, file: Path, tmp_path: Path
) -> None:
    done = asked("put", "--config", strict.config, "--expires", "5m", file)
    assert (done.returncode, done.stderr) == (0, "")
    (link,) = lines(done.stdout)

    fetched = hmacfs("get", "--output", tmp_path / "copy", link)

    assert re.search(r"\?v3=[0-9a-f]{64}&expires=\d+$", link)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_get_signs_a_plain_link(strict: Server, file: Path, tmp_path: Path) -> None:
    link = lines(asked("put", "--config", strict.config, file).stdout)[0].partition("?")[0]

    plain = hmacfs("get", "--output", tmp_path / "none", link)
    signed = hmacfs("get", "--config", strict.config, "--expires", "60", "--output", tmp_path / "copy", link)

    assert plain.returncode == 1
    assert "403" in plain.stderr
    assert (signed.returncode, signed.stderr) == (0, "")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", ["link", "path"])
def test_delete_removes_a_file_once(form: str, strict: Server, metronome: Server, file: Path) -> None:
    for server in (strict, metronome):
        link = lines(asked("put", "--config", server.config, file).stdout)[0]
        slot = link.partition("?")[0].rpartition("/upload/")[2].replace("%C3%A4%20", "ä ")
        named = link if form == "link" else slot
        assert (server.store_dir / slot).exists()

        done = [asked("delete", "--config", server.config, "--", named) for _ in range(2)]

        assert [each.returncode for each in done] == [0, 1]
        assert done[0].stdout == done[0].stderr == ""
        assert "404" in done[1].stderr
        assert not (server.store_dir / slot).exists()


def test_delete_says_where_nothing_is_ever_deleted(server: Server) -> None:
    done = asked("delete", "--config", server.config, "a/b")

    assert done.returncode == 2
    assert "EnableV3" in done.stderr
    assert "DeleteSecret" in done.stderr


@pytest.mark.parametrize(
    "named", ["https://example.org/elsewhere/a/b", "https://example.org/upload/", "a//b", "../a", ""]
)
def test_delete_refuses_what_is_no_path(named: str, metronome: Server) -> None:
    done = asked("delete", "--config", metronome.config, "--", named)

    assert done.returncode == 2
    assert len(lines(done.stderr)) == 1


def test_the_lines_of_sign_with_v3_work(strict: Server, file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    done = asked("sign", "--config", strict.config, "--expires", "2m", "--file", file, "v3/ä file.bin")
    assert (done.returncode, done.stderr) == (0, "")
    put, get, delete = lines(done.stdout)

    statuses = [shell(put, tmp_path), shell(get, there), shell(delete, tmp_path), shell(get, there)]

    assert statuses == [0, 0, 0, 22]
    assert (there / "ä file.bin").read_bytes() == CONTENT


def test_sign_prints_a_deletion_that_metronome_could_have_signed(metronome: Server, tmp_path: Path) -> None:
    http.put(metronome, "signed/file", CONTENT)

    done = asked("sign", "--config", metronome.config, "--size", "1", "signed/file")
    delete = lines(done.stdout)[2]

    assert "?token=" in delete
    assert shell(delete, tmp_path) == 0
    assert not (metronome.store_dir / "signed").exists()


@pytest.mark.parametrize("command", [("sign", "--size", "1", "a/b"), ("put", "FILE"), ("get", "http://x/upload/a")])
def test_v3_where_it_is_off_is_one_sentence(command: tuple[str, ...], server: Server, file: Path) -> None:
    name, *rest = command
    rest = [str(file) if word == "FILE" else word for word in rest]

    done = asked(name, "--config", server.config, "--expires", "1m", *rest)

    assert done.returncode == 2
    assert "EnableV3 = true" in done.stderr


@pytest.mark.parametrize("expires", ["0", "-5", "soon", ""])
def test_a_time_that_is_none_is_refused(expires: str, strict: Server) -> None:
    done = asked("sign", "--config", strict.config, f"--expires={expires}", "--size", "1", "a/b")

    assert done.returncode == 2
    assert "--expires" in done.stderr


def test_a_signature_without_a_time_takes_no_expires(strict: Server) -> None:
    done = asked("sign", "--config", strict.config, "--protocol", "v2", "--expires", "1m", "--size", "1", "a/b")

    assert done.returncode == 2
    assert "Only v3" in done.stderr


def test_hmacfs_secret_prints_the_one_in_effect_whatever_its_source(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret of a file\n")

    from_file = asked("secret", "--config", config_in(tmp_path, SecretFile="secret.txt"))
    from_command = asked("secret", "--config", config_in(tmp_path, SecretCommand=["echo", "the secret of a command"]))

    assert (from_file.stdout, from_command.stdout) == ("the secret of a file\n", "the secret of a command\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "secret.txt"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"SecretFile": "missing.txt"}, "SecretFile"),
        ({"SecretCommand": ["false"]}, "SecretCommand"),
        ({"SecretCommand": ["echo", "weak"]}, "AllowWeakSecret"),
    ],
)
def test_check_tells_of_a_source_that_cannot_be_read(keys: dict[str, object], said: str, tmp_path: Path) -> None:
    done = asked("check", "--config", config_in(tmp_path, **keys))

    assert done.returncode == 2
    assert said in done.stderr
    assert len(lines(done.stderr)) == 1


@pytest.mark.parametrize("command", ["serve", "secret"])
def test_a_source_that_cannot_be_read_at_start_is_one_line(command: str, tmp_path: Path) -> None:
    done = asked(command, "--config", config_in(tmp_path, SecretFile="missing.txt"))

    assert done.returncode == 2
    assert len(lines(done.stderr)) == 1
    assert str(tmp_path / "missing.txt") in done.stderr
