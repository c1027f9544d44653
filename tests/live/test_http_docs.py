"""docs/http.md: its commands print what it says, and its table knows every refusal."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hmacfs.errors import RequestError
from tests.support.server import ROOT, Server
from tests.support.slot import Slot, content

SECTION = re.compile(r"^#{2,3} (.*)$", re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| ([\d, ]+) \| ([a-z, -]+) \|", re.MULTILINE)
MARK = "-- the next command --"
SIZE = 300_000


@dataclass(frozen=True)
class Step:
    """A command, and lines that its output must have, the first of them first; "..." in them stands for anything."""

    command: str
    expected: tuple[str, ...]


def steps(text: str) -> list[Step]:
    """What the console blocks of ``text`` type and show."""
    found = []
    for block in CONSOLE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = re.sub(r"\\\n *", "", part).partition("\n")
            found.append(Step(command, tuple(shown.splitlines())))
    return found


def sections(text: str) -> dict[str, list[Step]]:
    """The steps of each section that has some."""
    titles = [*SECTION.finditer(text)]
    ends = [*(title.start() for title in titles[1:]), len(text)]
    found = {title[1]: steps(text[title.end() : end]) for title, end in zip(titles, ends, strict=True)}
    return {title: inside for title, inside in found.items() if inside}


def page() -> str:
    return (ROOT / "docs" / "http.md").read_text(encoding="utf-8")


def outputs(commands: list[str], folder: Path, environ: dict[str, str]) -> list[list[str]]:
    """Lines that each command prints, all run by one shell; AssertionError when one of them fails."""
    script = f"\necho; echo {MARK}\n".join(commands)
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return [part.splitlines() for part in done.stdout.split(MARK)]


def is_like(line: str, shown: str) -> bool:
    return re.fullmatch(".+".join(map(re.escape, shown.split("..."))), line, re.IGNORECASE) is not None


def shows(lines: list[str], shown: tuple[str, ...]) -> bool:
    """The status line comes first; header lines may stand in any order behind it."""
    first, *rest = shown
    starts = [number for number, line in enumerate(lines) if is_like(line, first)]
    return bool(starts) and all(any(is_like(line, each) for line in lines[starts[0] :]) for each in rest)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("documented")) as running:
        yield running


def test_console_blocks_are_read_as_commands_and_what_they_print() -> None:
    text = "## A\n```console\n$ X=1\n$ cat a \\\n    b\nshown\nmore ...\n```\n### B\n```sh\nls\n```\n"

    assert sections(text) == {"A": [Step("X=1", ()), Step("cat a b", ("shown", "more ..."))]}
    assert is_like("Location: /x", "location: ...")
    assert not is_like("Location: ", "Location: ...")


def test_every_way_of_resuming_has_an_example() -> None:
    assert set(sections(page())) >= {"X-Session-Token", "tus", "Resumable Uploads for HTTP", "Checksums"}


@pytest.mark.parametrize("title", sections(page()))
def test_every_command_prints_what_the_page_shows(documented: Server, tmp_path: Path, title: str) -> None:
    name = re.sub(r"\W", "-", title)
    slot = Slot(documented, f"docs/{name}/photo.jpg", SIZE, "image/jpeg")
    environ = {"SLOT": f"{documented.url}{slot.target}", "HOST": documented.url}
    (tmp_path / "photo.jpg").write_bytes(content(SIZE))
    told = sections(page())[title]

    printed = outputs([step.command for step in told], tmp_path, environ)

    for step, lines in zip(told, printed, strict=True):
        if step.expected:
            assert shows(lines, step.expected), f"{step.command}\n{lines}"
    assert (documented.store_dir / slot.path).read_bytes() == content(SIZE)


def faces_of(kind: type[RequestError]) -> Iterator[tuple[int, str]]:
    yield kind.status, kind.code
    for below in kind.__subclasses__():
        yield from faces_of(below)


def test_the_table_of_refusals_has_every_status_and_code_and_no_other() -> None:
    told = {
        (int(status), code.strip())
        for statuses, codes in ROW.findall(page())
        for status in statuses.split(",")
        for code in codes.split(",")
    }

    assert {each for each in told if each[1] != "bad-head"} == set(faces_of(RequestError))
