"""docs/operations.md: what it tells to type exists, its configuration is one, and its links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hmacfs import configfile
from hmacfs.cli.main import main
from tests.support.sandbox import values
from tests.support.server import ROOT

PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)]+)\)")
NOT_YET = "has no effect in this version"
PROGRAM = "/opt/hmacfs/.venv/bin/hmacfs"


def blocks(kind: str) -> list[str]:
    return [body for name, body in BLOCK.findall(TEXT) if name == kind]


def lines() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def typed() -> Iterator[list[str]]:
    """The arguments of each call of our program, in blocks and within sentences."""
    for line in lines():
        words = shlex.split(re.sub(r"[()<>;]", " ", line))
        if PROGRAM in words:
            yield words[words.index(PROGRAM) + 1 :]
    for words in re.findall(r"`hmacfs ([a-z][^`]*)`", TEXT):
        yield words.split()


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_command_exists_with_the_options_that_are_typed() -> None:
    calls = list(typed())

    assert len(calls) > 8
    for words in calls:
        command: click.Command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, words


def test_whoever_looks_after_the_server_is_told_of_its_status_once_and_as_a_view_that_stays() -> None:
    calls = list(typed())

    assert ["status", "--config", "/etc/hmacfs/config.toml"] in calls
    assert ["status", "--watch", "--config", "/etc/hmacfs/config.toml"] in calls
    assert ["status"] in calls  # at an alert, within a sentence


def test_every_file_that_is_copied_exists() -> None:
    named = {word for line in lines() for word in line.split() if word.startswith("contrib/")}

    assert {Path(name).parent.name for name in named} == {"systemd", "nginx", "logrotate", "prometheus"}
    assert all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize("target", sorted(set(LINK.findall(TEXT))))
def test_every_link_leads_somewhere(target: str) -> None:
    file, _, anchor = target.partition("#")
    path = (PAGE.parent / file).resolve() if file else PAGE

    assert path.exists()
    assert not anchor or anchor in anchors(path)


def test_the_configuration_loads_and_fits_the_files_in_contrib(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")

    loaded = configfile.load(str(tmp_path / "config.toml"), {})

    assert loaded.errors == []
    assert [warning for warning in loaded.warnings if NOT_YET not in warning] == []
    settings = loaded.settings
    service = ROOT / "contrib/systemd/hmacfs.service"
    nginx = (ROOT / "contrib/nginx/hmacfs.conf").read_text(encoding="utf-8")
    assert f"server {settings.listen_port};" in nginx
    assert f"alias {settings.store_dir}/;" in nginx
    assert f"location {settings.direct_downloads.partition(':')[2]} {{" in nginx
    assert f"location /{settings.upload_sub_dir}/ {{" in nginx
    assert f'"{settings.metrics_port}"' in (ROOT / "contrib/prometheus/prometheus.yml").read_text(encoding="utf-8")
    assert values(service, "LoadCredential") == [f"secret:{settings.secret_file}"]
    for unit in (service, ROOT / "contrib/systemd/hmacfs-sweep.service"):
        for path in (settings.store_dir, settings.state_dir):
            assert path.startswith(f"/var/lib/{values(unit, 'StateDirectory')[0]}/")
        for path in (settings.log_file, settings.audit_log):
            assert path.startswith(f"/var/log/{values(unit, 'LogsDirectory')[0]}/")
            assert path.endswith(".log")


def test_the_page_says_how_far_the_dashboard_was_tried() -> None:
    assert "has not been opened in Grafana" in TEXT
