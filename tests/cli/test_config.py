"""hmacfs config tells what is in effect and where it comes from; how every command finds its configuration."""

import tomllib
from pathlib import Path

import pytest

from hmacfs import configfile
from hmacfs.settings import keys
from tests.cli.running import asked, config_in, lines

SECRET = "nobody-may-read-this-0123456789"


def shown(output: str) -> dict[str, tuple[str, str]]:
    """Key to value and source, as printed."""
    found = {}
    for line in lines(output):
        if not line.startswith("#"):
            name, _, rest = line.partition(" = ")
            value, _, source = rest.rpartition("  # ")
            found[name] = (value, source)
    return found


def test_every_working_key_is_shown_with_its_default(tmp_path: Path) -> None:
    done = asked("config", "--show", "--config", config_in(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    found = shown(done.stdout)
    assert list(found) == [key.name for key in keys() if key.works]
    assert {source for _, source in found.values()} == {"default"}
    assert found["UploadMaxSize"][0] == "1073741824"
    assert found["FileMode"][0] == '"0640"'
    assert found["NumCores"][0] == '"auto"'


def test_a_value_says_whether_the_file_or_the_environment_gave_it(tmp_path: Path) -> None:
    config = config_in(tmp_path, UploadMaxSize="2MiB", LogLevel="debug")

    done = asked("config", "--config", config, HMACFS_LOGLEVEL="error", HMACFS_UPLOAD_SUB_DIR="up")

    found = shown(done.stdout)
    assert found["UploadMaxSize"] == ("2097152", "file")
    assert found["LogLevel"] == ('"error"', "environment")
    assert found["UploadSubDir"] == ('"up"', "environment")


def test_relative_paths_are_shown_absolute_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    config = config_in(tmp_path / "etc", StoreDir="../store", ListenPort="unix:here.sock")

    done = asked("config", "--config", config, cwd=Path("/"))

    found = shown(done.stdout)
    assert found["StoreDir"][0] == f'"{tmp_path}/store"'
    assert found["StateDir"][0] == f'"{tmp_path}/etc/data/state"'
    assert found["ListenPort"][0] == f'"unix:{tmp_path}/etc/here.sock"'


@pytest.mark.parametrize("source", ["file", "environment"])
def test_secrets_are_masked(source: str, tmp_path: Path) -> None:
    if source == "file":
        done = asked("config", "--config", config_in(tmp_path, Secret=SECRET))
    else:
        done = asked("config", "--config", config_in(tmp_path), HMACFS_SECRET=SECRET)

    assert shown(done.stdout)["Secret"] == ('"(hidden)"', source)
    assert SECRET not in done.stdout + done.stderr


def test_a_secret_of_the_wrong_type_is_masked_in_the_error_too(tmp_path: Path) -> None:
    done = asked("config", "--config", config_in(tmp_path, Secret=[SECRET]))

    assert done.returncode == 2
    assert "Secret" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_the_output_is_toml_that_means_the_same(tmp_path: Path) -> None:
    config = config_in(
        tmp_path,
        ListenPort="[::1]:8081",
        CORSOrigins=["https://a.example", "https://ü.example"],
        NumCores=3,
        DirMode="2750"[1:],
    )

    done = asked("config", "--config", config)

    tomllib.loads(done.stdout)
    again = tmp_path / "again.toml"
    again.write_text(done.stdout, encoding="utf-8")
    assert configfile.load(str(again), {}).settings == configfile.load(str(config), {}).settings


def test_unknown_keys_are_told_on_standard_error(tmp_path: Path) -> None:
    done = asked("config", "--config", config_in(tmp_path, StorDir="x"))

    assert done.returncode == 0
    assert "Did you mean StoreDir?" in done.stderr
    assert "StorDir" not in done.stdout


def test_every_error_is_told_and_the_exit_status_is_2(tmp_path: Path) -> None:
    done = asked("config", "--config", config_in(tmp_path, UploadMaxSize="huge", LogLevel="loud"))

    assert done.returncode == 2
    (first, second) = sorted(lines(done.stderr))
    assert "LogLevel = 'loud'" in first
    assert "UploadMaxSize = 'huge'" in second


@pytest.mark.parametrize("spelling", ["--config", "-config"])
def test_both_spellings_of_the_option_name_the_file(spelling: str, tmp_path: Path) -> None:
    config = config_in(tmp_path)

    done = asked("config", spelling, config)

    assert lines(done.stdout)[0] == f"# {config}"


@pytest.mark.parametrize("spelling", ["--config", "-config"])
def test_both_spellings_take_an_equals_sign(spelling: str, tmp_path: Path) -> None:
    config = config_in(tmp_path)

    done = asked("config", f"{spelling}={config}")

    assert lines(done.stdout)[0] == f"# {config}"


@pytest.mark.parametrize("command", ["serve", "check", "config", "secret", "sign", "put"])
def test_every_command_that_reads_a_configuration_knows_both_spellings(command: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    (tmp_path / "a-file").write_bytes(b"")
    more = {"sign": ("--size", "1", "a/b"), "put": ("a-file",)}.get(command, ())

    for spelling in ("--config", "-config"):
        done = asked(command, spelling, missing, *more, cwd=tmp_path)

        assert done.returncode == 2
        (line,) = lines(done.stderr)
        assert f"{missing} does not exist" in line


def test_hmacfs_config_names_the_file_where_no_option_does(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    done = asked("config", cwd=Path("/"), HMACFS_CONFIG=str(config))

    assert lines(done.stdout)[0] == f"# {config}"


def test_the_option_goes_before_hmacfs_config(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    done = asked("config", "--config", config, HMACFS_CONFIG="/missing.toml")

    assert lines(done.stdout)[0] == f"# {config}"


def test_config_toml_of_the_working_directory_is_the_default(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    done = asked("config", cwd=tmp_path)

    assert lines(done.stdout)[0] == f"# {config}"


def test_a_missing_default_says_how_to_name_one(tmp_path: Path) -> None:
    done = asked("config", cwd=tmp_path)

    assert done.returncode == 2
    assert f"{tmp_path}/config.toml does not exist" in done.stderr
    assert "--config PATH" in done.stderr
