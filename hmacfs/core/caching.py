"""How long others may keep a download (protocol, section 4, Cache-Control)."""

LONGEST = 31536000
"""A year: more says nothing (RFC 9111 leaves no limit, caches do)."""

FOREVER = f"public, max-age={LONGEST}, immutable"


def cache_control(*, may_change: bool, life: float | None = None, signed: float | None = None) -> str:
    """The value of Cache-Control for a file.

    Args:
        may_change: versioning or DELETE is on, so that a copy must be asked about.
        life: seconds until the file expires, by an age rule or a claim; None for never.
        signed: seconds that the signature of this download still holds, where one is required. It comes first: such a
            copy is for one person, and v3, without which nothing is signed, has DELETE too.
    """
    if life is None and signed is None:
        return "no-cache" if may_change else FOREVER
    seconds = max(0, int(min(LONGEST, *(each for each in (life, signed) if each is not None))))
    if signed is not None:
        return f"private, max-age={seconds}"
    return "no-cache" if may_change else f"public, max-age={seconds}, immutable"
