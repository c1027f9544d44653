"""The same as tests/storage/test_versions_killed.py, for every way a file can be published, at every system call."""

from pathlib import Path

import pytest

from hmacfs.storage.staging import StagingArea
from tests.storage.test_versions_killed import check_each


@pytest.mark.parametrize("durability", ["full", "none"])
@pytest.mark.parametrize("attributes", [True, False], ids=["attributes", "sidecars"])
@pytest.mark.parametrize("in_blocks", [False, True], ids=["at once", "in blocks"])
@pytest.mark.parametrize("anonymous", [True, False], ids=["anonymous", "named"])
def test_a_put_killed_at_any_system_call_leaves_everything_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str, attributes: bool, in_blocks: bool, anonymous: bool
) -> None:
    if not anonymous:
        monkeypatch.setattr(StagingArea, "_can_link_anonymous", lambda self: False)

    check_each(tmp_path, in_blocks=in_blocks, durability=durability, use_attributes=attributes)
