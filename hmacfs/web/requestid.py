"""What tells a request from all others, in our log and in that of a proxy in front: X-Request-ID."""

import re
import secrets
from itertools import count

from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.web.requests import Environ

HEADER = "X-Request-ID"

_KEY = "HTTP_X_REQUEST_ID"
_WELL_FORMED = re.compile(r"(?![0-9A-Fa-f]{64})[A-Za-z0-9._-]{8,64}")
"""Sixty-four hexadecimal digits may be a MAC, which no log shows."""


class RequestIds:
    """Where they come from. Make one in each process that serves: its own begin with 48 bits of chance.

    Args:
        trust: who is believed, as with X-Forwarded-For.
    """

    def __init__(self, trust: ProxyTrust) -> None:
        self._trust = trust
        self._prefix = secrets.token_hex(6)
        self._numbers = count(1)

    def of(self, environ: Environ) -> str:
        """The one that a trusted proxy sent, if it is 8 to 64 letters, digits, dots, hyphens and underscores, and
        could be no MAC; else one of our own.

        A counter behind a prefix: a UUID for each request would cost 2 microseconds.
        """
        if _KEY in environ and self._trust.trusts(environ.get("REMOTE_ADDR", "")):
            given: str = environ[_KEY]
            if _WELL_FORMED.fullmatch(given):
                return given
        return f"{self._prefix}-{next(self._numbers):x}"
