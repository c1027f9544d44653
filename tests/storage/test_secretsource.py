"""A secret from a file and from a command: what is taken, and one sentence without the value for what is not."""

import os
import sys
import time
from pathlib import Path

import pytest

from hmacfs.errors import ConfigError
from hmacfs.storage import secretsource
from hmacfs.storage.secretsource import from_command, from_file
from tests.support.polling import until
from tests.support.server import stat_fields

VALUE = "zwölf Boxkämpfer jagen Viktor"


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def refusal(content: bytes, tmp_path: Path) -> str:
    """What is said of a file with this content."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        from_file(str(path))
    (sentence,) = refused.value.problems
    assert sentence.startswith(f"SecretFile: {path} ")
    return sentence


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_gives_its_text_without_one_newline(end: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes((VALUE + end).encode())

    assert from_file(str(path)) == VALUE


def test_spaces_belong_to_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(" a b ", encoding="utf-8")

    assert from_file(str(path)) == " a b "


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "gives nothing"),
        (b"\n", "gives nothing"),
        (b"alpha\n\n", "more than one line"),
        (b"alpha\nbeta\n", "more than one line"),
        (b"al\0pha", "control characters"),
        (b"alph\xff", "not UTF-8"),
        (b"alpha" * 1000, "more than 4096 bytes"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_without_showing_it(content: bytes, said: str, tmp_path: Path) -> None:
    sentence = refusal(content, tmp_path)

    assert said in sentence
    assert "alph" not in sentence


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_readable_file_is_told_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "there"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)

    with pytest.raises(ConfigError, match=str(path)):
        from_file(str(path))


def test_a_link_to_a_secret_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(VALUE, encoding="utf-8")
    (tmp_path / "link").symlink_to("real")

    assert from_file(str(tmp_path / "link")) == VALUE


def test_a_command_gives_what_it_prints() -> None:
    assert from_command(("printf", "%s\\n", VALUE)) == VALUE


def test_no_shell_reads_the_command() -> None:
    assert from_command(("printf", "%s", "$HOME;`id`|x")) == "$HOME;`id`|x"


def test_output_in_pieces_is_put_together() -> None:
    code = "import sys,time\nfor c in 'abcdef':\n sys.stdout.write(c); sys.stdout.flush(); time.sleep(0.01)"

    assert from_command(python(code)) == "abcdef"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/no/such/program",), "cannot be run"),
        (("/",), "cannot be run"),
        (("a\0b",), "cannot be run"),
        (("false",), "exit status 1"),
        (python("print('alpha'); raise SystemExit(3)"), "exit status 3"),
        (python("import os; os.kill(os.getpid(), 9)"), "exit status -9"),
        (("true",), "gives nothing"),
        (("printf", "alpha\\nbeta"), "more than one line"),
        (("head", "-c", "100000", "/dev/zero"), "more than 4096 bytes"),
    ],
)
def test_a_command_that_fails_is_told_without_its_output(command: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_command(command)

    (sentence,) = refused.value.problems
    assert said in sentence
    assert "alpha" not in sentence


def test_what_a_command_says_on_standard_error_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        from_command(("sh", "-c", "echo alpha >&2; exit 1"))

    assert "alpha" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_command_that_never_stops_printing_is_ended() -> None:
    with pytest.raises(ConfigError, match="more than 4096 bytes"):
        from_command(("yes",))


@pytest.mark.parametrize("closes", [True, False])
def test_a_command_that_takes_too_long_is_ended_with_what_it_started(
    closes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secretsource, "SECONDS", 0.5)
    note = tmp_path / "pid"
    close = "exec 1>&-;" if closes else ""
    started = time.monotonic()

    with pytest.raises(ConfigError, match="took longer"):
        from_command(("sh", "-c", f"{close} sleep 600 & echo $! > {note}; wait"))

    assert time.monotonic() - started < 10
    pid = int(note.read_text())
    until(lambda: stat_fields(pid)[:1] in ([], ["Z"]), "what it started is gone")
