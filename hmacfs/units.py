"""Durations, sizes, modes and addresses as people write them in a config file, to numbers and back.

Powers are of 1024 throughout (10GB is 10 * 1024**3), as the configuration page says. Every parser raises ValueError
with a sentence that tells what is allowed.
"""

import ipaddress
import re
from dataclasses import dataclass
from fractions import Fraction

_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_DURATION = re.compile(r"(\d{1,12})([smhdwy])", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])i?)?b?(?:/s|ps)?", re.IGNORECASE)
_SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

DURATION_FORM = 'seconds, or a text like "90", "30s", "1h30m", "30d" or "2w"'
SIZE_FORM = 'bytes, or a text like "64KiB", "1.5G" or "10GB" (powers of 1024)'
ADDRESS_FORM = '":8080", "8080", "host:8080", "[::1]:8080" or "unix:/path"'


def parse_duration(text: str) -> int:
    """Seconds meant by ``text``: a plain number, or numbers with s, m, h, d, w after each."""
    compact = text.strip().replace(" ", "")
    if compact.isascii() and compact.isdigit() and len(compact) <= 12:
        return int(compact)
    matches = list(_DURATION.finditer(compact))
    if not matches or "".join(match.group(0) for match in matches) != compact:
        raise ValueError(DURATION_FORM)
    return sum(int(match.group(1)) * _DURATION_UNITS[match.group(2).lower()] for match in matches)


def parse_size(text: str) -> int:
    """Bytes meant by ``text``; fractions are rounded down to whole bytes."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(SIZE_FORM)
    return int(Fraction(match.group(1)) * 1024 ** _SIZE_POWERS[(match.group(2) or "").lower()])


def parse_mode(text: str) -> int:
    """Permission bits from an octal text such as "0640"."""
    if not re.fullmatch(r"0?[0-7]{3}", text.strip()):
        raise ValueError('an octal text like "0640"')
    return int(text.strip(), 8)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a TCP host and port, or a Unix socket path. ``host`` "" means all interfaces."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """An address in one of the forms of ``ADDRESS_FORM``."""
    text = text.strip()
    if not text.isprintable():
        raise ValueError(ADDRESS_FORM)
    path = text.removeprefix("unix:")
    if path != text or ("/" in text and "://" not in text):
        if not path:
            raise ValueError(ADDRESS_FORM)
        return Address(path=path)
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(ADDRESS_FORM)
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host or "/" in host or "[" in host:
        raise ValueError(ADDRESS_FORM)
    return Address(host="" if host == "*" else host, port=int(port))


def shown_size(count: int) -> str:
    """Bytes for people, with one decimal: "0 B", "1023 B", "1.5 MiB"."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 999.95:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


def shown_duration(seconds: int) -> str:
    """A duration for people, in its two largest units: "0s", "59s", "1h30m", "2d3h"."""
    left = max(0, seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if parts or count or unit == "s":
            parts.append(f"{count}{unit}")
    return "".join(part for part in parts[:2] if part[0] != "0" or len(parts) == 1)
