"""Debian's Chromium, or the reason why there is none."""

import shutil

from tests.support.skipping import skip_or_fail


def chromium_program() -> str:
    """The path of Chromium; skips the test where it is missing."""
    program = shutil.which("chromium")
    if program is None:
        skip_or_fail("chromium is not installed")
    return program
