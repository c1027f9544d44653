"""What README.md tells people to type works in a fresh clone."""

import re
from pathlib import Path

from tests.install.clone import MakeRun
from tests.install.page import FENCE, NOT_RUN_HERE, blocks, commands
from tests.support.server import ROOT


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_blocks_are_told_apart() -> None:
    text = "```sh\nmake run\n# a comment\nls \\\n  -l\n```\n\n```lua\nx = 1\n```\n```sh\npwd\n```\n"

    assert commands(text) == ["ls    -l", "pwd"]
    assert blocks(text, "lua") == ["x = 1\n"]


def test_the_two_commands_of_this_project_are_in_it() -> None:
    typed = [line for block in blocks(readme(), "sh") for line in block.splitlines()]

    assert set(typed) >= NOT_RUN_HERE


def test_every_block_says_what_it_is() -> None:
    kinds = {info for info, _ in FENCE.findall(readme())}

    assert kinds <= {"sh", "lua"}  # one of another kind needs a test that reads it


def test_every_command_works_in_a_clone_with_a_running_server(clone: Path) -> None:
    with MakeRun(clone) as run:
        for line in commands((clone / "README.md").read_text(encoding="utf-8")):
            run.typed(line)


def test_prosody_is_told_the_names_of_its_options() -> None:
    text = "".join(blocks(readme(), "lua"))

    for name in (
        "http_upload_external_base_url",
        "http_upload_external_secret",
        "http_upload_external_protocol",
    ):
        assert re.search(rf"^{name} = ", text, re.MULTILINE), name


def test_files_that_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)", readme()):
        if "://" not in target:
            assert (ROOT / target).exists(), target
