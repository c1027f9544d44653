"""Whose bytes an upload takes, and under which names they are counted."""

from hashlib import sha256

from hmacfs.core.paths import SlotPath

_USERS_SEGMENTS = 3
"""ejabberd's paths are user, random, name; Prosody's have no user."""


def uploader_of(path: SlotPath, named: str, *, by_first_segment: bool) -> str:
    """Who uploads to ``path``; empty where nobody can tell.

    Args:
        named: whom the signature names, or empty; that comes first.
        by_first_segment: QuotaByFirstSegment.
    """
    if named or not by_first_segment or len(path.segments) != _USERS_SEGMENTS:
        return named
    return path.segments[0].decode()


def account_of(uploader: str) -> str:
    """What an uploader is counted under: 64 hex digits, so that shared state holds no more names than it must."""
    return sha256(uploader.encode()).hexdigest()


def reservation_key(account: str, path: SlotPath, total: int) -> str:
    """What names the reservation of an upload: 64 hex digits.

    Of all who bring the same file to the same slot at most one publishes it, so they share one reservation.
    """
    return sha256(b"%s\0%s\0%d" % (account.encode(), path.raw, total)).hexdigest()
