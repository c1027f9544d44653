"""hmacfs secret prints what the XMPP server needs; where there is no secret yet, it makes one."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import HMACFS, config_in, environment, hmacfs, lines
from tests.support.server import Server


def test_a_secret_of_256_bits_is_made_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    done = hmacfs("secret", "--config", config_in(tmp_path, StateDir="state"))

    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)
    kept = tmp_path / "state" / "secret"
    assert kept.read_text(encoding="ascii") == done.stdout
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for others")
@pytest.mark.parametrize("command", [["secret"], ["sign", "--size", "3", "a/b"]])
def test_root_makes_no_secret_in_a_statedir_of_the_server_s_user(command: list[str], tmp_path: Path) -> None:
    config, state = config_in(tmp_path, StateDir="state"), tmp_path / "state"
    state.mkdir()
    os.chown(state, 1, 1)

    done = hmacfs(*command, "--config", config)

    assert (done.returncode, done.stdout, list(state.iterdir())) == (1, "", [])
    assert (
        done.stderr
        == "hmacfs: StateDir belongs to the user with number 1: run this as that user, as the server does.\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for others")
def test_root_may_print_one_that_is_there(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "secret").write_text("0123456789abcdef" * 4 + "\n", encoding="ascii")
    for path in (state, state / "secret"):
        os.chown(path, 1, 1)
    (state / "secret").chmod(0o600)

    done = hmacfs("secret", "--config", config_in(tmp_path, StateDir="state"))

    assert (done.returncode, done.stdout) == (0, "0123456789abcdef" * 4 + "\n")


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    config = config_in(tmp_path, StateDir="state")

    subprocess.run(
        ["sh", "-c", 'umask 000; exec "$@"', "sh", *HMACFS, "secret", "--config", str(config)],
        env=environment(),
        check=True,
        capture_output=True,
    )

    assert stat.S_IMODE((tmp_path / "state" / "secret").stat().st_mode) == 0o600


def test_two_calls_print_the_same(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    first = hmacfs("secret", "--config", config)
    second = hmacfs("secret", "--config", config)

    assert first.stdout == second.stdout != ""


def test_calls_at_the_same_moment_print_the_same(tmp_path: Path) -> None:
    command = [*HMACFS, "secret", "--config", str(config_in(tmp_path))]

    calls = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(6)]
    printed = {call.communicate(timeout=60)[0] for call in calls}

    assert len(printed) == 1
    assert [call.returncode for call in calls] == [0] * 6


def test_the_server_verifies_with_the_secret_that_was_printed_before_it_started(tmp_path: Path) -> None:
    config = config_in(tmp_path, StateDir="state", StoreDir="store")
    printed = hmacfs("secret", "--config", config).stdout.strip()
    file = tmp_path / "file"
    file.write_bytes(b"content")

    with Server(tmp_path, Secret="") as server:
        done = hmacfs("put", "--config", server.config, file, HMACFS_SECRET=printed)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_secret_of_the_configuration_is_printed_and_none_is_made(tmp_path: Path) -> None:
    done = hmacfs("secret", "--config", config_in(tmp_path, Secret="zwölf Boxkämpfer jagen Viktor"))

    assert done.stdout == "zwölf Boxkämpfer jagen Viktor\n"
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize("configured", [True, False])
def test_a_new_one_differs_each_time_and_is_stored_nowhere(configured: bool, tmp_path: Path) -> None:
    if configured:
        config_in(tmp_path)

    first = hmacfs("secret", "--new", cwd=tmp_path)
    second = hmacfs("secret", "--new", cwd=tmp_path)

    assert first.returncode == second.returncode == 0
    for done in (first, second):
        assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)
    assert first.stdout != second.stdout
    assert [path.name for path in tmp_path.iterdir()] == (["config.toml"] if configured else [])


def test_a_new_one_is_accepted_as_secret(tmp_path: Path) -> None:
    fresh = hmacfs("secret", "--new", cwd=tmp_path).stdout.strip()

    done = hmacfs("check", "--config", config_in(tmp_path, Secret=fresh))

    assert done.returncode == 0


def test_rubbish_in_its_place_is_told_and_kept(tmp_path: Path) -> None:
    kept = tmp_path / "state" / "secret"
    kept.parent.mkdir()
    kept.write_bytes(b"short")

    done = hmacfs("secret", "--config", config_in(tmp_path, StateDir="state"))

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = lines(done.stderr)
    assert str(kept) in line
    assert kept.read_bytes() == b"short"
