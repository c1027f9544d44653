"""hmacfs uploads lists what is being uploaded in pieces, for people and for programs."""

import json
import os
import time
from pathlib import Path
from typing import Any

from hmacfs import tiers
from hmacfs.settings import Settings
from hmacfs.state.base import SessionRow
from tests.cli.running import Done, asked, config_in, lines
from tests.support.ports import free_port

NOW = int(time.time())
MIB = 1024 * 1024


def session(number: int, **more: Any) -> SessionRow:
    known = {
        "key": f"{number:02x}" * 32,
        "path": f"id/{number}.mkv",
        "total": 10 * MIB,
        "offset": number * MIB,
        "content_type": "video/x-matroska",
        "face": "tus",
        "started_ms": (NOW - 3600 + number) * 1000,
        "expires_at": NOW + 86400 * 2,
    }
    return SessionRow(**(known | more))


def known(folder: Path, *rows: SessionRow) -> Path:
    """A configuration whose shared state has these uploads."""
    config = config_in(folder)
    state = tiers.shared_state(Settings(state_dir=str(folder / "data/state")))
    state.save_sessions(rows)
    state.stop()
    return config


def uploads(config: Path, *arguments: str) -> Done:
    return asked("uploads", "--config", config, *arguments)


def test_an_empty_list_is_one_sentence(tmp_path: Path) -> None:
    done = uploads(config_in(tmp_path))

    assert (done.returncode, done.stdout, done.stderr) == (0, "There are no unfinished uploads.\n", "")


def test_an_empty_list_is_nothing_at_all_for_a_program(tmp_path: Path) -> None:
    done = uploads(config_in(tmp_path), "--json")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_tells_path_share_size_face_age_and_expiry(tmp_path: Path) -> None:
    done = uploads(known(tmp_path, session(4, path="id/a film.mkv")))

    (line,) = lines(done.stdout)
    assert line.startswith("id/a%20film.mkv  40 % of 10.0 MiB  tus  begun ")
    assert " ago  expires in 1d23h" in line or " ago  expires in 2d" in line


def test_the_newest_is_last(tmp_path: Path) -> None:
    ages = {1: 5, 2: 50, 3: 500}
    config = known(tmp_path, *(session(number, started_ms=(NOW - age) * 1000) for number, age in ages.items()))

    done = uploads(config)

    assert [line.split()[0] for line in lines(done.stdout)] == ["id/3.mkv", "id/2.mkv", "id/1.mkv"]


def test_what_has_expired_is_not_listed(tmp_path: Path) -> None:
    done = uploads(known(tmp_path, session(1, expires_at=NOW - 1), session(2)))

    (line,) = lines(done.stdout)
    assert line.startswith("id/2.mkv")


def test_json_is_one_object_for_each_upload(tmp_path: Path) -> None:
    done = uploads(known(tmp_path, session(1), session(2, path="id/Größe\u2028.txt")), "--json")

    first, second = (json.loads(line) for line in lines(done.stdout))
    assert first == {
        "path": "id/1.mkv",
        "received": MIB,
        "total": 10 * MIB,
        "percent": 10,
        "type": "video/x-matroska",
        "face": "tus",
        "started_at": NOW - 3599,
        "expires_at": NOW + 86400 * 2,
        "key": "01010101",
    }
    assert second["path"] == "id/Größe\u2028.txt"


def test_no_key_is_printed_in_full(tmp_path: Path) -> None:
    config = known(tmp_path, session(1))

    shown = uploads(config).stdout + uploads(config, "--json").stdout

    assert "01" * 4 in shown
    assert "01" * 5 not in shown


def test_an_unfinished_upload_never_shows_all_of_it(tmp_path: Path) -> None:
    rows = [session(1, offset=10 * MIB), session(2, offset=10 * MIB - 1), session(3, total=0, offset=0)]

    done = uploads(known(tmp_path, *rows))

    assert [line.split()[1] for line in lines(done.stdout)] == ["99", "99", "0"]


def test_more_than_one_page_is_told(tmp_path: Path) -> None:
    rows = [session(1, key=f"{number:064x}", path=f"id/{number}") for number in range(1001)]

    done = uploads(known(tmp_path, *rows))

    assert len(lines(done.stdout)) == 1000
    assert "only the 1000 that expire first" in done.stderr


def test_a_state_that_cannot_be_read_is_one_sentence_and_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "data/state" / tiers.EMBEDDED_FILE).mkdir(parents=True)

    done = uploads(config_in(tmp_path))

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = lines(done.stderr)
    assert "no tier of shared state can be used" in line


def test_a_tier_that_cannot_be_asked_is_told_beside_what_the_others_know_and_is_exit_status_1(tmp_path: Path) -> None:
    config = known(tmp_path, session(1))
    config_in(tmp_path, RedisAddr=f"127.0.0.1:{free_port()}")

    done = uploads(config)

    assert done.returncode == 1
    assert [line.split()[0] for line in lines(done.stdout)] == ["id/1.mkv"]
    (line,) = lines(done.stderr)
    assert "redis is down (" in line


def test_a_list_that_is_empty_for_want_of_a_tier_does_not_say_that_there_are_none(tmp_path: Path) -> None:
    done = uploads(config_in(tmp_path, RedisAddr=f"127.0.0.1:{free_port()}"))

    assert (done.returncode, done.stdout) == (1, "")


def test_a_configuration_that_cannot_be_used_is_exit_status_2(tmp_path: Path) -> None:
    done = uploads(config_in(tmp_path, UploadMaxSize="huge"))

    assert done.returncode == 2
    assert "UploadMaxSize" in done.stderr
    assert os.listdir(tmp_path) == ["config.toml"]
