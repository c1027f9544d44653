"""A page of Markdown as somebody reads it who types what it says."""

import re

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN_HERE = {"make run", "make test"}
"""`make run` runs already, in the background; `make test` would run the very test that reads."""


def blocks(text: str, kind: str) -> list[str]:
    return [body for info, body in FENCE.findall(text) if info == kind]


def commands(text: str) -> list[str]:
    """Lines to be run, those that end in a backslash joined with the next."""
    joined = "".join(blocks(text, "sh")).replace("\\\n", " ")
    typed = (line.strip() for line in joined.splitlines())
    return [line for line in typed if line and not line.startswith("#") and line not in NOT_RUN_HERE]
