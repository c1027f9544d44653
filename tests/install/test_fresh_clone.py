"""Two words bring a fresh clone to life: `make run`. What it prints works, and plain curl is all a client needs."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.clone import MAC, MakeRun, same, shell
from tests.support.polling import until

MIB = 1024 * 1024
START_SECONDS = 3.0

# Names a proxy that refuses every connection, and forbids pip its index.
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1,localhost",
}


@pytest.fixture(scope="module")
def running(clone: Path) -> Iterator[MakeRun]:
    with MakeRun(clone) as run:
        yield run


def random_file(path: Path, size: int) -> Path:
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))
    return path


def test_the_first_run_installs_serves_and_prints_no_signature(installed_clone: tuple[Path, str, str]) -> None:
    folder, out, err = installed_clone

    assert "Starting HMAC File Server" in out
    assert "Try it with" in out
    assert not MAC.search(out)
    assert not MAC.search(err)
    assert "Traceback" not in out + err
    assert (folder / ".venv" / "bin" / "hmacfs").exists()


def test_everything_it_makes_is_ignored_by_git(clone: Path) -> None:
    listed = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"], cwd=clone, check=True, capture_output=True, text=True
    ).stdout

    ignored = {line.removeprefix("!! ") for line in listed.splitlines() if line.startswith("!! ")}
    assert {".venv/", "data/"} <= ignored
    untracked = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "--directory", "data", ".venv"],
        cwd=clone,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert untracked == ""


def test_the_printed_line_works_from_any_folder_and_its_link_fetches_the_file(running: MakeRun, tmp_path: Path) -> None:
    line = running.line_to_try()

    printed = shell(line, tmp_path, running.env)

    (link,) = printed.splitlines()
    assert link.startswith(f"{running.url}/upload/")
    shell(shlex.join(["curl", "--fail", "--silent", "-o", "fetched", link]), tmp_path, running.env)
    sent = Path(shlex.split(line)[-1])
    assert same(tmp_path / "fetched", sent)
    assert os.listdir(tmp_path) == ["fetched"]


def test_neither_stream_ever_shows_a_signature_or_the_secret(running: MakeRun, clone: Path, tmp_path: Path) -> None:
    shell(running.line_to_try(), tmp_path, running.env)
    until(lambda: "Incoming request: PUT" in running.out, "the log line")

    assert not MAC.search(running.out)
    assert not MAC.search(running.err)
    assert (clone / "data" / "state" / "secret").read_text(encoding="ascii").strip() not in running.out + running.err


def round_trip(running: MakeRun, file: Path, path: str, *, fetched: Path) -> None:
    """Put and get with the curl lines of hmacfs sign."""
    hmacfs = running.folder / ".venv" / "bin" / "hmacfs"
    config = running.folder / "config.toml"
    command = [str(hmacfs), "sign", "--config", str(config), "--file", str(file), "--", path]
    put, get = shell(shlex.join(command), fetched.parent, running.env).splitlines()

    assert re.match(r"curl .*-T ", put)
    assert shell(put, fetched.parent, running.env) == ""
    shell(get, fetched.parent, running.env)

    assert same(fetched, file)


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 200 * MIB])
def test_plain_curl_puts_and_gets_a_file_of_any_size(size: int, running: MakeRun, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()

    round_trip(running, random_file(tmp_path / "file.bin", size), f"size-{size}/file.bin", fetched=there / "file.bin")

    stored = running.folder / "data" / "store" / f"size-{size}" / "file.bin"
    assert stored.stat().st_size == size


def test_plain_curl_puts_and_gets_a_file_with_a_strange_name(running: MakeRun, tmp_path: Path) -> None:
    name = "Zwölf große Fälle + 100%41 🐈.txt"
    there = tmp_path / "there"
    there.mkdir()

    round_trip(running, random_file(tmp_path / name, 1000), f"strange/{name}", fetched=there / name)

    assert (running.folder / "data" / "store" / "strange" / name).exists()


def test_ctrl_c_ends_all_of_it_with_one_closing_line(clone: Path) -> None:
    with MakeRun(clone, HMACFS_MONITORINTERVAL="0") as run:  # else its line may come just then
        before = run.out

        run.signal(signal.SIGINT)
        run.process.wait(20)

        until(lambda: not run.group(), "all processes end")
        after = run.out.removeprefix(before).splitlines()
        beside = ("Incoming request", "State tier")  # the latter comes from a worker that had just begun
        closing = [line for line in after if not any(word in line for word in beside)]
        assert len(closing) == 1
        assert closing[0].endswith("Stopped")
        assert "Traceback" not in run.out + run.err


def test_a_second_run_starts_at_once_without_a_network(clone: Path, tmp_path: Path) -> None:
    started = time.monotonic()

    with MakeRun(clone, **OFFLINE) as run:
        took = time.monotonic() - started
        (link,) = shell(run.line_to_try(), tmp_path, run.env).splitlines()

    assert took < START_SECONDS
    assert link.startswith(run.url)
    assert "installing" not in run.err


def test_what_was_put_before_a_restart_is_there_after_it(clone: Path, tmp_path: Path) -> None:
    with MakeRun(clone) as run:
        (link,) = shell(run.line_to_try(), tmp_path, run.env).splitlines()
        sent = Path(shlex.split(run.line_to_try())[-1])
    with MakeRun(clone) as run:
        again = run.url + link[link.index("/upload/") :]
        shell(shlex.join(["curl", "--fail", "--silent", "-o", "fetched", again]), tmp_path, run.env)

    assert same(tmp_path / "fetched", sent)
