"""What a machine lacks is a skip for a person and a failure for CI."""

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the running test; where CI=true, fail it, so that nothing goes untested unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
