"""From settings to the secrets in effect: every source, and what a server starts with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hmacfs import configfile, secretring
from hmacfs.core.rotation import Kind, Secrets
from hmacfs.errors import ConfigError
from hmacfs.settings import Settings
from tests.support.server import toml

FIRST, SECOND = "the first secret of all", "the second secret of all"
DAY = 86400


def settings(folder: Path, **given: object) -> Settings:
    return replace(Settings(), state_dir=str(folder / "state"), **given)  # type: ignore[arg-type]


def file_with(folder: Path, text: str) -> str:
    (folder / "secret.txt").write_text(text, encoding="utf-8")
    return str(folder / "secret.txt")


def test_the_configured_secrets_are_read(tmp_path: Path) -> None:
    given = settings(tmp_path, secret=FIRST, jwt_secret="jwt", delete_secret="del", previous_secrets=("old",))

    assert secretring.read(given) == Secrets(FIRST, "jwt", "del", ("old",))


def test_secret_file_is_the_secret(tmp_path: Path) -> None:
    assert secretring.read(settings(tmp_path, secret_file=file_with(tmp_path, f"{FIRST}\n"))).secret == FIRST


def test_secret_command_is_the_secret(tmp_path: Path) -> None:
    assert secretring.read(settings(tmp_path, secret_command=("echo", FIRST))).secret == FIRST


def test_without_a_source_one_is_made_and_kept(tmp_path: Path) -> None:
    first = secretring.read(settings(tmp_path)).secret

    assert len(first) == 64
    assert secretring.read(settings(tmp_path)).secret == first


@pytest.mark.parametrize("weak", ["short", "your-hmac-secret"])
def test_a_weak_secret_is_refused_wherever_it_comes_from_unless_it_is_allowed(weak: str, tmp_path: Path) -> None:
    path = file_with(tmp_path, weak)

    for given in ({"secret_file": path}, {"secret_command": ("echo", weak)}):
        with pytest.raises(ConfigError) as refused:
            secretring.read(settings(tmp_path, **given))
        assert "AllowWeakSecret" in str(refused.value)
        assert f"{weak}." not in str(refused.value)
        assert secretring.read(settings(tmp_path, allow_weak_secret=True, **given)).secret == weak


def test_a_server_that_is_started_again_knows_what_was_replaced(tmp_path: Path) -> None:
    warned: list[str] = []
    secretring.committed(settings(tmp_path, secret=FIRST), warned.append, 1000)

    ring = secretring.committed(settings(tmp_path, secret=SECOND), warned.append, 2000)
    again = secretring.committed(settings(tmp_path, secret=SECOND), warned.append, 3000)

    assert ring.values(Kind.SECRET, 2000) == (SECOND, FIRST)
    assert again.values(Kind.SECRET, 3000) == (SECOND, FIRST)
    assert again.values(Kind.SECRET, 2000 + DAY) == (SECOND,)
    assert warned == []


def test_secret_grace_of_nothing_ends_the_old_secret_at_once(tmp_path: Path) -> None:
    secretring.committed(settings(tmp_path, secret=FIRST), print, 1000)

    ring = secretring.committed(settings(tmp_path, secret=SECOND, secret_grace=0), print, 1000)

    assert ring.values(Kind.SECRET, 1000) == (SECOND,)


def test_a_state_dir_that_cannot_be_written_is_told_and_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    warned: list[str] = []

    ring = secretring.committed(settings(tmp_path, secret=FIRST), warned.append, 1000)

    assert ring.values(Kind.SECRET, 1000) == (FIRST,)
    assert len(warned) == 1
    assert "StateDir" in warned[0]
    assert FIRST not in warned[0]


def running(folder: Path, **given: object) -> tuple[Path, Settings]:
    """A configuration file, and the settings of a server that was started with it."""
    config = folder / "config.toml"
    config.write_text(toml({"StateDir": "state", **given}))
    return config, configfile.usable(configfile.load(str(config)))


def test_the_configuration_is_read_again(tmp_path: Path) -> None:
    config, settings = running(tmp_path, Secret=FIRST)
    first = secretring.reread(settings, str(config))
    config.write_text(toml({"StateDir": "state", "SecretFile": "secret.txt", "JWTSecret": "a key of tokens for tests"}))
    file_with(tmp_path, SECOND)

    assert (first, secretring.reread(settings, str(config))) == (
        Secrets(FIRST),
        Secrets(SECOND, "a key of tokens for tests"),
    )


def test_a_configuration_that_broke_is_refused_without_its_values(tmp_path: Path) -> None:
    config, settings = running(tmp_path, Secret=FIRST)
    config.write_text(toml({"Secret": "short"}))

    with pytest.raises(ConfigError) as refused:
        secretring.reread(settings, str(config))

    assert "Secret" in str(refused.value)
    assert "short" not in str(refused.value).replace("shorter", "")


@pytest.mark.parametrize(
    "text",
    ["", 'StateDir = "elsewhere"\n', f'Secret = "{SECOND}"\n', 'StateDir = "state"\n'],
    ids=["empty", "another StateDir and no secret", "another StateDir", "no secret any more"],
)
def test_a_configuration_that_has_lost_something_is_no_new_secret_and_makes_none(text: str, tmp_path: Path) -> None:
    config, settings = running(tmp_path, Secret=FIRST, StateDir="data/the state")
    settings = replace(settings, state_dir=str(tmp_path / "state"))
    config.write_text(text)
    before = sorted(tmp_path.iterdir())

    with pytest.raises(ConfigError):
        secretring.reread(settings, str(config))

    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_configuration_is_refused_even_where_its_state_dir_is_ours(tmp_path: Path) -> None:
    config, settings = running(tmp_path, StateDir="data/state", JWTSecret="a key of tokens for tests")
    secretring.committed(settings, print, 1000)
    config.write_text("")

    with pytest.raises(ConfigError) as refused:
        secretring.reread(settings, str(config))

    assert "says nothing" in str(refused.value)


def test_an_empty_configuration_that_always_was_empty_is_read_again(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    settings = configfile.usable(configfile.load(str(config)))
    made = secretring.committed(settings, print, 1000).current

    assert secretring.reread(settings, str(config)) == made


def test_a_made_secret_that_is_lost_is_not_made_again_by_a_running_server(tmp_path: Path) -> None:
    config, settings = running(tmp_path)
    ring = secretring.committed(settings, print, 1000)
    (tmp_path / "state" / "secret").unlink()

    for ask in (
        lambda: secretring.reread(settings, str(config)),
        lambda: secretring.read(settings),
        lambda: secretring.committed(settings, print, 2000, known=ring),
    ):
        with pytest.raises(ConfigError) as refused:
            ask()
        assert "secret is missing" in str(refused.value)

    assert not (tmp_path / "state" / "secret").exists()


def test_a_server_that_starts_without_the_secret_it_made_has_the_last_one_and_says_so(tmp_path: Path) -> None:
    _, settings = running(tmp_path)
    made = secretring.committed(settings, print, 1000).current
    (tmp_path / "state" / "secret").unlink()
    warned: list[str] = []

    again = secretring.committed(settings, warned.append, 2000).current

    assert again == made
    ((sentence),) = warned
    assert "stays" in sentence
    assert made.secret not in sentence


def test_a_reload_whose_keyring_is_damaged_keeps_what_was_replaced_from_memory(tmp_path: Path) -> None:
    ring = secretring.committed(settings(tmp_path, secret=FIRST), print, 1000)
    (tmp_path / "state" / "keyring").write_bytes(b"{")
    warned: list[str] = []

    ring = secretring.committed(settings(tmp_path, secret=SECOND), warned.append, 2000, known=ring)

    assert ring.values(Kind.SECRET, 2000) == (SECOND, FIRST)
    assert warned == ["StateDir/keyring is missing or damaged: what was replaced is taken from memory"]


def test_what_a_reload_replaces_is_told_as_asking_again_tells_it(tmp_path: Path) -> None:
    ring = secretring.committed(settings(tmp_path, secret=FIRST, jwt_secret="jwt"), print, 1000)
    told: list[str] = []

    changed = settings(tmp_path, secret=SECOND, jwt_secret="jwt")
    ring = secretring.committed(changed, print, 2000, known=ring, tell=told.append)
    secretring.committed(settings(tmp_path, secret=SECOND), print, 3000, known=ring, tell=told.append)
    secretring.committed(settings(tmp_path, secret=SECOND), print, 3000, known=ring, tell=told.append)

    assert told == [
        "The secret was replaced; the old one verifies for 86400 s more",
        "JWTSecret was removed; the old one verifies for 86400 s more",
    ]


def test_what_is_kept_is_json_for_people_who_look_for_trouble(tmp_path: Path) -> None:
    secretring.committed(settings(tmp_path, secret=FIRST), print, 1000)

    kept = json.loads((tmp_path / "state" / "keyring").read_text())

    assert kept["asked_at"] == 1000
