"""Whose bytes an upload takes."""

import pytest

from hmacfs.core import paths, quota


@pytest.mark.parametrize(
    ("path", "named", "by_first_segment", "expected"),
    [
        ("romeo/x1y2/a.png", "", True, "romeo"),
        ("romeo/x1y2/a.png", "", False, ""),
        ("romeo/a.png", "", True, ""),
        ("a.png", "", True, ""),
        ("romeo/x/y/a.png", "", True, ""),
        ("romeo/x1y2/a.png", "juliet@example.org", True, "juliet@example.org"),
        ("x1y2/a.png", "juliet@example.org", False, "juliet@example.org"),
        ("ärger/x/y", "", True, "ärger"),
    ],
)
def test_the_uploader_is_named_by_the_signature_or_by_the_first_of_three_segments(
    path: str, named: str, by_first_segment: bool, expected: str
) -> None:
    slot = paths.parse(path.encode())

    assert quota.uploader_of(slot, named, by_first_segment=by_first_segment) == expected


def test_accounts_and_reservations_are_told_apart_and_show_no_name() -> None:
    slots = [paths.parse(path) for path in (b"romeo/x/a", b"romeo/x/b", b"romeo/x/a 1")]
    accounts = [quota.account_of(name) for name in ("romeo", "Romeo", "")]

    keys = {
        quota.reservation_key(account, slot, total) for account in accounts for slot in slots for total in (0, 1, 11)
    }

    assert len(keys) == 27
    assert all(len(text) == 64 and "romeo" not in text for text in (*accounts, *keys))
