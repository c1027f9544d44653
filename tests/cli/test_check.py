"""hmacfs check is stricter than a start, builds what a start would build, and leaves the disk as it was."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from hmacfs.settings import keys
from tests.cli.running import Done, asked, config_in, hmacfs, lines, run, snapshot
from tests.cli.test_serve_errors import AS_NOBODY
from tests.support.ports import free_port
from tests.support.server import ROOT, Server

WITHOUT_EFFECT = [key for key in keys() if not key.works]


def check(config: Path) -> Done:
    return asked("check", "--config", config)


def assert_refused(done: Done, *words: str) -> None:
    """Exit status 2 and one line with all ``words``."""
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = lines(done.stderr)
    for word in words:
        assert word in line


def test_a_good_configuration_is_ok_and_exit_status_0(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    done = hmacfs("check", "--config", config)

    assert done.stderr == ""
    assert done.stdout == f"{config}: OK\n"
    assert done.returncode == 0


def test_the_configuration_that_comes_with_the_server_is_ok() -> None:
    done = check(ROOT / "config.toml")

    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_made_before_a_first_start(tmp_path: Path) -> None:
    config = config_in(tmp_path, LogFile="server.log", ListenPort="unix:server.sock")
    before = snapshot(tmp_path)

    done = check(config)

    assert done.returncode == 0
    assert snapshot(tmp_path) == before


def test_nothing_is_changed_after_a_start(tmp_path: Path) -> None:
    with Server(tmp_path, Secret="") as server:
        config = server.config
    (tmp_path / "store" / ".hmacfs" / "staging" / "left-behind").write_bytes(b"of a crash")
    before = snapshot(tmp_path)
    assert str(tmp_path / "state" / "secret") in before

    done = check(config)

    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(tmp_path) == before


def test_a_store_of_another_server_is_left_as_it_is(tmp_path: Path) -> None:
    old = tmp_path / "store" / "3f2a" / "cat.jpg"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"meow")
    config = config_in(tmp_path, StoreDir="store")
    before = snapshot(tmp_path)

    done = check(config)

    assert done.returncode == 0
    assert snapshot(tmp_path) == before


def test_a_running_server_is_not_in_the_way(server: Server) -> None:
    before = snapshot(server.store_dir)

    done = check(server.config)

    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(server.store_dir) == before


def test_a_taken_port_is_no_fault_of_the_configuration(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = check(config_in(tmp_path, ListenPort=f"127.0.0.1:{other.getsockname()[1]}"))

    assert done.returncode == 0


def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    assert_refused(check(config_in(tmp_path, StorDir="x")), "StorDir", "Did you mean StoreDir?")


def test_an_unknown_variable_is_an_error_that_names_it_in_full(tmp_path: Path) -> None:
    done = asked("check", "--config", config_in(tmp_path), HMACFS_STORDIR="x")

    assert_refused(done, "HMACFS_STORDIR", "Did you mean StoreDir?")


@pytest.mark.parametrize("name", [key.name for key in WITHOUT_EFFECT][:2])
def test_a_key_that_does_not_work_yet_is_an_error(name: str, tmp_path: Path) -> None:
    (default,) = (key.default for key in WITHOUT_EFFECT if key.name == name)

    done = check(config_in(tmp_path, **{name: default}))

    assert_refused(done, name, "no effect")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("UploadMaxSize", "huge", ("huge", "64KiB")),
        ("Durability", "some", ("some", "full", "data", "none")),
        ("UnixSocket", True, ("ListenPort", ":8080")),
        ("Secret", "short", ("16 bytes", "AllowWeakSecret")),
    ],
)
def test_what_keeps_a_server_from_starting_is_an_error(
    key: str, value: Any, words: tuple[str, ...], tmp_path: Path
) -> None:
    assert_refused(check(config_in(tmp_path, **{key: value})), key, *words)


def test_errors_and_warnings_are_all_told_at_once(tmp_path: Path) -> None:
    done = check(config_in(tmp_path, StorDir="x", UploadMaxSize="huge", LogLevel="loud"))

    assert done.returncode == 2
    assert len(lines(done.stderr)) == 3
    for word in ("StorDir", "UploadMaxSize", "LogLevel"):
        assert word in done.stderr


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe not text at all \xff\xfe"])
def test_a_secret_that_cannot_be_used_is_found(content: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "state" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(content)

    done = check(config_in(tmp_path, StateDir="state"))

    assert_refused(done, str(secret), "usable secret")
    assert secret.read_bytes() == content


@pytest.mark.parametrize("key", ["StoreDir", "StateDir"])
def test_a_folder_that_is_a_file_is_found(key: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_bytes(b"")

    for value in ("a-file", "a-file/below"):
        assert_refused(check(config_in(tmp_path, **{key: value})), key, str(tmp_path / "a-file"), "not a directory")


def test_a_logfile_without_a_folder_is_found(tmp_path: Path) -> None:
    assert_refused(check(config_in(tmp_path, LogFile="missing/server.log")), "LogFile", str(tmp_path / "missing"))


@pytest.mark.parametrize("key", ["LogFile", "AuditLog"])
def test_a_log_that_is_a_folder_is_found(key: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    assert_refused(check(config_in(tmp_path, **{key: "folder"})), key, str(tmp_path / "folder"), "directory")


def test_a_log_that_this_user_may_not_write_is_found(public_folder: Path) -> None:
    public_folder.chmod(0o777)
    log = public_folder / "x.log"
    log.touch(mode=0o444)

    done = run((sys.executable, "-c", AS_NOBODY, "check", "--config", str(config_in(public_folder, LogFile=str(log)))))

    assert_refused(done, "LogFile", str(log), "owner")


def test_a_state_that_everybody_could_download_is_found(tmp_path: Path) -> None:
    config = config_in(tmp_path, Secret="", StoreDir="store", StateDir="store/state")

    assert_refused(check(config), "StateDir", str(tmp_path / "store/state"), "StoreDir")


def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("ListenPort 8080", encoding="utf-8")

    assert_refused(check(tmp_path / "config.toml"), "not valid TOML")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert_refused(check(tmp_path / "missing.toml"), str(tmp_path / "missing.toml"), "does not exist")


def test_files_of_the_go_server_are_understood(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(
        "[server]\n"
        f"listen_port = {json.dumps(str(free_port()))}\n"
        'storage_path = "./store"\n'
        "[security]\n"
        'secret = "a-secret-of-the-old-server"\n',
        encoding="utf-8",
    )

    done = check(tmp_path / "old.toml")

    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["old.toml"]


@pytest.mark.parametrize("address", ["here:there", "redis://host:99999", "http://host", "unix:relative", "host:0"])
def test_a_redisaddr_that_cannot_be_read_is_an_error_that_does_not_show_it(address: str, tmp_path: Path) -> None:
    done = check(config_in(tmp_path, RedisAddr=address))

    assert_refused(done, "RedisAddr", "redis://")
    assert address not in done.stderr


@pytest.mark.parametrize(
    "address", ["", ":6379", "host", "host:6379", "[::1]:6379", "rediss://u:p@host/1", "unix:///r"]
)
def test_every_form_of_a_redisaddr_is_ok_whoever_listens_there(address: str, tmp_path: Path) -> None:
    done = check(config_in(tmp_path, RedisAddr=address))

    assert (done.returncode, done.stderr) == (0, "")


DATABASE = {"FallbackEnabled": True, "FallbackDBHost": "db", "FallbackDBUser": "hmacfs", "FallbackDBName": "hmacfs"}


def test_a_whole_fallback_database_is_ok_whoever_listens_there(tmp_path: Path) -> None:
    done = check(config_in(tmp_path, **DATABASE))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["FallbackDBHost", "FallbackDBUser", "FallbackDBName"])
def test_fallbackenabled_without_what_it_needs_is_an_error(name: str, tmp_path: Path) -> None:
    assert_refused(check(config_in(tmp_path, **DATABASE | {name: ""})), "FallbackEnabled", name)


def test_a_fallbackdbhost_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    assert_refused(
        check(config_in(tmp_path, **DATABASE | {"FallbackDBHost": "db:there"})), "FallbackDBHost", "host:port"
    )


def test_a_missing_driver_for_mysql_is_an_error_that_names_the_extra(tmp_path: Path) -> None:
    """As where mysqlclient is not installed: the module cannot be found."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['MySQLdb'] = None\n", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    config = config_in(tmp_path / "sub", **DATABASE | {"FallbackDBType": "mysql"})

    done = hmacfs("check", "--config", config, PYTHONPATH=f"{hidden}{os.pathsep}{ROOT}")

    assert_refused(done, "FallbackDBType", "mysqlclient", "hmacfs[mysql]")


def test_no_tier_of_state_is_asked_or_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        config = config_in(tmp_path, RedisAddr=f"127.0.0.1:{listener.getsockname()[1]}")
        before = snapshot(tmp_path)

        done = check(config)

        assert done.returncode == 0
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert snapshot(tmp_path) == before
