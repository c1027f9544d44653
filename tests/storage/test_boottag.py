"""The same number in all processes of one boot, also where only systemd tells of it, and none that is made up."""

from pathlib import Path

import pytest

from hmacfs.storage import boottag


def test_the_tag_of_a_boot_is_never_that_of_no_boot() -> None:
    assert boottag.boot_tag() == boottag.boot_tag()
    assert boottag.boot_tag() & 1
    assert 0 < boottag.boot_tag() < 1 << 64


def test_the_tag_is_the_same_where_only_systemd_tells_the_boots_id(monkeypatch: pytest.MonkeyPatch) -> None:
    told, seen = Path(boottag._BOOT_ID).read_text(encoding="ascii"), boottag.boot_tag()
    monkeypatch.setattr(boottag, "_BOOT_ID", "/proc/self/hidden")
    monkeypatch.setenv("BOOT_ID_FOR_HMACFS", told.strip().replace("-", ""))

    assert boottag.boot_tag() == seen


def test_what_the_kernel_tells_of_the_boot_counts_before_what_anybody_else_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = boottag.boot_tag()
    monkeypatch.setenv("BOOT_ID_FOR_HMACFS", "0" * 32)

    assert boottag.boot_tag() == seen


@pytest.mark.parametrize("given", ["", "%b", "server-1", "f" * 31, "f" * 33, "g" * 32])
def test_there_is_no_tag_where_nobody_tells_the_boots_id(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boottag, "_BOOT_ID", "/proc/self/hidden")
    monkeypatch.setenv("BOOT_ID_FOR_HMACFS", given)

    with pytest.raises(FileNotFoundError, match="BOOT_ID_FOR_HMACFS"):
        boottag.boot_tag()
