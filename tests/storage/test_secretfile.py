"""The secret that is made at first start: one for every process, for nobody else's eyes."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hmacfs.errors import ConfigError
from hmacfs.storage import secretfile
from tests.support.leaks import Kind

GETTER = """
import sys
from hmacfs.storage import secretfile
print("ready", flush=True)
sys.stdin.read()
print(secretfile.load_or_make(sys.argv[1]), flush=True)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def refusal(state: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        secretfile.load_or_make(str(state))
    (sentence,) = caught.value.problems
    return sentence


def test_a_new_secret_has_256_bits_and_is_never_the_same() -> None:
    made = {secretfile.new_secret() for _ in range(100)}

    assert len(made) == 100
    assert all(re.fullmatch(r"[0-9a-f]{64}", secret) for secret in made)


def test_a_missing_secret_is_made_and_kept(state: Path) -> None:
    secret = secretfile.load_or_make(str(state))

    assert len(secret) == 64
    assert secretfile.load_or_make(str(state)) == secret
    assert (state / "secret").read_text(encoding="utf-8") == secret + "\n"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_it(state: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        secretfile.load_or_make(str(state))
    finally:
        os.umask(before)

    assert stat.S_IMODE((state / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_making_it_leaves_no_draft(state: Path) -> None:
    secretfile.load_or_make(str(state))

    assert os.listdir(state) == ["secret"]


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        ("sixteen-bytes-ok", "sixteen-bytes-ok"),
        ("with-a-newline-at-the-end\n", "with-a-newline-at-the-end"),
        ("only-one-newline-goes\n\n", "only-one-newline-goes\n"),
        (" spaces belong to it ", " spaces belong to it "),
        ("not-ascii-äöü-äöü", "not-ascii-äöü-äöü"),
    ],
)
def test_a_secret_that_is_there_is_taken_as_it_is(state: Path, content: str, secret: str) -> None:
    state.mkdir()
    (state / "secret").write_text(content, encoding="utf-8")

    assert secretfile.load_or_make(str(state)) == secret
    assert (state / "secret").read_text(encoding="utf-8") == content


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"hush-hush-hush\n", b"\xff" * 32])
def test_an_unusable_secret_is_told_and_neither_shown_nor_replaced(state: Path, content: bytes) -> None:
    state.mkdir()
    (state / "secret").write_bytes(content)

    sentence = refusal(state)

    assert str(state / "secret") in sentence
    assert "does not hold a usable secret" in sentence
    assert "hush" not in sentence
    assert (state / "secret").read_bytes() == content


def test_a_state_folder_that_is_a_file_is_told_as_one(state: Path) -> None:
    state.write_bytes(b"")

    assert refusal(state).startswith(f"StateDir: {state}")


def test_a_secret_that_is_a_directory_is_told_as_one(state: Path) -> None:
    (state / "secret").mkdir(parents=True)

    assert refusal(state).startswith(f"StateDir: {state / 'secret'}")


@pytest.mark.shows(Kind.MAC, because="each process prints the secret that it got, to be compared")
def test_processes_that_start_at_once_get_one_secret(state: Path) -> None:
    reading, starting_gun = os.pipe()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", GETTER, str(state)], stdin=reading, stdout=subprocess.PIPE, text=True, close_fds=True
        )
        for _ in range(8)
    ]
    os.close(reading)
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"

    os.close(starting_gun)
    secrets = [racer.communicate(timeout=60)[0].strip() for racer in racers]

    assert [racer.returncode for racer in racers] == [0] * 8
    assert len(secrets[0]) == 64
    assert set(secrets) == {secrets[0]}
    assert os.listdir(state) == ["secret"]
